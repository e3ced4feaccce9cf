"""What the methods share that reason before they answer: VisionThink, and AdaptVision after it."""

from abc import abstractmethod
from dataclasses import replace

from PIL import Image

from lmms_awares.engine.turns import Message, Turn
from lmms_awares.models.sample import Sample, quoted
from lmms_awares.models.two_turns import TwoTurns
from lmms_awares.protocol.base import AnyCall
from lmms_awares.protocol.visionthink import Thinking
from lmms_awares.views import View, ViewPlan


class ThinkingTurns(TwoTurns[AnyCall]):
    """Base of the methods of these protocols; not registered itself.

    The first round sees every image at half its size, in the user turn of the authors' prompt or of our own. A call
    gets its images appended, so that both are in context, and is counted as such; a call that cannot be run gets an
    error and no image, and is traced as `invalid`; a call in the second round is not executed.
    """

    @property
    @abstractmethod
    def protocol(self) -> Thinking[AnyCall]:
        """In the words that the checkpoint was trained with, or in our own."""

    @abstractmethod
    def views(self, sample: Sample, call: AnyCall) -> list[View]:
        """What a call that can be run shows."""

    def plan(self, image: Image.Image) -> ViewPlan:
        """Views of an image; the authors enlarge a halved image whose side is below one visual token."""
        return replace(super().plan(image), min_lowres_side=self.engine.family.token_side)

    def arrange(self, messages: list[Message]) -> list[Message]:
        """The task's question inside the instruction that the checkpoint was trained with."""
        *earlier, last = messages
        return [*earlier, {**last, "content": self.protocol.opening(last["content"])}]

    def respond(self, sample: Sample, call: AnyCall) -> Turn:
        """What the call shows, or the error where it could not be run; that may quote what the model wrote."""
        views = [] if call.status == "invalid" else self.views(sample, call)
        turn = {"content": self.protocol.respond(call, len(views))}
        content = turn if views else quoted(turn, self.engine.quote)
        return Turn(content["content"], views, adjacent=self.protocol.adjacent)
