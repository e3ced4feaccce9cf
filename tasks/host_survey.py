"""Which tasks of the installed lmms-eval `awares:NAME` can wrap, and why the others cannot; nothing of them is run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from lmms_awares.errors import ConfigError
from lmms_awares.tasks.host_index import HOST_PREFIX, Function, installed, tasks_of
from lmms_awares.tasks.host_source import Reach, given_to_all, names_hundred, needed, reach, visuals

_FUNCTIONS = ("process_docs", "doc_to_visual", "doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_messages")
# Words in the code that fetches a document's media.
_IMAGE = re.compile(r"^convert$|^Image$|image|\.jpg|\.png|img", re.MULTILINE)
_VIDEO = re.compile(r"video|\.mp4|decord|VideoReader")
_AUDIO = re.compile(r"audio|\.wav|soundfile")
_WRITES = re.compile(r"^(open|write|dump|write_text|makedirs|mkdir|to_csv|to_excel|to_json)$|submission", re.MULTILINE)
# Packages by which a scorer asks a service, or needs weights or data that its task does not bring.
_JUDGES = (
    *("openai", "azure", "anthropic", "reka", "google", "dashscope", "sglang", "requests", "httpx", "urllib.request"),
    *("lmms_eval.llm_judge", "lmms_eval.azure_openai_compat"),
    *("lmms_eval.verifiers.openai", "lmms_eval.verifiers.gemini"),
)
_WEIGHTS = ("transformers", "torch", "sentence_transformers", "spacy", "evaluate", "huggingface_hub")
# Packages that one document's value can be aggregated with: quick, and they change nothing.
_PLAIN = {
    *("ast", "collections", "copy", "itertools", "json", "loguru", "math", "numpy", "pandas", "re", "statistics"),
    *("string", "typing", "lmms_eval.utils.eval_logger"),
}
# Judges that are asked only about answers that no rule reads: the object in the scorer's module that asks, its method,
# and the environment's key for it.
FALLBACK_JUDGES: dict[str, tuple[str, str, str]] = dict.fromkeys(
    ("hrbench4k", "hrbench8k"), ("hrbench_evaluator", "_post_request", "OPENAI_API_KEY")
)
# Highest values of scores whose source names 100, as read there.
SCALES: dict[str, float] = dict.fromkeys(
    (
        *("mathvision_testmini", "mathvision_test", "mdpbench", "omnidocbench"),
        *("visualwebbench_web_caption", "visualwebbench_element_ocr", "visualwebbench_heading_ocr"),
        *("visualwebbench_element_ground", "visualwebbench_action_prediction", "visualwebbench_action_ground"),
        "visualwebbench_webqa",
    ),
    100,
)


@dataclass(frozen=True)
class Wrapped:
    """What is known of a task that can be wrapped.

    Attributes:
        name: lmms-eval's.
        split: the one that is scored.
        one_image: every document has exactly one image; otherwise it depends on the document.
        headline: the metric whose value per document becomes `score`.
        scale: its highest value per document; None where that is not known, and documents get no `score`.
        alone: a value that is no number becomes one by aggregating the document alone.
        alone_scale: highest value of that; None where it is not known or not done.
        lower: lower values of the headline are better, so that documents get no `score`.
    """

    name: str
    split: str
    one_image: bool
    headline: str
    scale: float | None
    alone: bool
    alone_scale: float | None
    lower: bool

    @property
    def scored(self) -> str:
        """The headline with its scale, in words; where the scale depends on the documents' values, both cases."""
        if self.lower:
            return f"{self.headline} (lower is better)"
        scales = [self.scale, *([self.alone_scale] if self.alone else [])]
        known = sorted({f"0..{scale:g}" for scale in scales if scale is not None})
        return f"{self.headline} {' or '.join(known) or '(scale not known)'}"


def survey(name: str) -> Wrapped | str:
    """Return what is known of a task, or in a few words why it cannot be wrapped.

    Args:
        name: of a task of the installed lmms-eval.

    Example:
        >>> survey("infovqa_val").headline, survey("mvbench_action_count")
        ('anls', 'video')
    """
    settings = installed().settings[name]
    try:
        return next(_obstacles(name, settings), None) or described(name)
    except (SyntaxError, UnicodeDecodeError) as error:
        return f"its config does not load: {error}"


def wrapped(name: str) -> list[Wrapped]:
    """Return the tasks that `awares:NAME` stands for: a task, or those of a group or tag.

    Raises:
        ConfigError: lmms-eval has no such task, or one of them cannot be wrapped; names it and the reason.
    """
    found = {task: survey(task) for task in tasks_of(name)}
    refused = [f"{task} ({reason})" for task, reason in found.items() if isinstance(reason, str)]
    if refused:
        what = f"{HOST_PREFIX}{name} cannot be wrapped"
        if list(found) == [name]:
            raise ConfigError(f"{what}: {found[name]}; awares tasks list --host lists what can be")
        shown = ", ".join(refused[:3]) + (f" and {len(refused) - 3} more" if len(refused) > 3 else "")
        raise ConfigError(f"{what}: it holds {shown}; name the others one by one")
    return [facts for facts in found.values() if isinstance(facts, Wrapped)]


