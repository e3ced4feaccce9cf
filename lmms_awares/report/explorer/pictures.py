"""Pictures for the site: whole image and low-res view in one file, small enough for twenty thousand samples."""

import io
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmms_awares.families import FAMILIES
from lmms_awares.trace import Conditions
from lmms_awares.views import Size, ViewPlan, plan_views, render_lowres

SITE_BYTES = 130_000_000  # for all pictures together, as a disk counts them; texts come on top
PICTURE_BYTES = 80_000  # for one image and its low-res view, however few there are
_BLOCK = 4096  # bytes that a file takes at least, and in steps of which it grows
_LARGEST, _SMALLEST = 1280, 64  # px of the whole image's longer side
_USUAL, _FINE = 75, 95  # WebP's quality; the latter for pictures that need no reduction and fit with it
_MARGIN = 16  # px between the two parts
_DENSITY = 0.1  # bytes per px to begin with: photographs take a little more, and then shrink further


@dataclass(frozen=True)
class Picture:
    """A document's image as the page shows it. All sizes (width, height) in px.

    Attributes:
        file: path relative to the site: the whole image, and below it the low-res view unless that is the full view.
        sheet, whole, lowres: sizes in the file: of all of it, and of the two parts.
        lowres_top: where the low-res view begins in the file, px from its top.
        size, full_size, lowres_size: of the document's image, its full view and its low-res view.
        scale: factor by which both views were reduced to save space; 1 where they were not.
    """

    file: str
    sheet: Size
    whole: Size
    lowres: Size | None
    lowres_top: int
    size: Size
    full_size: Size
    lowres_size: Size
    scale: float


def limits_of(conditions: Conditions) -> dict[str, Any]:
    """Return a run's limits and grid, as `lmms_awares.views.plan_views` takes them."""
    limits = conditions.model_dump(include={"min_pixels", "max_pixels", "lowres_base"})
    return limits | {"token_side": FAMILIES[conditions.family].token_side}


class Gallery:
    """A writer of pictures below a folder; equal pictures are written once.

    Args:
        folder: of the site.
        images: expected number of different pictures; decides how large each may be.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self._folder = folder
        share = min(PICTURE_BYTES, SITE_BYTES // max(1, images))
        self._budget = max(_BLOCK, share // _BLOCK * _BLOCK)
        self._known: dict[str, Picture] = {}

    def add(self, digest: str, image: Image.Image, limits: dict[str, Any]) -> Picture:
        """Render one document's image.

        Args:
            digest: equal for equal images.
            image: RGB.
            limits: of its views, as `lmms_awares.views.plan_views` takes them; none: the published Qwen2.5-VL's.
        """
        key = blake2b(f"{digest} {limits}".encode(), digest_size=8).hexdigest()
        if key not in self._known:
            self._known[key] = self._render(
                Path("img") / key[:2] / f"{key}.webp", image, plan_views(*image.size, **limits)
            )
        return self._known[key]

    def _render(self, file: Path, image: Image.Image, plan: ViewPlan) -> Picture:
        views = [image] if plan.lowres_is_full else [image, render_lowres(image, plan)]
        sides = [max(plan.full_size), *(max(view.size) for view in views[1:])]
        pixels = sum(view.width * view.height for view in views)
        smallest = min(1.0, _SMALLEST / sides[0])
        scale = max(smallest, min(1.0, _LARGEST / sides[0], (self._budget / _DENSITY / pixels) ** 0.5))
        while True:
            # Both are reduced alike, or the low-res view would look better or worse than it is beside the whole image.
            parts = [_reduced(view, round(side * scale)) for view, side in zip(views, sides, strict=True)]
            sheet = _stacked(parts)
            # A small picture is worth more: what is a pixel wide must not be smoothed away.
            content = _encoded(sheet, _FINE if scale == 1 else _USUAL)
            if scale == 1 and len(content) > self._budget:
                content = _encoded(sheet, _USUAL)
            if len(content) <= self._budget or scale <= smallest:
                break
            # Bytes grow about with the area; a little less, so that the next try mostly fits.
            scale = max(smallest, scale * min(0.95, 0.95 * (self._budget / len(content)) ** 0.5))
        (self._folder / file).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / file).write_bytes(content)
        return Picture(
            file=file.as_posix(),
            sheet=sheet.size,
            whole=parts[0].size,
            lowres=parts[1].size if parts[1:] else None,
            lowres_top=parts[0].height + _MARGIN,
            size=image.size,
            full_size=plan.full_size,
            lowres_size=views[1].size if views[1:] else plan.full_size,
            scale=scale,
        )


def _reduced(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _stacked(parts: list[Image.Image]) -> Image.Image:
    """Put the parts below each other, at the left, `_MARGIN` px apart.

    The surroundings of a part repeat its outermost pixels: a browser that scales the part, and lossy compression, mix
    in neighbouring pixels.
    """
    width, half = max(part.width for part in parts), _MARGIN // 2
    rows = [
        np.pad(
            np.asarray(part),
            ((half if i else 0, half if i < len(parts) - 1 else 0), (0, width - part.width), (0, 0)),
            mode="edge",
        )
        for i, part in enumerate(parts)
    ]
    return Image.fromarray(np.concatenate(rows))


def _encoded(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality)
    return stream.getvalue()
