"""The views of one image: full, low-res and crops. Sizes and token counts first, pixels second."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

from lmms_awares.crops import CROPS, MIN_CROP_SIDE, FreeBox, Region, check_ids
from lmms_awares.tokens import LOADER_TOKENS, TOKEN_SIDE, budget_size, count_visual_tokens, grid_size, thickened

LowresBase = Literal["processed", "raw"]
Size = tuple[int, int]  # width, height in px
FULL, LOWRES = "full", "lowres"  # names of views that are no crops


@dataclass(frozen=True)
class ViewPlan:
    """Sizes and exact token counts of an image's views, from the image's size and the pixel limits alone.

    Attributes:
        width, height: of the original image, in px.
        min_pixels, max_pixels: limits of every view, in px.
        lowres_base: `processed` (default): the low-res view is half of the full view, and crops have the full view's
            pixel density. `raw`: low-res view and crops come from the original pixels, as in the released adapter; with
            a low `max_pixels` the low-res view can then cost as much as the full view.
        min_crop_side: least side of a crop in px, see `lmms_awares.crops.Crop.box`.
        min_lowres_side: least side of the halved image in px; an image with a shorter side is enlarged as a whole.
        budget: px that the low-res view and a box's view have about, by `budget_size`, in place of half the sides.
        crop_base: as `lowres_base`, for crops alone; None: the same.
        token_side: side of a visual token in px, see `lmms_awares.families`.
    """

    width: int
    height: int
    min_pixels: int
    max_pixels: int
    lowres_base: LowresBase
    min_crop_side: int
    min_lowres_side: int = 1
    token_side: int = TOKEN_SIDE
    budget: int | None = None
    crop_base: LowresBase | None = None

    @property
    def full_size(self) -> Size:
        """(W, H) in px of the full view, multiples of `token_side`."""
        return self.grid_of((self.width, self.height))

    @property
    def full_tokens(self) -> int:
        """N_full: visual tokens of the full view."""
        return self._count((self.width, self.height))

    @property
    def half_size(self) -> Size:
        """(w, h) in px of the halved image, before it is enlarged or rounded to the grid."""
        base = self.full_size if self.lowres_base == "processed" else (self.width, self.height)
        return max(1, base[0] // 2), max(1, base[1] // 2)

    @property
    def lowres_size(self) -> Size:
        """`half_size`, enlarged where it is too small, truncated to whole px as VisionThink's adapter does.

        With a `budget`, the whole image within that.
        """
        if self.budget is not None:
            return self._within_budget((self.width, self.height))
        width, height = self.half_size
        scale = max(1.0, self.min_lowres_side / min(width, height))
        return int(width * scale), int(height * scale)

    @property
    def lowres_is_full(self) -> bool:
        """True where halving saves no token (tiny images): the full view then serves as the low-res view."""
        return self._count(self.lowres_size) >= self.full_tokens

    @property
    def lowres_tokens(self) -> int:
        """N_low: visual tokens of the first turn."""
        return self.full_tokens if self.lowres_is_full else self._count(self.lowres_size)

    @property
    def first_size(self) -> Size:
        """(w, h) in px, multiples of `token_side`, of the low-res view as the model sees it."""
        return self.full_size if self.lowres_is_full else self.grid_of(self.lowres_size)

    def crop_box(self, region: Region) -> FreeBox:
        """Return a crop's box in px of the original image, as (left, top, right, bottom); a box is its own.

        Raises:
            ValueError: an unknown crop id.
        """
        if not isinstance(region, str):
            return region
        check_ids([region])
        return CROPS[region].box(self.width, self.height, self.min_crop_side)

    def crop_size(self, region: Region) -> Size:
        """Return (w, h) in px of a crop at the density it is rendered with, before rounding to the grid."""
        left, top, right, bottom = self.crop_box(region)
        across, down = right - left, bottom - top
        if (self.crop_base or self.lowres_base) == "processed":
            across, down = across * self.full_size[0] / self.width, down * self.full_size[1] / self.height
        size = max(1, round(across)), max(1, round(down))
        if self.budget is not None:
            return self._within_budget(size)
        return size if isinstance(region, str) else thickened(size, self.min_pixels, token_side=self.token_side)

    def crop_tokens(self, region: Region) -> int:
        """Count the visual tokens of a crop or a box.

        Raises:
            ValueError: an unknown crop id, or sides whose ratio the processor refuses.
        """
        return self.full_tokens if self.is_whole(region) else self._count(self.crop_size(region))

    def requested(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return the crops that a request yields, each piece of the image once.

        Where an image is too small to crop, every id is the whole image, `all`; in a small one, two ids can coincide.

        Raises:
            ValueError: as `lmms_awares.crops.check_ids`.

        Example:
            >>> plan_views(90, 90).requested(("0", "5"))
            ('all',)
        """
        pieces: dict[FreeBox, str] = {}
        for id in check_ids(ids):
            pieces.setdefault(self.crop_box(id), "all" if self.is_whole(id) else id)
        return tuple(pieces.values())

    def is_whole(self, region: Region) -> bool:
        """Return True where a crop of the ten shows the whole image and so is the full view; raises as `crop_box`."""
        return isinstance(region, str) and self.crop_box(region) == (0, 0, self.width, self.height)

    def grid_of(self, size: Size) -> Size:
        """Return (w, h) in px, multiples of `token_side`, that the image processor gives an image of `size`."""
        return grid_size(*size, self.min_pixels, self.max_pixels, token_side=self.token_side)

    def _within_budget(self, size: Size) -> Size:
        assert self.budget is not None
        most = min(self.budget, self.max_pixels)
        return budget_size(*size, self.min_pixels, most, token_side=self.token_side)

    def _count(self, size: Size) -> int:
        return count_visual_tokens(*size, self.min_pixels, self.max_pixels, token_side=self.token_side)


