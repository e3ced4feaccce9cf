"""What a GET_CROPS call gets: which crops of the image, and the user turn that shows them."""

from PIL import Image

from lmms_awares.engine.turns import Turn
from lmms_awares.protocol.get_crops import GetCrops, ToolCall
from lmms_awares.views import ViewPlan, show


def requested(plan: ViewPlan, call: ToolCall) -> tuple[str, ...]:
    """Crops that a call yields; the whole image where it was attempted but unusable."""
    return plan.requested(call.ids or ("all",))


def crop_turn(image: Image.Image, plan: ViewPlan, call: ToolCall) -> Turn:
    """The user turn that holds the crops, and nothing else."""
    views = [show(image, plan, id) for id in requested(plan, call)]
    return Turn(GetCrops().respond(call, len(views)), views)
