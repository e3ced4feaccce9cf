"""`visionthink`: half-size image, reasoning, a tool call for the original, a second round on the same KV cache.

VisionThink, arXiv 2507.13348, as its authors' adapter evaluates it; see docs/methods/visionthink.md.
"""

from functools import cached_property
from typing import Any

from lmms_awares.engine.turns import Decoding
from lmms_awares.models.sample import Sample
from lmms_awares.models.thinking import ThinkingTurns
from lmms_awares.protocol import visionthink
from lmms_awares.trace import CropTrace
from lmms_awares.views import FULL, View, show


class VisionThink(ThinkingTurns[visionthink.ToolCall]):
    """The two-round protocol; a call gets the original images."""

    model_id = "visionthink"

    @cached_property
    def protocol(self) -> visionthink.VisionThink:
        """In the words that the checkpoint was trained with, or in our own."""
        return visionthink.VisionThink(self.texts())

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """Greedy and long enough to reason, whatever the task says: its limits are made for bare answers."""
        return Decoding(visionthink.ROUND_TOKENS)

    def views(self, sample: Sample, call: visionthink.ToolCall) -> list[View]:
        """The original images."""
        return [show(image, plan, FULL) for image, plan in zip(sample.images, sample.plans, strict=True)]

    def shown(self, sample: Sample, call: visionthink.ToolCall) -> list[CropTrace]:
        """The original images where the call could be run."""
        return [CropTrace(id="all", tokens=plan.full_tokens) for plan in sample.plans if call.error is None]
