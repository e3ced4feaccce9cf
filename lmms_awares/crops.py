"""The ten crops of the AwaRes protocol: boxes, areas, overlaps and the target set of an evidence box (Eq. 3).

Every crop is a union of cells of a 4x4 grid, so areas and overlaps of *sets* of crops are exact bit arithmetic.
"""

from collections.abc import Iterable
from dataclasses import dataclass

Box = tuple[int, int, int, int]  # left, top, right, bottom; original pixels; right and bottom exclusive
FreeBox = tuple[float, float, float, float]  # the same, anywhere
Region = str | FreeBox  # id of one of the ten crops, or a box

MIN_CROP_SIDE = 100  # px, the released adapter's rule
IOU_THRESHOLD = 0.5  # tau of Eq. 3
_CELLS = 4


@dataclass(frozen=True)
class Crop:
    """One member of the crop set C (paper section 3.2).

    `columns` and `rows` are half-open ranges of quarter cells, e.g. (0, 2) for the left half.
    """

    id: str
    name: str
    columns: tuple[int, int]
    rows: tuple[int, int]

    def box(self, width: int, height: int, min_crop_side: int = MIN_CROP_SIDE) -> Box:
        """Return the pixels of this crop in a `width` x `height` image, as (left, top, right, bottom).

        A side is at least `min_crop_side` px where the image has that many; in an image with a side below
        `min_crop_side` every crop is the whole image. At odd sizes the right and bottom parts get the spare pixel, so
        that the quadrants cover the image.

        Raises:
            ValueError: for an image without pixels.

        Example:
            >>> CROPS["4"].box(640, 480)
            (160, 120, 480, 360)
        """
        if width < 1 or height < 1:
            raise ValueError(f"an image needs at least 1x1 pixels, got {width}x{height}")
        if min(width, height) < min_crop_side:
            return 0, 0, width, height
        left, right = _span(self.columns, width, min_crop_side)
        top, bottom = _span(self.rows, height, min_crop_side)
        return left, top, right, bottom

    @property
    def mask(self) -> int:
        """The 16 quarter cells that this crop covers, as bits."""
        return sum(1 << (row * _CELLS + column) for row in range(*self.rows) for column in range(*self.columns))


def _span(cells: tuple[int, int], length: int, min_side: int) -> tuple[int, int]:
    first, last = cells
    if last - first == _CELLS:
        return 0, length
    half = length // 2
    side = max(min_side, half)
    if first == 0:
        return 0, side
    if last == _CELLS:
        return min(half, length - side), length
    start = (length - side) // 2
    return start, start + side


_FIRST, _LAST, _MIDDLE, _WHOLE = (0, 2), (2, 4), (1, 3), (0, 4)
CROPS: dict[str, Crop] = {
    crop.id: crop
    for crop in (
        Crop("0", "top-left", _FIRST, _FIRST),
        Crop("1", "top-right", _LAST, _FIRST),
        Crop("2", "bottom-left", _FIRST, _LAST),
        Crop("3", "bottom-right", _LAST, _LAST),
        Crop("4", "center", _MIDDLE, _MIDDLE),
        Crop("5", "top", _WHOLE, _FIRST),
        Crop("6", "bottom", _WHOLE, _LAST),
        Crop("7", "left", _FIRST, _WHOLE),
        Crop("8", "right", _LAST, _WHOLE),
        Crop("all", "all", _WHOLE, _WHOLE),
    )
}


