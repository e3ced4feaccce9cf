"""Exact visual token counts from image sizes. One visual token is 28x28 px: patch 14, merged 2x2."""

from dataclasses import dataclass
from statistics import fmean

PATCH = 14
MERGE = 2
TOKEN_SIDE = PATCH * MERGE  # px

# `min_pixels` and `max_pixels` of the published Qwen2.5-VL checkpoints.
DEFAULT_MIN_PIXELS = 4 * TOKEN_SIDE**2
DEFAULT_MAX_PIXELS = 16384 * TOKEN_SIDE**2


def grid_size(width: int, height: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) in px, multiples of 28, that Qwen2.5-VL's image processor gives an image.

    Raises:
        ValueError: a side below 1 px, or sides whose ratio is above 200 (the processor refuses both).
    """
    # The Pillow variant is the one that imports without torchvision; both hold the same function.
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    if width < 1 or height < 1:
        raise ValueError(f"an image needs at least 1x1 pixels, got {width}x{height}")
    rows, columns = smart_resize(height, width, TOKEN_SIDE, min_pixels, max_pixels)
    return columns, rows


def count_visual_tokens(width: int, height: int, min_pixels: int, max_pixels: int) -> int:
    """Visual tokens that an image of `width` x `height` px costs under the pixel limits."""
    columns, rows = grid_size(width, height, min_pixels, max_pixels)
    return columns * rows // TOKEN_SIDE**2


@dataclass(frozen=True)
class VisualTokens:
    """Visual tokens of one sample, over all its turns so far, layer by layer of the language model.

    Attributes:
        encoded: what the vision tower made of the views.
        entering: count at each layer's input.
        leaving: count at each layer's output.
        cached: columns of the KV cache at each layer after the last prefill, text included, padding not.
    """

    encoded: int
    entering: tuple[int, ...]
    leaving: tuple[int, ...]
    cached: tuple[int, ...]

    @property
    def counted(self) -> int | float:
        """T: the mean over layers of the count after each layer; where no layer prunes, the number that entered."""
        unchanged = len({*self.entering, *self.leaving}) == 1
        return self.entering[0] if unchanged else fmean(self.leaving)
