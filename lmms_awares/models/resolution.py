"""The two single-turn baselines: the full view, and the low-res view."""

from typing import ClassVar

from PIL import Image

from lmms_awares.models.base import QwenVL
from lmms_awares.views import ViewPlan, render_full, render_lowres


class FullResolution(QwenVL):
    """`qwen2_5_vl_full`: every image at full resolution; RTR 1 by definition."""

    model_id = "qwen2_5_vl_full"
    view = "full"
    nominal = 1.0

    def first_view(self, image: Image.Image, plan: ViewPlan) -> Image.Image:
        """The full view."""
        return render_full(image, plan)

    def first_tokens(self, plan: ViewPlan) -> int:
        """N_full."""
        return plan.full_tokens


class LowResolution(QwenVL):
    """`qwen2_5_vl_lowres`: every image at half its width and height (the paper's LR baseline)."""

    model_id = "qwen2_5_vl_lowres"
    view = "lowres"
    nominal: ClassVar[float | None] = 0.25

    def first_view(self, image: Image.Image, plan: ViewPlan) -> Image.Image:
        """The low-res view."""
        return render_lowres(image, plan)

    def first_tokens(self, plan: ViewPlan) -> int:
        """N_low."""
        return plan.lowres_tokens


class Qwen3FullResolution(FullResolution):
    """`qwen3_vl_full`: the same on a Qwen3-VL."""

    model_id = "qwen3_vl_full"


class Qwen3LowResolution(LowResolution):
    """`qwen3_vl_lowres`: the same on a Qwen3-VL."""

    model_id = "qwen3_vl_lowres"
