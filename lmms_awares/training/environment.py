"""The world that a rollout acts in: one image, seen at half its resolution, and the tool that shows crops of it.

reset ─► low-res view, question ─► reply ─┬─ answers: the end
                                          └─ calls: get_crops ─► crops ─► answer

Plain code: any engine that offers an environment's methods as tools can call it. Views, wording and the reading of
calls are those of `--model awares`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmms_awares.crops import Region, shown_area
from lmms_awares.engine.crop_turns import crop_turn, read_call, regions
from lmms_awares.images import decode
from lmms_awares.protocol import FreeBox, GetCrops, ToolCall
from lmms_awares.protocol.base import Part
from lmms_awares.views import LOWRES, View, ViewPlan, plan_views, show


@dataclass(frozen=True)
class ViewLimits:
    """What decides the size of views: a checkpoint's pixel limits, and px of a visual token's side."""

    min_pixels: int
    max_pixels: int
    token_side: int

    def plan(self, width: int, height: int) -> ViewPlan:
        """Plan the views of an image of `width` x `height` px."""
        return plan_views(
            width, height, min_pixels=self.min_pixels, max_pixels=self.max_pixels, token_side=self.token_side
        )


class CropEnvironment:
    """One rollout's image and what was shown of it; one call at most is answered.

    Its only tool is `get_crops`, the only public method beside `reset`. It gets the whole reply, so that the protocol
    reads the call here as in evaluation.

    Args:
        limits: of the checkpoint that is trained.
        boxes: what a call names, as the argument of `--model awares`: ids of the `ten` crops, or one `free` box.

    Attributes:
        views: what was shown, the low-res view first.
        crops: ids that were shown, or the box in px of the image; the whole image where a call names nothing usable, as
            in evaluation.
        call: as the protocol read it; None for a direct answer.

    Example:
        environment = CropEnvironment(ViewLimits(3136, 12845056, 28))
        environment.reset(original={"bytes": png}, question="What is the total?")
        environment.get_crops("GET_CROPS: ['0']")
        environment.crops, environment.rtr
    """

    def __init__(self, limits: ViewLimits, boxes: Literal["ten", "free"] = "ten") -> None:
        self._limits = limits
        self._protocol = FreeBox() if boxes == "free" else GetCrops()
        self.views: list[View] = []
        self.crops: tuple[Region, ...] = ()
        self.call: ToolCall | None = None

    def reset(self, original: Mapping[str, Any], question: str, **_: Any) -> list[Part]:
        """Begin with an image; return the user turn's content: the low-res view and the question.

        Args:
            original: the encoded image, as `{"bytes": ...}`.
            question: all that the user says.
        """
        self._image = decode(original["bytes"])
        self._plan = self._limits.plan(*self._image.size)
        self.views, self.crops, self.call = [show(self._image, self._plan, LOWRES)], (), None
        shown = {"type": "image", "image": self.views[0].image}
        return self._protocol.opening([shown, {"type": "text", "text": question}])

    def get_crops(self, reply: str) -> list[Part]:
        """Show the crops that a reply calls for.

        Args:
            reply: the assistant's whole turn.
        """
        call = read_call(self._protocol, self._plan, reply)
        if call is None:
            raise ValueError("the reply holds no call")
        self.call, self.crops = call, regions(self._plan, call)
        turn = crop_turn(self._image, self._plan, call)
        self.views += turn.views
        return [{"type": "image", "image": view.image} for view in turn.views]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in px."""
        return self._plan.width, self._plan.height

    @property
    def area(self) -> float:
        """Fraction of the image, 0..1, that the shown crops cover together."""
        return shown_area(self.crops, self.size) if self.crops else 0.0

    @property
    def rtr(self) -> float:
        """Visual tokens of all views by those of the full view."""
        return sum(self.tokens) / self._plan.full_tokens

    @property
    def tokens(self) -> list[int]:
        """Visual tokens of each view, in order."""
        return [view.tokens for view in self.views]

    @property
    def shortest_side(self) -> int:
        """Px of the shortest side of all views."""
        return min(min(view.image.size) for view in self.views)

    @property
    def token_side(self) -> int:
        """Px of a visual token's side."""
        return self._limits.token_side