def plan_views(
    width: int,
    height: int,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    lowres_base: LowresBase = "processed",
    min_crop_side: int = MIN_CROP_SIDE,
    token_side: int = TOKEN_SIDE,
) -> ViewPlan:
    """Plan the views of an image of `width` x `height` px.

    Args:
        min_pixels, max_pixels: limits of every view, in px; default: 4 and 16384 visual tokens.
        token_side: px of a visual token's side: 28 in Qwen2.5-VL, 32 in Qwen3-VL.

    Raises:
        ValueError: an image that the processor refuses, limits that contradict each other, an unknown base.

    Example:
        >>> plan = plan_views(1280, 720)
        >>> plan.full_tokens, plan.lowres_tokens, plan.crop_tokens("0")
        (1196, 299, 299)
    """
    min_pixels, max_pixels = (
        tokens * token_side**2 if given is None else given
        for given, tokens in zip((min_pixels, max_pixels), LOADER_TOKENS, strict=True)
    )
    if lowres_base not in get_args(LowresBase):
        raise ValueError(f"lowres_base must be one of {get_args(LowresBase)}, got {lowres_base!r}")
    if not 0 < min_pixels <= max_pixels:
        raise ValueError(f"pixel limits need 0 < min_pixels <= max_pixels, got {min_pixels} and {max_pixels}")
    plan = ViewPlan(width, height, min_pixels, max_pixels, lowres_base, min_crop_side, token_side=token_side)
    # A strip whose halves are too thin for the processor is refused here rather than in the middle of a batch, and for
    # every method alike.
    for id in CROPS:
        plan.crop_tokens(id)
    plan.lowres_tokens  # noqa: B018
    return plan


@dataclass(frozen=True)
class View:
    """One view, ready to be shown.

    Attributes:
        image: RGB pixels for the image processor.
        tokens: visual tokens that it costs by the plan.
    """

    image: Image.Image
    tokens: int


def show(image: Image.Image, plan: ViewPlan, name: Region) -> View:
    """Render the view `name`: `full`, `lowres`, a crop id or a box; its pixels with its planned token count.

    Raises:
        ValueError: an unknown crop id.

    Example:
        >>> photo = Image.new("RGB", (640, 480))
        >>> show(photo, plan_views(*photo.size), "lowres").tokens
        96
    """
    if name == FULL:
        return View(render_full(image, plan), plan.full_tokens)
    if name == LOWRES:
        return View(render_lowres(image, plan), plan.lowres_tokens)
    return View(render_crop(image, plan, name), plan.crop_tokens(name))


def render_full(image: Image.Image, plan: ViewPlan) -> Image.Image:
    """Render the full view as RGB pixels for the image processor."""
    return _to_grid(image, plan)


def render_lowres(image: Image.Image, plan: ViewPlan) -> Image.Image:
    """Render the low-res view as RGB pixels for the image processor."""
    if plan.lowres_is_full:
        return render_full(image, plan)
    if plan.budget is not None:
        return image.resize(plan.lowres_size, Image.Resampling.BICUBIC)
    half = image.resize(plan.half_size, Image.Resampling.LANCZOS)
    return _to_grid(half.resize(plan.lowres_size, Image.Resampling.LANCZOS), plan)


def render_crop(image: Image.Image, plan: ViewPlan, region: Region) -> Image.Image:
    """Render a crop or a box, cut from the original pixels, as RGB pixels for the image processor.

    What a box has outside the image is black.
    """
    if plan.is_whole(region):
        return render_full(image, plan)
    if isinstance(region, str) and plan.lowres_base == "raw":
        return _to_grid(image.crop(CROPS[region].box(plan.width, plan.height, plan.min_crop_side)), plan)
    density = plan.crop_size(region)
    target = plan.grid_of(density)
    settled = plan.grid_of(target) == target
    return _cut(image, plan.crop_box(region), target if settled else density)


def _cut(image: Image.Image, box: FreeBox, size: Size) -> Image.Image:
    """Cut `box`, whose sides may lie between pixels, and resample it to `size`."""
    left, top, right, bottom = box
    outer = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    piece = image.crop(outer)
    if outer == box:
        return piece.resize(size, Image.Resampling.BICUBIC)
    within = left - outer[0], top - outer[1], right - outer[0], bottom - outer[1]
    return piece.resize(size, Image.Resampling.BICUBIC, box=within)


def _to_grid(image: Image.Image, plan: ViewPlan) -> Image.Image:
    """Resample to the grid as Qwen's loader does, so that pixels equal the stock lmms-eval adapter's.

    The loader rounds to the grid under its own wide limits and leaves the narrower ones to the processor. Where that
    would change the token count, the processor gets the image as it is.
    """
    limits = (tokens * plan.token_side**2 for tokens in LOADER_TOKENS)
    rounded = grid_size(*image.size, *limits, token_side=plan.token_side)
    if plan.grid_of(rounded) != plan.grid_of(image.size):
        return image
    return image.resize(rounded, Image.Resampling.BICUBIC)
