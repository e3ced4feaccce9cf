"""What the methods share whose published protocols name a box: one image, the box in it, control policies."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from PIL import Image

from lmms_awares.crops import FreeBox
from lmms_awares.engine.turns import Message
from lmms_awares.errors import SampleError
from lmms_awares.models.decisions import ASK, DIRECT, Decision
from lmms_awares.models.policies import BOX_CONTROLS, require_evidence
from lmms_awares.models.protocol_args import BoxArgs
from lmms_awares.models.sample import Address, Sample
from lmms_awares.models.two_turns import TwoTurns
from lmms_awares.protocol import BoxCall, BoxProtocol
from lmms_awares.protocol.boxes import in_view
from lmms_awares.views import ViewPlan


class BoxTurns(TwoTurns[BoxCall]):
    """Base of these methods; not registered itself."""

    args: BoxArgs

    @property
    @abstractmethod
    def protocol(self) -> BoxProtocol:
        """In the words that the checkpoint was trained with, or in our own."""

    @property
    def policy(self) -> str:
        """The argument of that name."""
        return self.args.policy

    def read(self, sample: Sample, reply: str) -> BoxCall | None:
        """The call, with its box placed in the image."""
        call = self.protocol.read(reply)
        return None if call is None else self.protocol.place(call, sample.plans[0])

    def check(self, doc: dict[str, Any], images: Sequence[Image.Image], task: str) -> None:
        """A box is a region of *the* image, so there must be exactly one."""
        if self.policy == "oracle":
            require_evidence(doc, task)
        if len(images) != 1:
            raise SampleError(f"{self.model_id} needs exactly one image per sample, this one has {len(images)}")

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's words inside the protocol's, unless no tool is offered."""
        *earlier, last = messages
        if self.policy == "never":
            return messages
        return [*earlier, {**last, "content": self.protocol.opening(last["content"])}]

    def decide(self, doc: dict[str, Any], plans: Sequence[ViewPlan], at: Address) -> Decision:
        """A control policy decides here."""
        if self.policy == "model":
            return ASK
        box = BOX_CONTROLS[self.policy](doc, plans[0], self.sample_seed(at))
        return DIRECT if box is None else self.saying(box, plans[0])

    def saying(self, box: FreeBox, plan: ViewPlan) -> Decision:
        """The call for a box in px of the original image."""
        return Decision(by_model=False, call=self.protocol.write(in_view(box, plan)))
