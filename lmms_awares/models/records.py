"""Turning a sample and its outcome into the entry that is journaled, cached and scored."""

from collections.abc import Sequence
from importlib.metadata import version
from statistics import fmean
from typing import TYPE_CHECKING, Any

from PIL import Image

from lmms_awares import __version__
from lmms_awares.images import digest as image_digest
from lmms_awares.journal import Entry, digest
from lmms_awares.models.sample import Address, Outcome, Sample
from lmms_awares.tokens import VisualTokens
from lmms_awares.trace import KeptTrace, PruningTrace, Trace, reason_of

if TYPE_CHECKING:
    from lmms_awares.pruning import Pruner


def versions(code: str) -> dict[str, Any]:
    """What answers depend on besides checkpoint and settings: `code`, the hash of our sources, and our libraries."""
    libraries = {name: version(name.replace("_", "-")) for name in ("lmms_eval", "transformers", "torch")}
    return {"lmms_awares": __version__, "code": code[:12], **libraries}


def pruning_trace(pruner: "Pruner | None", visual: VisualTokens) -> PruningTrace | None:
    """What the trace records about a sample that was answered with `pruner`."""
    if pruner is None:
        return None
    return PruningTrace(
        pruner=pruner.name,
        retain_ratio=pruner.retain_ratio,
        encoded_tokens=visual.encoded,
        entering_tokens=visual.entering[0],
        mean_post=fmean(visual.leaving),
        mean_input=fmean(visual.entering),
        final_tokens=visual.leaving[-1],
        kv_lengths=list(visual.cached),
        grids=list(visual.grids),
        kept=[KeptTrace(layer=left.layer, bits=left.bits) for left in visual.left],
    )


def finished(key: str, sample: Sample, outcome: Outcome, identity: dict[str, Any], batch_size: int) -> Entry:
    """The entry of an answered sample. `identity`: the trace's fields that a whole run shares."""
    full = sum(plan.full_tokens for plan in sample.plans)
    trace = Trace(
        **identity,
        image_size=sample.images[0].size,
        images=len(sample.images),
        image_digest=_digest(sample.images),
        full_tokens=full,
        lowres_tokens=sum(plan.lowres_tokens for plan in sample.plans),
        crops=outcome.crops,
        lender=sample.lent.doc_id if sample.lent and outcome.crops else None,
        visual_tokens=outcome.visual_tokens,
        visual_tokens_processed=outcome.visual_tokens_processed,
        pruning=outcome.pruning,
        rtr=outcome.visual_tokens / full,
        tool_call=outcome.tool_call,
        turns=outcome.turns,
        preprocess_s=sample.preprocess_s,
        latency_s=outcome.latency_s,
        response_chars=sum(len(turn.text) for turn in outcome.turns),
        truncated=outcome.truncated,
        batch_size=batch_size,
        flops=None if outcome.cost is None else outcome.cost.flops,
        kv_bytes=None if outcome.cost is None else outcome.cost.kv_bytes,
    )
    return Entry(
        key=key,
        task=sample.at.task,
        split=sample.at.split,
        doc_id=sample.at.doc_id,
        answer=outcome.answer,
        input_tokens=outcome.input_tokens,
        output_tokens=sum(turn.new_tokens for turn in outcome.turns),
        trace=trace,
    )


def reused(entry: Entry) -> Entry:
    """An entry of the journal, marked as such in its trace."""
    return entry.model_copy(update={"trace": entry.trace.model_copy(update={"reused": True})})


def failed(at: Address, error: Exception, images: Sequence[Image.Image], identity: dict[str, Any]) -> Entry:
    """The entry of a sample that could not be answered, with the reason in one line."""
    reason = reason_of(error)
    size = images[0].size if images else None
    return Entry(
        key=digest("failed", identity["model"], at.task, at.split, at.doc_id),
        task=at.task,
        split=at.split,
        doc_id=at.doc_id,
        answer="",
        input_tokens=0,
        output_tokens=0,
        trace=Trace(**identity, image_size=size, images=len(images), image_digest=_digest(images), failed=reason),
    )


def _digest(images: Sequence[Image.Image]) -> str | None:
    """One digest for all images of a sample; None without any."""
    digests = [image_digest(image) for image in images]
    return digest(*digests)[:16] if len(digests) > 1 else next(iter(digests), None)
