"""Exact visual token counts from image sizes, and which tokens are left where some are dropped."""

import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

TOKEN_SIDE = 28  # px of a visual token's side in Qwen2.5-VL; `lmms_awares.families` has it for each architecture
LOADER_TOKENS = (4, 16384)  # least and most visual tokens of an image: of Qwen's loader, and of published checkpoints


def grid_size(
    width: int, height: int, min_pixels: int, max_pixels: int, *, token_side: int = TOKEN_SIDE
) -> tuple[int, int]:
    """Return (width, height) in px, multiples of `token_side`, of an image as Qwen's image processor resizes it.

    Raises:
        ValueError: a side below 1 px, or sides whose ratio is above 200 (the processor refuses both).

    Example:
        >>> grid_size(640, 480, 3136, 12845056)
        (644, 476)
    """
    # The Pillow variant is the one that imports without torchvision; both hold the same function.
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    if width < 1 or height < 1:
        raise ValueError(f"an image needs at least 1x1 pixels, got {width}x{height}")
    rows, columns = smart_resize(height, width, token_side, min_pixels, max_pixels)
    return columns, rows


def budget_size(
    width: int, height: int, min_pixels: int, max_pixels: int, *, token_side: int = TOKEN_SIDE
) -> tuple[int, int]:
    """Return (w, h) in px, multiples of `token_side`, of an image under a budget of pixels as ERGO resizes it.

    Sides are rounded where Qwen's processor takes the next smaller ones, so that the budget may be exceeded.

    Raises:
        ValueError: a side of 0, or so thin an image that a side is rounded to 0.

    Example:
        >>> budget_size(2000, 3000, 3136, 640 * 784)
        (588, 868)
    """

    def near(side: float) -> int:
        return round(side / token_side) * token_side

    across, down = max(token_side, near(width)), max(token_side, near(height))
    if width * height == 0 and not min_pixels <= across * down <= max_pixels:
        raise ValueError(f"an image of {width}x{height} px cannot be scaled")
    if across * down > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        across, down = near(width / scale), near(height / scale)
    elif across * down < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        across, down = (math.ceil(side * scale / token_side) * token_side for side in (width, height))
    if min(across, down) == 0:
        raise ValueError(f"an image of {width}x{height} px is too thin for {max_pixels} px")
    return across, down


def thickened(size: tuple[int, int], min_pixels: int, *, token_side: int = TOKEN_SIDE) -> tuple[int, int]:
    """Return a thin strip's (w, h) in px with sides of a token at least, unless the whole is to be enlarged anyway.

    Qwen's loader does so; the image processor alone would enlarge the strip.

    Example:
        >>> thickened((616, 4), 3136), thickened((60, 4), 3136)
        ((616, 28), (60, 4))
    """
    if math.prod(max(token_side, round(side / token_side) * token_side) for side in size) < min_pixels:
        return size
    return max(token_side, size[0]), max(token_side, size[1])


def count_visual_tokens(
    width: int, height: int, min_pixels: int, max_pixels: int, *, token_side: int = TOKEN_SIDE
) -> int:
    """Count the visual tokens of an image of `width` x `height` px under the pixel limits.

    Raises:
        ValueError: as `grid_size`.

    Example:
        >>> count_visual_tokens(640, 480, 3136, 12845056)
        391
        >>> count_visual_tokens(640, 480, 4096, 16777216, token_side=32)  # Qwen3-VL
        300
    """
    columns, rows = grid_size(width, height, min_pixels, max_pixels, token_side=token_side)
    return columns * rows // token_side**2


def to_bits(flags: Sequence[bool]) -> str:
    """Write flags as base64 of one bit each, the first one highest; the last byte is filled up with zeros.

    Example:
        >>> to_bits([True, False, False])
        'gA=='
    """
    size = -(-len(flags) // 8)
    number = int("0" + "".join("1" if flag else "0" for flag in flags).ljust(8 * size, "0"), 2)
    return b64encode(number.to_bytes(size, "big")).decode("ascii")


def from_bits(bits: str, count: int) -> list[bool]:
    """Read `count` flags that `to_bits` wrote.

    Raises:
        ValueError: no base64, or not as many bytes as that many flags take.

    Example:
        >>> from_bits("gA==", 3)
        [True, False, False]
    """
    held = b64decode(bits, validate=True)
    if len(held) != -(-count // 8):
        raise ValueError(f"{len(held)} bytes do not hold {count} flags")
    return [bool(held[place // 8] >> 7 - place % 8 & 1) for place in range(count)]


@dataclass(frozen=True)
class Left:
    """The visual tokens of one sample that are left behind one place where a pruner drops some.

    Attributes:
        layer: 0-based layer of the language model at whose output they are left; None: in front of the first one.
        bits: `to_bits` of all encoded tokens, view by view as they were shown, in raster order inside each. As many are
            set as tokens are left: a merged one has the place whose position it took. Only padding that stands where
            another token stands (`holov` with `official_wiring`) has no bit of its own.
    """

    layer: int | None
    bits: str


@dataclass(frozen=True)
class VisualTokens:
    """Visual tokens of one sample, over all its turns so far, layer by layer of the language model.

    Attributes:
        encoded: what the vision tower made of the views.
        entering: count at each layer's input.
        leaving: count at each layer's output.
        cached: columns of the KV cache at each layer after the last prefill, text included, padding not.
        grids: (columns, rows) of the encoded tokens of each view, as they were shown; empty without a pruner.
        left: what each place that drops tokens leaves, in the order of the layers; likewise.
    """

    encoded: int
    entering: tuple[int, ...]
    leaving: tuple[int, ...]
    cached: tuple[int, ...]
    grids: tuple[tuple[int, int], ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def counted(self) -> int | float:
        """T: mean over layers of the count at the layer's output; where no layer prunes, the count that entered."""
        unchanged = len({*self.entering, *self.leaving}) == 1
        return self.entering[0] if unchanged else fmean(self.leaving)
