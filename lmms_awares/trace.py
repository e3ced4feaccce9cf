"""The per-sample trace: one versioned schema. `lmms_awares.envelope` carries it through lmms-eval."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from lmms_awares.errors import UserError
from lmms_awares.protocol.base import Status

SCHEMA_VERSION = 5
# Version 1 had no `code`, `image_digest` and `reused`; version 2 no `method`, `nominal`, `view`, `family` and `engine`;
# version 3 no parts of a turn's time, `cached_tokens`, `flops` and `kv_bytes`; version 4 no boxes and notes of calls,
# `crop_content` and `lender`, and no `kept` tokens.
READABLE = (1, 2, 3, 4, 5)
NAMED_SINCE = 3  # the version from which a trace says its method
EXECUTABLE: tuple[Status, ...] = ("valid", "recovered")  # status of a call that could be executed
FirstView = Literal["full", "lowres"]  # what the first turn shows of an image
CropContent = Literal["true", "blank", "shuffled", "other"]  # what a second turn shows in the place of crops
REASON_CHARS = 200  # an error may quote a whole answer or a whole file


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CropTrace(_Strict):
    """One crop image that entered the conversation. `tokens`: visual tokens of the crop's view, before any pruning.

    Where `id` is `box`, `box` has left, top, right and bottom in px of the original image; elsewhere it is left out.
    """

    id: str
    tokens: int
    box: tuple[float, float, float, float] | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class ToolCallTrace(_Strict):
    """The call that the first turn made.

    Attributes:
        ids: of the crops asked for, or `box`; empty where nothing in the call is usable.
        forced: a control policy made the call in the model's place.
        note: why the call could not be executed, in one line, or what was done to its box; None for neither.
    """

    status: Status
    ids: list[str]
    text: str
    forced: bool = False
    note: str | None = None


class TurnTrace(_Strict):
    """One assistant turn. Times are of the batch that the sample was in: wall clock in seconds, device synchronised.

    Attributes:
        text: the assistant's reply.
        new_tokens: generated tokens.
        seconds: encoding, prefill and decoding together.
        preprocess_s: rendering and patching what this turn shows; None for a first turn, whose own is the trace's.
        vision_s: the vision tower, and a pruner between tower and language model; None where an engine does not tell
            this part apart.
        prefill_s: the language model up to the first token, on a server from the request to the first token; None
            where unknown.
        decode_s: from the first token to the last; None where unknown.
        prompt_tokens: text and visual tokens of the conversation in front of this turn, before any pruning; None in
            older files.
        cached_tokens: those of `prompt_tokens` that a KV cache held already; None where a server does not say.
    """

    text: str
    new_tokens: int
    seconds: float
    preprocess_s: float | None = None
    vision_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


class KeptTrace(_Strict):
    """The visual tokens that one place of a pruner left; see `lmms_awares.tokens.Left`."""

    layer: int | None
    bits: str


class PruningTrace(_Strict):
    """What a pruner did to one sample, over all its turns. Counts are visual tokens unless said otherwise.

    Attributes:
        pruner: name of the method.
        retain_ratio: the nominal ratio asked for, in (0, 1].
        encoded_tokens: visual tokens that the vision tower produced from the views.
        entering_tokens: visual tokens that entered the language model.
        mean_post: mean over layers of the count at the layer's output.
        mean_input: mean over layers of the count at the layer's input, which the layer computes and caches.
        final_tokens: count at the last layer's output.
        kv_lengths: per layer, columns of the KV cache after the last prefill; text included, padding not.
        grids: (columns, rows) of the encoded tokens of each view: the first turn's images, then the crops. Empty in
            older files.
        kept: what each place that drops tokens left, in the order of the layers. Empty in older files.
    """

    pruner: str
    retain_ratio: float
    encoded_tokens: int
    entering_tokens: int
    mean_post: float
    mean_input: float
    final_tokens: int
    kv_lengths: list[int]
    grids: list[tuple[int, int]] = Field(default_factory=list)
    kept: list[KeptTrace] = Field(default_factory=list)


class Conditions(_Strict):
    """What a run's numbers depend on besides the method; runs with different conditions do not compare.

    Attributes:
        revision: first 12 hex digits of the content hash of checkpoint and adapter.
        code: first 12 hex digits of the hash of the sources that answers depend on; None in older files.
        family: the checkpoint's `model_type`; Qwen2.5-VL's in older files, which do not hold one.
        engine: what ran the checkpoint; `local`, this process, also in older files, which do not hold one.
    """

    revision: str
    family: str = "qwen2_5_vl"
    engine: str = "local"
    dtype: str
    attention: str
    min_pixels: int
    max_pixels: int
    lowres_base: str
    device: str
    lmms_awares: str
    code: str | None = None
    lmms_eval: str
    transformers: str
    torch: str


class Trace(_Strict):
    """What one sample cost and did. Counts come from image grids; times are wall clock in seconds.

    Attributes:
        model: the lmms-eval model id.
        policy: who decides on crops: `model` or a control policy; None where the method has no policies.
        method: the method's name, see `method_name`.
        nominal: the retained share of N_full where the method fixes it, in (0, 1]; None where the model decides.
        view: what the first turn shows.
        image_size: (width, height) in px of the first image.
        images: number of images in the sample.
        image_digest: tells them apart by their RGB pixels (`lmms_awares.images.digest`); None where none could be read,
            and in older files.
        full_tokens: N_full, summed over images.
        lowres_tokens: N_low, summed over images.
        visual_tokens: T, visual tokens that entered the LLM, each counted once; where a pruner drops some inside the
            LLM, the mean over layers of the count after each layer.
        visual_tokens_processed: visual tokens as often as they were prefilled; None where a server does not tell what
            its cache held.
        pruning: None where nothing was pruned.
        rtr: visual_tokens / full_tokens (paper Eq. 9).
        tool_call: None where no call was attempted.
        preprocess_s: loading, resizing and tokenising before turn 1.
        latency_s: start of turn 1's generation to the end of the last one (Supp. 8.1); includes rendering the crops.
        response_chars: characters of all assistant text of all turns (Supp. 8.3).
        crop_content: what stood in the crops' places; all but `true` are controls (`lmms_awares.models.control_crops`).
        lender: the document whose image the crops were cut from; None where it was the sample's own.
        truncated: the answer was cut at the task's token limit.
        batch_size: samples generated together; latency compares only between equal batch sizes.
        failed: why the sample could not be answered; None where it was.
        flops: floating-point operations of the sample alone, all turns, vision tower and pruner included, by the cost
            model (`lmms_awares.cost`); None where it does not know the pruner, the model or the engine.
        kv_bytes: bytes of the sample's own KV cache when the last turn ended, in the model's dtype; likewise.
        reused: the answer came from the journal of an earlier run, with its times.
        conditions: of the run that the sample was generated in.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    policy: str | None = None
    method: str
    nominal: float | None = None
    view: FirstView
    prompt: str
    image_size: tuple[int, int] | None = None
    images: int = 0
    image_digest: str | None = None
    full_tokens: int = 0
    lowres_tokens: int = 0
    crops: list[CropTrace] = Field(default_factory=list)
    crop_content: CropContent = "true"
    lender: int | None = None
    visual_tokens: int | float = 0
    visual_tokens_processed: int | float | None = 0
    pruning: PruningTrace | None = None
    rtr: float | None = None
    tool_call: ToolCallTrace | None = None
    turns: list[TurnTrace] = Field(default_factory=list)
    preprocess_s: float = 0.0
    latency_s: float = 0.0
    response_chars: int = 0
    truncated: bool = False
    batch_size: int = 1
    flops: int | None = None
    kv_bytes: int | None = None
    failed: str | None = None
    reused: bool = False
    conditions: Conditions

    @property
    def called(self) -> bool:
        """True where the reply held a tool call that could be executed."""
        return self.tool_call is not None and self.tool_call.status in EXECUTABLE


