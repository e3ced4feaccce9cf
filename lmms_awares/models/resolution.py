"""The single-turn baselines: the full view, and the low-res view."""

from typing import ClassVar

from lmms_awares.models.base import Method


class FullResolution(Method):
    """`qwen2_5_vl_full`: every image at full resolution; RTR 1 by definition."""

    model_id = "qwen2_5_vl_full"
    view = "full"
    nominal = 1.0


class LowResolution(Method):
    """`qwen2_5_vl_lowres`: every image at half its width and height (the paper's LR baseline)."""

    model_id = "qwen2_5_vl_lowres"
    view = "lowres"
    nominal: ClassVar[float | None] = 0.25


class Qwen3FullResolution(FullResolution):
    """`qwen3_vl_full`: the same on a Qwen3-VL."""

    model_id = "qwen3_vl_full"


class Qwen3LowResolution(LowResolution):
    """`qwen3_vl_lowres`: the same on a Qwen3-VL."""

    model_id = "qwen3_vl_lowres"
