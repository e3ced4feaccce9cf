"""`awares`: low-res view, tool call for crops, answer on the same KV cache (paper sections 3.1 and 3.5)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from lmms_awares.engine.crop_turns import crop_turn, read_call, regions
from lmms_awares.engine.turns import Decoding, Turn
from lmms_awares.errors import SampleError
from lmms_awares.models.config import AwaresArgs
from lmms_awares.models.control_crops import control, other_image
from lmms_awares.models.decisions import ASK, DIRECT, Decision
from lmms_awares.models.policies import BOX_CONTROLS, CONTROLS, require_evidence
from lmms_awares.models.sample import Address, Lent, Sample
from lmms_awares.models.two_turns import TwoTurns, crop_traces
from lmms_awares.protocol import FreeBox, GetCrops, ToolCall, format_call
from lmms_awares.protocol.boxes import in_view
from lmms_awares.trace import CropContent, CropTrace
from lmms_awares.views import ViewPlan


class Awares(TwoTurns[ToolCall]):
    """The two-turn policy.

    Whether a first turn is a call is known only when it has been said: it may run to 64 tokens even where the task
    allows fewer, and a direct answer is then cut to the task's limit. A call that names nothing usable gets the whole
    image and is traced as `invalid`.
    """

    model_id = "awares"
    args: AwaresArgs

    @cached_property
    def protocol(self) -> GetCrops:
        """AwaRes' own, with the ten crops or with boxes."""
        return FreeBox() if self.args.boxes == "free" else GetCrops()

    def read(self, sample: Sample, reply: str) -> ToolCall | None:
        """The call; a box is placed in the image."""
        return read_call(self.protocol, sample.plans[0], reply)

    def forced(self, sample: Sample) -> ToolCall | None:
        """The crops that were decided on, or the box."""
        ids, call = sample.decision.crops, sample.decision.call
        return ToolCall(ids, "valid", call) if ids else super().forced(sample)

    def respond(self, sample: Sample, call: ToolCall) -> Turn:
        """The user turn that holds the crops, or what a control shows in their places."""
        turn = crop_turn(sample.lent.image if sample.lent else sample.images[0], sample.plans[0], call)
        seed = self.sample_seed(sample.at)
        views = [control(view, self.crop_content, f"{seed} {place}") for place, view in enumerate(turn.views)]
        return replace(turn, views=views)

    def shown(self, sample: Sample, call: ToolCall) -> list[CropTrace]:
        """The crops with their tokens."""
        return crop_traces(sample.plans[0], regions(sample.plans[0], call))

    @property
    def policy(self) -> str:
        """The argument of that name."""
        return self.args.policy

    @property
    def crop_content(self) -> CropContent:
        """The argument `crops`."""
        return self.args.crops

    @property
    def min_crop_side(self) -> int:
        """The argument of that name."""
        return self.args.min_crop_side

    @property
    def reuse_cache(self) -> bool:
        """The argument of that name."""
        return self.args.reuse_cache

    def check(self, doc: dict[str, Any], images: Sequence[Image.Image], task: str) -> None:
        """Crops are regions of *the* image, so there must be exactly one."""
        if self.args.policy == "oracle":
            require_evidence(doc, task)
        if len(images) != 1:
            raise SampleError(f"awares needs exactly one image per sample, this one has {len(images)}")

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """A control policy decides here; where the low-res view is the full view there is nothing to fetch."""
        (plan,), policy = plans, self.args.policy
        if policy == "model":
            return ASK
        if plan.lowres_is_full:
            return DIRECT
        seed, protocol = self.sample_seed(at), self.protocol
        if isinstance(protocol, FreeBox):
            box = BOX_CONTROLS[policy](doc, plan, seed)
            return DIRECT if box is None else Decision(by_model=False, call=protocol.write(in_view(box, plan)))
        ids = CONTROLS[policy](doc, plan, seed)
        return Decision(by_model=False, call=format_call(ids) if ids else "", crops=ids)

    def lend(
        self, own: Sequence[Image.Image], decision: Decision, at: Address, read: Callable[[int], list[Image.Image]]
    ) -> Lent | None:
        """With `crops=other`, the image of another document of the task, wherever a call may come."""
        if self.crop_content != "other" or decision == DIRECT:
            return None
        return other_image(own[0], len(self.task_dict[at.task][at.split]), read, f"{self.sample_seed(at)} other")

    def first_decoding(self, decoding: Decoding) -> Decoding:
        """Turn 1 may run as long as a call, turn 2 as long as the task allows."""
        return replace(decoding, max_new_tokens=max(decoding.max_new_tokens, self.protocol.keep))