def method_name(
    model: str,
    policy: str | None,
    pruner: str | None,
    retain_ratio: float | None,
    crop_content: CropContent = "true",
) -> str:
    """Name a method: model id, `:policy` and `:CONTENT-crops` of controls, `+pruner` unless the id names it, `@ratio`.

    Example:
        >>> method_name("awares", "oracle", "holov", 0.7)
        'awares:oracle+holov@0.7'
        >>> method_name("awares", "model", None, None, "blank")
        'awares:blank-crops'
    """
    name = model if policy in (None, "model") else f"{model}:{policy}"
    if crop_content != "true":
        name += f":{crop_content}-crops"
    if pruner not in (None, model):
        name += f"+{pruner}"
    return name if retain_ratio is None else f"{name}@{retain_ratio:g}"


def older_fields(model: str, policy: str | None, pruner: str | None, retain_ratio: float | None) -> dict[str, Any]:
    """Return `method`, `nominal` and `view` for a trace before schema `NAMED_SINCE`, which does not hold them."""
    fixed = {"qwen2_5_vl_full": 1.0, "qwen2_5_vl_lowres": 0.25}  # RTR of the methods without a retain ratio
    return {
        "method": method_name(model, policy, pruner, retain_ratio),
        "nominal": fixed.get(model) if retain_ratio is None else retain_ratio,
        "view": "lowres" if model in ("qwen2_5_vl_lowres", "awares", "visionthink") else "full",
    }


class TraceError(UserError):
    """A stored trace that this version cannot read."""


def reason_of(error: BaseException) -> str:
    """Describe an error for the record: its type and its message, in one line of at most `REASON_CHARS`.

    Example:
        >>> reason_of(ValueError("no  such word"))
        'ValueError: no such word'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= REASON_CHARS else f"{text[: REASON_CHARS - 1]}…"


def parse_trace(payload: str | dict[str, object]) -> Trace:
    """Validate a stored trace (JSON text, or the parsed object); an older one comes back under the current schema.

    Raises:
        TraceError: not JSON, an unknown schema version, or missing and unknown fields.
    """
    try:
        data = json.loads(payload) if isinstance(payload, str) else payload
    except json.JSONDecodeError as error:
        raise TraceError(f"the trace is not JSON: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version not in READABLE or isinstance(version, bool):
        raise TraceError(f"trace schema version {version!r} is not one of {READABLE}; update lmms-awares")
    older = {} if version >= NAMED_SINCE else {"method": "", "view": "full"}  # until what they are is known
    try:
        trace = Trace.model_validate(older | data)
    except ValidationError as error:
        raise TraceError(f"the trace does not fit schema {version}: {error.errors()[0]}") from error
    return _completed(trace) if older else trace.model_copy(update={"schema_version": SCHEMA_VERSION})


def _completed(trace: Trace) -> Trace:
    """Fill in what an older trace does not hold, and put it under the current schema."""
    pruner, ratio = (trace.pruning.pruner, trace.pruning.retain_ratio) if trace.pruning else (None, None)
    fields = older_fields(trace.model, trace.policy, pruner, ratio)
    return trace.model_copy(update=fields | {"schema_version": SCHEMA_VERSION})
