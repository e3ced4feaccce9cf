"""Comparability of two runs, document by document: obstacles, and differences that are no obstacle."""

from collections.abc import Iterable

from lmms_awares.report.gate.baseline import Baseline, TaskSamples

_LIMITS = ("min_pixels", "max_pixels", "lowres_base")
_MACHINE = ("dtype", "attention", "device", "engine")
_NOTED = ("family", *_MACHINE, "lmms_awares", "code", "lmms_eval", "transformers", "torch")
_NAMED = 5  # documents that a message lists


def obstacles(before: TaskSamples, after: TaskSamples) -> list[str]:
    """List why a task's samples do not compare, in a few words per reason; empty where they do."""
    sides = ("the baseline", "the candidate")
    prompt = difference("system prompt", before.prompts, after.prompts, sides)
    return [*prompt, *unlike(before, after, sides)]


def unlike(before: TaskSamples, after: TaskSamples, sides: tuple[str, str]) -> list[str]:
    """List why a task's samples are not alike, whatever the prompts; `sides`: names of the two in the text."""
    reasons = [
        reason
        for name, old, new in (
            ("metric", before.metric, after.metric),
            (f"limits ({', '.join(_LIMITS)})", _limits(before), _limits(after)),
            ("generation settings", before.generation, after.generation),
        )
        for reason in difference(name, old, new, sides)
    ]
    for documents, where in (
        (set(before.doc_ids) - set(after.doc_ids), f"in {sides[0]} only"),
        (set(after.doc_ids) - set(before.doc_ids), f"in {sides[1]} only"),
        (_failed(after) - _failed(before), f"failed in {sides[1]} only"),
        (_failed(before) - _failed(after), f"failed in {sides[0]} only"),
    ):
        if documents:
            reasons.append(f"missing samples: {_some(documents)} {where}")
    if changed := _changed(before, after):
        reasons.append(f"different data: {_some(changed)} with another question, target or image")
    return reasons


def difference(name: str, old: object, new: object, sides: tuple[str, str]) -> list[str]:
    """Say that a setting differs; nothing where it does not."""
    return [] if old == new else [f"another {name}: {_text(old)} in {sides[0]}, {_text(new)} in {sides[1]}"]


def notes(before: Baseline, after: Baseline) -> list[str]:
    """List the differences between two runs that do not keep them from being compared."""
    extra = after.tasks.keys() - before.tasks.keys()
    lines = [f"{task} is not in the baseline and was not compared" for task in sorted(extra)]
    if before.name != after.name:
        lines.append(f"methods differ: {before.name} in the baseline, {after.name} in the candidate")
    for name in _NOTED:
        old, new = (_condition(run, name) for run in (before, after))
        if old and new and old != new:
            lines.append(f"{name} differs: {_text(old)} in the baseline, {_text(new)} in the candidate")
    return lines


def same_machine(before: Baseline, after: Baseline) -> bool:
    """Return True where latency compares: device name, engine, dtype, attention and batch size are all the same.

    A result folder holds nothing else about the machine than the name of its device.
    """
    conditions = [[_condition(run, name) for name in _MACHINE] for run in (before, after)]
    single = all(len(values) == 1 for values in conditions[0])
    return single and conditions[0] == conditions[1] and before.batch_size == after.batch_size


def _condition(run: Baseline, name: str) -> list[str]:
    values = {c.model_dump()[name] for task in run.tasks.values() for c in task.conditions}
    return sorted("not recorded" if value is None else str(value) for value in values)


def _limits(samples: TaskSamples) -> list[str]:
    return sorted({" ".join(str(c.model_dump()[name]) for name in _LIMITS) for c in samples.conditions})


def _failed(samples: TaskSamples) -> set[int]:
    return {doc_id for doc_id, score in zip(samples.doc_ids, samples.scores, strict=True) if score is None}


def _changed(before: TaskSamples, after: TaskSamples) -> set[int]:
    """Return the documents of both runs that are not the same.

    An image that one side does not know is no difference.
    """
    old, new = _contents(before), _contents(after)
    return {
        doc_id
        for doc_id in old.keys() & new.keys()
        if any(
            left != right and None not in (left, right) for left, right in zip(old[doc_id], new[doc_id], strict=True)
        )
    }


def _contents(samples: TaskSamples) -> dict[int, tuple[object, ...]]:
    """Return digest of question and target, and size and digest of the image, by document."""
    images = samples.image_digests or [None] * len(samples.doc_ids)
    contents = zip(samples.digests, samples.image_sizes, images, strict=True)
    return dict(zip(samples.doc_ids, contents, strict=True))


def _some(documents: Iterable[int]) -> str:
    ordered = sorted(documents)
    names = ", ".join(map(str, ordered[:_NAMED])) + (", …" if len(ordered) > _NAMED else "")
    return f"{len(ordered)} (document {names})"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
