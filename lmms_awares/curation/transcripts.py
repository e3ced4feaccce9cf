"""Stage 3: rows become the dialogues that the policy is trained on, worded and shown as evaluation does it.

LR   system (offers the tool) | user: low-res view, question | assistant: answer
HR   system (offers the tool) | user: low-res view, question | assistant: call | user: crops | assistant: answer
"""

import io
from collections.abc import Sequence
from typing import Any, ClassVar

from datasets import Features
from PIL import Image

from lmms_awares.crops import CROPS
from lmms_awares.curation.asking import Log, Meter
from lmms_awares.curation.config import Config
from lmms_awares.curation.rows import BUILD, Rejected, Row
from lmms_awares.curation.stage import Stage
from lmms_awares.engine import checkpoint
from lmms_awares.engine.crop_turns import crop_turn
from lmms_awares.engine.turns import Message
from lmms_awares.families import FAMILIES
from lmms_awares.images import decode
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops, ToolCall, format_call
from lmms_awares.views import LOWRES, View, ViewPlan, plan_views, show

Limits = tuple[int, int]  # min_pixels, max_pixels


def transcript(
    image: Image.Image, plan: ViewPlan, question: str, answer: str, targets: Sequence[str]
) -> tuple[list[Message], list[View]]:
    """Write one dialogue: a direct answer, or with `targets` a call for them and the answer behind it.

    Args:
        image: the original, upright RGB.
        plan: of the image, with the pixel limits of the model that will be trained.
        question: all that the user says.
        targets: crop ids; empty where the low-res view suffices.

    Returns:
        (messages, views): parts of type `image` stand for the views, in order.

    Example:
        >>> photo = Image.new("RGB", (640, 480))
        >>> messages, views = transcript(photo, plan_views(640, 480), "What is it?", "a hat", ["0"])
        >>> [message["role"] for message in messages], [view.tokens for view in views]
        (['system', 'user', 'assistant', 'user', 'assistant'], [96, 96])
    """
    protocol = GetCrops()
    asked = protocol.opening([{"type": "image"}, {"type": "text", "text": question}])
    messages = [_message("system", protocol.own["system"]), {"role": "user", "content": asked}]
    views = [show(image, plan, LOWRES)]
    if targets:
        call = ToolCall(tuple(targets), "valid", format_call(targets))
        turn = crop_turn(image, plan, call)
        messages += [_message("assistant", call.text), {"role": "user", "content": list(turn.content)}]
        views += turn.views
    return [*messages, _message("assistant", answer)], views


def _message(role: str, text: str) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}]}


class Building(Stage):
    """Transcripts of labelled rows.

    Args:
        config: of the set; the views have the pixel limits of `base`.
        log, meter: not used; nobody is asked.
    """

    name: ClassVar[str] = "build"
    adds: ClassVar[Features] = BUILD

    def __init__(self, config: Config, log: Log, meter: Meter) -> None:
        self._args = config.base
        self._limits: Limits | None = None
        self._token_side = 0

    def depends_on(self) -> dict[str, Any]:
        """The protocol's wording, the crop set, and the checkpoint's pixel limits and token side."""
        checkpoint.check_checkpoint(self._args.pretrained, families=self._args.families, weights=False)
        crops = {id: (crop.columns, crop.rows) for id, crop in CROPS.items()}
        settings = {name: self._args.model_dump()[name] for name in ("min_pixels", "max_pixels", "lowres_base")}
        return {
            "prompt": digest(GetCrops.own["system"]),
            "crops": crops,
            "format": checkpoint.format_fingerprint(self._args.pretrained),
            **settings,
        }

    def open(self) -> None:
        """Read the checkpoint's image processor."""
        config, processor = checkpoint.load_format(self._args)
        size = processor.image_processor.size
        self._limits = size["shortest_edge"], size["longest_edge"]
        self._token_side = FAMILIES[config.model_type].token_side

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Write each row's transcript."""
        return [self._built(row) for row in rows]

    def _built(self, row: Row) -> Row | Rejected:
        assert self._limits is not None, "open() comes first"
        low, high = self._limits
        image = decode(row["image"]["bytes"])
        plan = plan_views(
            *image.size,
            min_pixels=low,
            max_pixels=high,
            lowres_base=self._args.lowres_base,
            token_side=self._token_side,
        )
        if row["targets"] and plan.lowres_is_full:
            return Rejected("nothing to fetch", f"the low-res view of {image.width}x{image.height} px is the full view")
        messages, views = transcript(image, plan, row["question"], row["answers"][0], row["targets"])
        return {"messages": messages, "images": [_encoded(view.image) for view in views]}


def _encoded(image: Image.Image) -> dict[str, Any]:
    """As parquet holds images: a shard's views would not fit into memory otherwise."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}
