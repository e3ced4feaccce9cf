"""The picture of a row: from what a source stores to what a curated set holds.

cell ─► files ─► upright RGB ─► joined ─► capped ─► encoded
                     └─► pixel hashes, one per file
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from lmms_awares import images
from lmms_awares.curation.rows import Rejected
from lmms_awares.curation.sources import Box

_GAP = 28  # px of white between joined images
_ROUNDING = 1.0  # px that a box may stand out: what adding and scaling does to it
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Picture:
    """A row's picture.

    Attributes:
        image: upright, RGB.
        parts: what it is made of, upright, RGB.
        own: the file's own bytes; None where there were several.
        lossy: all of its files are JPEG.
    """

    image: Image.Image
    parts: tuple[Image.Image, ...]
    own: bytes | None
    lossy: bool


def pixel_hash(image: Image.Image) -> str:
    """Hash size and RGB pixels to a hex sha256; the file's format does not matter.

    Example:
        >>> pixel_hash(Image.new("RGB", (2, 1)))[:8]
        '02f09f18'
    """
    return sha256(f"{image.width}x{image.height} ".encode() + image.tobytes()).hexdigest()


def load(cell: Any, folder: Path, several: str) -> Picture | Rejected:
    """Load what an image column holds.

    Args:
        cell: bytes, a path, a struct of both, or a list of these.
        folder: where relative paths start.
        several: join | drop, where there are several images.
    """
    cells = cell if isinstance(cell, list) else [cell]
    encoded = [_bytes(one, folder) for one in cells]
    found = [one for one in encoded if one is not None]
    if not found or len(found) < len(cells):
        return Rejected("no image", _missing(cells, encoded))
    if len(found) > 1 and several == "drop":
        return Rejected("several images", f"{len(found)} images")
    try:
        parts = tuple(images.decode(one) for one in found)
    except (OSError, ValueError) as error:
        return Rejected("corrupt image", str(error)[:160])
    lossy = all(one.startswith(_JPEG) for one in found)
    if len(parts) == 1:
        return Picture(parts[0], parts, found[0], lossy)
    return Picture(join(parts), parts, None, lossy)


def _bytes(cell: Any, folder: Path) -> bytes | None:
    if isinstance(cell, dict):
        return _bytes(cell.get("bytes") or cell.get("path"), folder)
    if isinstance(cell, str) and cell.strip():
        try:
            return (folder / cell).read_bytes()
        except (OSError, ValueError):  # a NUL in a path is the latter
            return None
    return cell or None if isinstance(cell, bytes) else None


def _missing(cells: Sequence[Any], found: Sequence[bytes | None]) -> str:
    for cell, one in zip(cells, found, strict=True):
        if one is None:
            path = cell.get("path") if isinstance(cell, dict) else cell
            return f"no file {path[:120]}" if isinstance(path, str) and path.strip() else "the cell is empty"
    return "the list is empty"


def join(parts: Sequence[Image.Image]) -> Image.Image:
    """Put images side by side in one picture: none is scaled, all begin at the top, on white, 28 px between them.

    Args:
        parts: RGB.

    Example:
        >>> join([Image.new("RGB", (10, 10)), Image.new("RGB", (20, 5))]).size
        (58, 10)
    """
    width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
    page = Image.new("RGB", (width, max(part.height for part in parts)), (255, 255, 255))
    left = 0
    for part in parts:
        page.paste(part, (left, 0))
        left += part.width + _GAP
    return page


def fitting(box: Box, size: tuple[int, int]) -> Box | Rejected:
    """Compare a box with the image that it should be in; what stands out by a px at most is cut off.

    Args:
        size: width, height in px.

    Example:
        >>> fitting((0.0, 0.0, 10.4, 5.0), (10, 10))
        (0.0, 0.0, 10.0, 5.0)
    """
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        return Rejected("box inverted", f"{box}")
    if left < -_ROUNDING or top < -_ROUNDING or right > size[0] + _ROUNDING or bottom > size[1] + _ROUNDING:
        return Rejected("box outside the image", f"{box} in {size[0]}x{size[1]}")
    cut = max(left, 0.0), max(top, 0.0), min(right, float(size[0])), min(bottom, float(size[1]))
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else Rejected("box outside the image", f"{box}")


def capped(picture: Picture, box: Box | None, max_side: int) -> tuple[bytes, Box | None]:
    """Encode a picture with at most `max_side` px a side, and scale its box.

    A single image that is small enough keeps its file's bytes. What is scaled or joined becomes PNG, or JPEG of quality
    95 with full chroma where it comes from JPEG files only.
    """
    image = picture.image
    longest = max(image.size)
    if longest <= max_side:
        return picture.own or _encode(image, picture.lossy), box
    width, height = (max(1, round(side * max_side / longest)) for side in image.size)
    across, down = width / image.width, height / image.height
    scaled = None if box is None else (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return _encode(image.resize((width, height), Image.Resampling.LANCZOS), picture.lossy), scaled


def _encode(image: Image.Image, lossy: bool) -> bytes:
    file = io.BytesIO()
    if lossy:
        image.save(file, "JPEG", quality=95, subsampling=0)
    else:
        image.save(file, "PNG", compress_level=1)  # the usual level takes longer than all the rest
    return file.getvalue()
