"""What a GET_CROPS call gets: which crops of the image, or which box, and the user turn that shows them."""

from PIL import Image

from lmms_awares.crops import Region
from lmms_awares.engine.turns import Turn
from lmms_awares.protocol.boxes import BoxCall
from lmms_awares.protocol.free_box import FreeBox
from lmms_awares.protocol.get_crops import GetCrops, ToolCall
from lmms_awares.views import ViewPlan, show


def read_call(protocol: GetCrops, plan: ViewPlan, reply: str) -> ToolCall | None:
    """Read the call in a first reply; a box is placed in the image."""
    call = protocol.read(reply)
    return protocol.place(call, plan) if isinstance(protocol, FreeBox) and isinstance(call, BoxCall) else call


def requested(plan: ViewPlan, call: ToolCall) -> tuple[str, ...]:
    """Crops of the ten that a call yields; the whole image where it was attempted but unusable."""
    return plan.requested(call.ids or ("all",))


def regions(plan: ViewPlan, call: ToolCall) -> tuple[Region, ...]:
    """The box that a call yields, else the crops as `requested`."""
    return (call.box,) if isinstance(call, BoxCall) and call.box is not None else requested(plan, call)


def crop_turn(image: Image.Image, plan: ViewPlan, call: ToolCall) -> Turn:
    """The user turn that holds the crops, or the box, and nothing else."""
    views = [show(image, plan, region) for region in regions(plan, call)]
    return Turn(GetCrops().respond(call, len(views)), views)