def _obstacles(name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a task cannot be wrapped, the plainest reason first."""
    if "unreadable" in settings:
        yield f"its config does not load: {settings['unreadable']}"
    if "class" in settings:
        yield "it is a Python class of its own"
    kind = settings.get("output_type", "generate_until")
    if kind in ("multiple_choice", "loglikelihood"):
        yield f"log-likelihoods ({kind})"
    elif kind != "generate_until":
        yield f"rounds of its own ({kind})"
    yield from _media(settings)
    if not settings.get("test_split") and not settings.get("validation_split"):
        yield "it has no split to score"
    if not settings.get("metric_list"):
        yield "it has no metric"
    if (settings.get("repeats") or 1) > 1:
        yield f"several answers per document (repeats: {settings['repeats']})"
    if len(settings.get("filter_list") or []) > 1:
        yield "several filters, each with scores of its own"
    yield from _not_loading(settings)
    if name not in FALLBACK_JUDGES:
        yield from _judges(settings)


def _media(settings: Mapping[str, Any]) -> Iterator[str]:
    shown = settings.get("doc_to_visual")
    if shown is None and settings.get("doc_to_messages") is None:
        yield "no images"
    if isinstance(shown, Function):
        counts, words = visuals(shown), reach(shown).words
        if _VIDEO.search(words):
            yield "video"
        if _AUDIO.search(words):
            yield "audio"
        if counts <= {"none"} or not _IMAGE.search(words):
            yield "no images"
        if counts <= {"several", "none"}:
            yield "several images per document"
    elif shown is None:
        yield "only its messages say what it shows"


def _not_loading(settings: Mapping[str, Any]) -> Iterator[str]:
    functions = [*(settings[key] for key in _FUNCTIONS if isinstance(settings.get(key), Function)), *_scorers(settings)]
    for function in functions:
        file = function.module
        if file is None:
            yield f"its config does not load: there is no {function.name}"
        elif lacking := sorted(package for package in needed(file) if not _is_there(package)):
            yield f"its config does not load: it needs the package {', '.join(lacking)}"


@cache
def _is_there(package: str) -> bool:
    return find_spec(package) is not None


def _judges(settings: Mapping[str, Any]) -> Iterator[str]:
    packages = sorted(reach(*_scorers(settings)).packages)
    if judges := [one for one in packages if one.startswith(_JUDGES)]:
        yield f"an external judge (its scorer uses {judges[0]})"
    if weights := [one for one in packages if one.split(".")[0] in _WEIGHTS]:
        yield f"a judge of its own (its scorer loads from {weights[0]})"


def _scorers(settings: Mapping[str, Any]) -> list[Function]:
    found = [settings.get("process_results"), *(metric.get("aggregation") for metric in settings["metric_list"] or [])]
    return [one for one in found if isinstance(one, Function)]


def described(name: str, headline: str | None = None) -> Wrapped:
    """Return what is known of a task that can be wrapped.

    Args:
        name: of a task of the installed lmms-eval.
        headline: one of its metrics; None for the first that every document gets, else the first.
    """
    settings = installed().settings[name]
    shown, scorer = settings.get("doc_to_visual"), settings.get("process_results")
    named = [str(metric["metric"]) for metric in settings["metric_list"]]
    to_all = given_to_all(scorer) if isinstance(scorer, Function) else frozenset()
    headline = headline or next((metric for metric in named if metric in to_all), named[0])
    metric = settings["metric_list"][named.index(headline)]
    aggregation = metric.get("aggregation")
    alone = isinstance(aggregation, Function) and _is_plain(reach(aggregation), judged=name in FALLBACK_JUDGES)
    scores = reach(scorer) if isinstance(scorer, Function) else Reach()
    means = reach(aggregation) if isinstance(aggregation, Function) and alone else Reach()
    return Wrapped(
        name=name,
        split=settings.get("test_split") or settings["validation_split"],
        one_image=not isinstance(shown, Function) or visuals(shown) == {"one"},
        headline=headline,
        scale=SCALES.get(name, None if names_hundred(scores) else 1),
        alone=alone,
        alone_scale=SCALES.get(name, None if names_hundred(scores) or names_hundred(means) else 1) if alone else None,
        lower=metric.get("higher_is_better") is False,
    )


def _is_plain(found: Reach, *, judged: bool) -> bool:
    """Return True where an aggregation neither writes nor asks anything."""
    return not _WRITES.search(found.words) and (judged or found.packages <= _PLAIN)
