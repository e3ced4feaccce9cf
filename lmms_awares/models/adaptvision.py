"""`adaptvision`: half-size image, reasoning, a tool call for one box, a second round on the same KV cache.

AdaptVision, arXiv 2512.03794, as its authors' adapter evaluates it; see docs/methods/adaptvision.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmms_awares.crops import FreeBox
from lmms_awares.engine.turns import Decoding
from lmms_awares.models.box_turns import BoxTurns
from lmms_awares.models.decisions import DIRECT, Decision
from lmms_awares.models.protocol_args import AdaptVisionArgs
from lmms_awares.models.sample import Address, Sample
from lmms_awares.models.thinking import ThinkingTurns
from lmms_awares.models.two_turns import crop_traces
from lmms_awares.protocol import BoxCall, adaptvision
from lmms_awares.trace import CropTrace
from lmms_awares.views import View, ViewPlan, show


class AdaptVision(BoxTurns, ThinkingTurns[BoxCall]):
    """The two-round protocol; a call gets the box that it names, cut from the original and shown as sharp as all of it.

    As the authors do, `lowres_base=raw` halves the original pixels, while boxes keep the full view's density.
    """

    model_id = "adaptvision"
    args: AdaptVisionArgs

    @cached_property
    def protocol(self) -> adaptvision.AdaptVision:
        """In the words that the checkpoint was trained with, or in our own."""
        return adaptvision.AdaptVision(self.texts(), self.args.box_map)

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image; boxes are of the full view's density, whatever the first view halves."""
        return replace(super().plan(image), crop_base="processed")

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """Greedy and long enough to reason, whatever the task says: its limits are made for bare answers."""
        return Decoding(adaptvision.ROUND_TOKENS)

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """As for all boxes; where the first view is the full view a control policy has nothing to fetch."""
        nothing = plans[0].lowres_is_full and self.policy != "model"
        return DIRECT if nothing else super().decide(doc, plans, at)

    def views(self, sample: Sample, call: BoxCall) -> list[View]:
        """The box."""
        return [show(sample.images[0], sample.plans[0], region) for region in self._boxes(call)]

    def shown(self, sample: Sample, call: BoxCall) -> list[CropTrace]:
        """The box where the call could be run."""
        return crop_traces(sample.plans[0], self._boxes(call))

    @staticmethod
    def _boxes(call: BoxCall) -> list[FreeBox]:
        return [] if call.box is None else [call.box]
