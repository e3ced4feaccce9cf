"""What a GET_CROPS call gets: which crops of the image, or which box, and the user turn that shows them."""

from PIL import Image

from lmms_awares.crops import Region
from lmms_awares.engine.turns import Turn
from lmms_awares.protocol.get_crops import GetCrops, ToolCall
from lmms_awares.views import ViewPlan, show


def requested(plan: ViewPlan, call: ToolCall) -> tuple[Region, ...]:
    """Crops or box that a call yields; the whole image where it was attempted but unusable."""
    return plan.requested(call.regions or ("all",))


def crop_turn(image: Image.Image, plan: ViewPlan, call: ToolCall) -> Turn:
    """The user turn that holds the crops, and nothing else."""
    views = [show(image, plan, region) for region in requested(plan, call)]
    return Turn(GetCrops().respond(call, len(views)), views)