def check_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Return the ids in the order asked, duplicates dropped.

    Raises:
        ValueError: no id at all, an id that is not in `CROPS`, or a bare string, which would be read by letters.

    Example:
        >>> check_ids(["5", "0", "5"])
        ('5', '0')
    """
    if isinstance(ids, str):
        raise ValueError(f"crop ids must be a list, got the string {ids!r}")
    unique = tuple(dict.fromkeys(ids))
    unknown = [id for id in unique if id not in CROPS]
    if unknown or not unique:
        raise ValueError(f"crop ids must be among {list(CROPS)}, got {unknown or 'none'}")
    return unique


def _region(ids: Iterable[str]) -> int:
    mask = 0
    for id in check_ids(ids):
        mask |= CROPS[id].mask
    return mask


def union_area(ids: Iterable[str]) -> float:
    """Return the fraction of the image, 0..1, that the union of the crops covers (the paper's ||C||).

    Raises:
        ValueError: as `check_ids`.

    Example:
        >>> union_area(["0", "5"])  # the top-left quadrant lies inside the top half
        0.5
    """
    return _region(ids).bit_count() / _CELLS**2


def shown_area(regions: Iterable[Region], size: tuple[int, int] | None = None) -> float:
    """Return the fraction of an image, 0..1, that regions cover together: crops of the ten, or one box.

    Args:
        regions: ids, or a single box in px of the image; what lies outside the image covers nothing.
        size: (width, height) of the image in px; ids do not need it.

    Raises:
        ValueError: as `check_ids`, and for several boxes, a box beside ids, or one without `size`.

    Example:
        >>> shown_area([(0, 0, 320, 240)], (640, 480)), shown_area(["0", "5"], (640, 480))
        (0.25, 0.5)
    """
    given = list(regions)
    boxes = [region for region in given if not isinstance(region, str)]
    if not boxes:
        return union_area(region for region in given if isinstance(region, str))
    if len(given) > 1 or size is None:
        raise ValueError(f"an area needs crop ids, or one box and the image's size; got {given}, size {size}")
    (left, top, right, bottom), (width, height) = boxes[0], size
    inside = max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
    return max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1]) / (width * height)


def region_iou(ids: Iterable[str], others: Iterable[str]) -> float:
    """Return the intersection over union, 0..1, of the regions that two sets of crops cover (Supp. 9.1).

    Raises:
        ValueError: as `check_ids`.

    Example:
        >>> region_iou(["0"], ["5"])
        0.5
    """
    first, second = _region(ids), _region(others)
    return (first & second).bit_count() / (first | second).bit_count()


def region_box_iou(ids: Iterable[str], box: tuple[float, ...]) -> float:
    """Return the intersection over union, 0..1, of the region that crops cover and a box in fractions of the image.

    Raises:
        ValueError: as `check_ids`.

    Example:
        >>> region_box_iou(["0", "1"], (0.0, 0.0, 0.5, 0.5))
        0.5
    """
    mask, side = _region(ids), 1 / _CELLS
    shared = 0.0
    for cell in range(_CELLS**2):
        if mask >> cell & 1:
            row, column = divmod(cell, _CELLS)
            width = min(box[2], (column + 1) * side) - max(box[0], column * side)
            height = min(box[3], (row + 1) * side) - max(box[1], row * side)
            shared += max(width, 0) * max(height, 0)
    return shared / (mask.bit_count() * side**2 + _area(box) - shared)


def box_iou(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the intersection over union, 0..1, of two boxes (left, top, right, bottom) in the same unit.

    Example:
        >>> box_iou((0, 0, 2, 2), (0, 0, 2, 1))
        0.5
    """
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / (_area(box) + _area(other) - overlap)


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _contains(outer: tuple[float, ...], inner: tuple[float, ...]) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def target_crops(
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    tau: float = IOU_THRESHOLD,
    min_crop_side: int = MIN_CROP_SIDE,
) -> tuple[tuple[str, ...], str]:
    """Choose the crops to ask for when the evidence lies in `box` (paper Eq. 3, with a fallback for small boxes).

    Args:
        box: (left, top, right, bottom) in px of the image.
        size: (width, height) of the image in px.
        tau: IoU at which a crop counts as a target.
        min_crop_side: as in `Crop.box`.

    Returns:
        (ids, rule). Rule `iou`: every crop with IoU >= tau. Where no crop has that, `contains`: the smallest crop that
        holds the whole box. Where no crop holds the box, which then leaves the image, `nearest`: the highest IoU.

    Raises:
        ValueError: a box without area, or one that does not touch the image.

    Example:
        >>> target_crops((10, 10, 300, 200), (640, 480))
        (('0',), 'iou')
        >>> target_crops((10, 10, 30, 20), (640, 480))
        (('0',), 'contains')
    """
    width, height = size
    if not (box[0] < box[2] and box[1] < box[3]):  # also refuses NaN
        raise ValueError(f"the evidence box {box} has no area; expected left < right and top < bottom")
    if box_iou(box, (0, 0, width, height)) == 0:
        raise ValueError(f"the evidence box {box} lies outside the {width}x{height} image")
    boxes = {id: crop.box(width, height, min_crop_side) for id, crop in CROPS.items()}
    # On small images several crops show the same pixels: that is one target, named by the last, largest of them.
    named = {pixels: id for id, pixels in boxes.items()}
    boxes = {id: pixels for id, pixels in boxes.items() if named[pixels] == id}
    overlap = {id: box_iou(box, b) for id, b in boxes.items()}
    by_iou = tuple(id for id in boxes if overlap[id] >= tau)
    if by_iou:
        return by_iou, "iou"
    holding = [id for id in boxes if _contains(boxes[id], box)]
    if holding:
        return (min(holding, key=lambda id: _area(boxes[id])),), "contains"
    return (max(boxes, key=overlap.__getitem__),), "nearest"
