"""`ergo`: the image under a token budget, reasoning about where to look, that box, the answer, on one KV cache.

ERGO, arXiv 2509.21991, as its authors' code evaluates it; see docs/methods/ergo.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmms_awares.engine.crop_turns import regions
from lmms_awares.engine.turns import Decoding, Turn
from lmms_awares.models.box_turns import BoxTurns
from lmms_awares.models.decisions import DIRECT, Decision
from lmms_awares.models.policies import whole_box
from lmms_awares.models.protocol_args import ErgoArgs
from lmms_awares.models.sample import Address, Sample
from lmms_awares.models.two_turns import crop_traces
from lmms_awares.protocol import BoxCall, ergo
from lmms_awares.trace import CropTrace
from lmms_awares.views import ViewPlan, show


class Ergo(BoxTurns):
    """The protocol that always has two rounds; a first reply without a usable box gets the whole image."""

    model_id = "ergo"
    args: ErgoArgs

    @cached_property
    def protocol(self) -> ergo.Ergo:
        """In the words that the checkpoint was trained with, or in our own."""
        return ergo.Ergo(self.texts())

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image: the first one, and a box, under the token budget."""
        plan = super().plan(image)
        return replace(plan, budget=self.args.max_vision_tokens * plan.token_side**2)

    def decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        """Greedy and long enough to reason, whatever the task says: its limits are made for bare answers."""
        return Decoding(ergo.ROUND_TOKENS)

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """As for all boxes; where a control policy wants none it names the whole view, for there is always a box."""
        decision = super().decide(doc, plans, at)
        if decision == DIRECT and self.policy != "never":
            return self.saying(whole_box(plans[0]), plans[0])
        return decision

    def respond(self, sample: Sample, call: BoxCall) -> Turn:
        """The box, or the whole image, and the task's words again."""
        (image,), (plan,) = sample.images, sample.plans
        views = [show(image, plan, region) for region in regions(plan, call)]
        return Turn(self.protocol.respond(call, len(views), sample.question), views)

    def shown(self, sample: Sample, call: BoxCall) -> list[CropTrace]:
        """The box or the whole image."""
        return crop_traces(sample.plans[0], regions(sample.plans[0], call))
