"""The ten crops: boxes against the released adapter's rules, areas, overlaps, and the target set of Eq. 3."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmms_awares.crops import CROPS, MIN_CROP_SIDE, check_ids, region_iou, target_crops, union_area

NAMES = ["top-left", "top-right", "bottom-left", "bottom-right", "center", "top", "bottom", "left", "right", "all"]
IDS = [*"012345678", "all"]
QUADRANTS = ("0", "1", "2", "3")
Box = tuple[int, int, int, int]


def released_boxes(width: int, height: int) -> dict[str, Box]:
    """The released adapter's rules: parts of max(100, side // 2) px, pushed into their corner or centred."""
    w, h = max(100, width // 2), max(100, height // 2)
    x, y = (width - w) // 2, (height - h) // 2
    return {
        "0": (0, 0, w, h),
        "1": (width - w, 0, width, h),
        "2": (0, height - h, w, height),
        "3": (width - w, height - h, width, height),
        "4": (x, y, (width + w) // 2, (height + h) // 2),
        "5": (0, 0, width, h),
        "6": (0, height - h, width, height),
        "7": (0, 0, w, height),
        "8": (width - w, 0, width, height),
        "all": (0, 0, width, height),
    }


def covered(width: int, height: int, boxes: list[Box]) -> np.ndarray:
    pixels = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = True
    return pixels


# ---------------------------------------------------------------- the set


def test_order_ids_and_names() -> None:
    assert list(CROPS) == IDS
    assert [crop.id for crop in CROPS.values()] == IDS
    assert [crop.name for crop in CROPS.values()] == NAMES


def test_check_ids_keeps_the_order_and_drops_duplicates() -> None:
    assert check_ids(["5", "0", "5", "all"]) == ("5", "0", "all")


@pytest.mark.parametrize(("ids", "named"), [([], "none"), (["9"], "9"), (["0", "top-left"], "top-left")])
def test_check_ids_refuses(ids: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_ids(ids)


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize("size", [(200, 200), (640, 480), (850, 600), (1700, 2200), (3840, 2160), (202, 10_000)])
def test_boxes_of_even_sizes_follow_the_released_rules(size: tuple[int, int]) -> None:
    assert {id: crop.box(*size) for id, crop in CROPS.items()} == released_boxes(*size)


@pytest.mark.parametrize("size", [(100, 100), (101, 101), (100, 640), (640, 100), (151, 150), (199, 199), (150, 1999)])
def test_boxes_where_the_minimum_side_rules(size: tuple[int, int]) -> None:
    width, height = size
    expected = released_boxes(width, height)
    boxes = {id: crop.box(width, height) for id, crop in CROPS.items()}
    for axis, length in enumerate(size):
        if length < 200:  # the other axis may be odd and long, where the released quadrants leave a gap
            for id in CROPS:
                assert (boxes[id][axis], boxes[id][axis + 2]) == (expected[id][axis], expected[id][axis + 2])
    assert all(right - left >= 100 and bottom - top >= 100 for left, top, right, bottom in boxes.values())


def test_hand_worked_boxes() -> None:
    assert CROPS["4"].box(640, 480) == (160, 120, 480, 360)
    assert CROPS["3"].box(640, 480) == (320, 240, 640, 480)
    assert CROPS["1"].box(150, 120) == (50, 0, 150, 100)
    assert CROPS["4"].box(150, 120) == (25, 10, 125, 110)
    assert CROPS["8"].box(100, 300) == (0, 0, 100, 300)


@pytest.mark.parametrize("size", [(99, 99), (99, 1000), (1000, 99), (1, 1), (100, 32)])
def test_image_with_a_side_below_100_gives_the_whole_image(size: tuple[int, int]) -> None:
    assert {crop.box(*size) for crop in CROPS.values()} == {(0, 0, *size)}


@pytest.mark.parametrize("size", [(101, 101), (201, 201), (203, 257), (333, 640), (640, 333), (1001, 199)])
@pytest.mark.parametrize("parts", [QUADRANTS, ("5", "6"), ("7", "8")], ids=["quadrants", "rows", "columns"])
def test_odd_sizes_have_no_gap(size: tuple[int, int], parts: tuple[str, ...]) -> None:
    boxes = [CROPS[id].box(*size) for id in parts]
    assert covered(*size, boxes).all()


@given(st.integers(100, 5000), st.integers(100, 5000))
def test_boxes_of_any_size(width: int, height: int) -> None:
    boxes = {id: crop.box(width, height) for id, crop in CROPS.items()}
    for left, top, right, bottom in boxes.values():
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert min(right - left, bottom - top) >= 100
        assert all(isinstance(value, int) for value in (left, top, right, bottom))
    # No gap, and never more than the spare pixel beyond the released part.
    for first, last, axis, length in (("7", "8", 0, width), ("5", "6", 1, height)):
        assert boxes[first][axis] == 0
        assert boxes[last][axis] <= boxes[first][axis + 2]
        assert boxes[last][axis + 2] == length
        for id in (first, last, "4"):
            part = boxes[id][axis + 2] - boxes[id][axis]
            assert 0 <= part - max(100, length // 2) <= length % 2
    # Quadrants are where the halves cross.
    for id, column, row in (("0", "7", "5"), ("1", "8", "5"), ("2", "7", "6"), ("3", "8", "6")):
        assert boxes[id] == (boxes[column][0], boxes[row][1], boxes[column][2], boxes[row][3])


def test_min_crop_side_is_a_parameter() -> None:
    assert MIN_CROP_SIDE == 100
    assert CROPS["3"].box(60, 40, min_crop_side=1) == (30, 20, 60, 40)
    assert CROPS["3"].box(60, 40, min_crop_side=30) == (30, 10, 60, 40)
    assert CROPS["3"].box(640, 480, min_crop_side=300) == (320, 180, 640, 480)
    assert CROPS["4"].box(640, 480, min_crop_side=400) == (120, 40, 520, 440)
    assert CROPS["0"].box(640, 480, min_crop_side=481) == (0, 0, 640, 480)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-5, 10), (0, 0)])
def test_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"1x1 pixels, got {size[0]}x{size[1]}"):
        CROPS["0"].box(*size)


# ---------------------------------------------------------------- areas and overlaps

AREAS = [
    (["0"], 0.25),
    (["4"], 0.25),
    (["5"], 0.5),
    (["8"], 0.5),
    (["all"], 1.0),
    (["0", "0"], 0.25),
    (["0", "3"], 0.5),
    (["0", "5"], 0.5),
    (["0", "4"], 0.4375),
    (["4", "5"], 0.625),
    (["5", "7"], 0.75),
    (["0", "1", "2"], 0.75),
    (["0", "1", "2", "3"], 1.0),
    (["5", "6"], 1.0),
    (["3", "all"], 1.0),
]


@pytest.mark.parametrize(("ids", "area"), AREAS, ids=["+".join(ids) for ids, _ in AREAS])
def test_union_area(ids: list[str], area: float) -> None:
    assert union_area(ids) == area
    assert union_area(reversed(ids)) == area


@given(st.lists(st.sampled_from(IDS), min_size=1))
@settings(deadline=None)
def test_union_area_is_the_share_of_covered_pixels(ids: list[str]) -> None:
    assert union_area(ids) == covered(400, 200, [CROPS[id].box(400, 200) for id in ids]).mean()


@pytest.mark.parametrize("ids", [[], ["9"], ["0", "top"]])
def test_union_area_refuses(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="crop ids"):
        union_area(ids)


OVERLAPS = [
    (["0"], ["0"], 1.0),
    (["0"], ["5"], 0.5),
    (["0"], ["7"], 0.5),
    (["0"], ["6"], 0.0),
    (["0"], ["3"], 0.0),
    (["0"], ["all"], 0.25),
    (["4"], ["all"], 0.25),
    (["0"], ["4"], 1 / 7),
    (["4"], ["5"], 0.2),
    (["5"], ["7"], 1 / 3),
    (["5"], ["all"], 0.5),
    (["0", "1"], ["5"], 1.0),
    (["0", "1", "2", "3"], ["all"], 1.0),
    (["0", "3"], ["0", "1"], 1 / 3),
]


@pytest.mark.parametrize(
    ("first", "second", "iou"), OVERLAPS, ids=["+".join(a) + " vs " + "+".join(b) for a, b, _ in OVERLAPS]
)
def test_region_iou(first: list[str], second: list[str], iou: float) -> None:
    assert region_iou(first, second) == region_iou(second, first) == pytest.approx(iou, abs=1e-12)


@pytest.mark.parametrize(("quadrant", "halves"), [("0", "57"), ("1", "58"), ("2", "67"), ("3", "68")])
def test_relaxed_match_of_the_paper(quadrant: str, halves: str) -> None:
    """For a quadrant target its two adjacent halves count as a match, and so does `all`; the other halves do not."""
    for half in "5678":
        assert (region_iou([quadrant], [half]) >= 0.25) == (half in halves)
    assert region_iou([quadrant], ["all"]) >= 0.25


@given(st.lists(st.sampled_from(IDS), min_size=1), st.lists(st.sampled_from(IDS), min_size=1))
def test_region_iou_agrees_with_areas(first: list[str], second: list[str]) -> None:
    union = union_area([*first, *second])
    intersection = union_area(first) + union_area(second) - union
    assert region_iou(first, second) == pytest.approx(intersection / union, abs=1e-12)


# ---------------------------------------------------------------- target crops

TARGETS = [
    ("iou: a quadrant and its halves", (0, 0, 500, 500), ("0", "5", "7"), "iou"),
    ("iou: a half, its quadrants, all", (0, 0, 1000, 500), ("0", "1", "5", "all"), "iou"),
    ("iou: center only", (250, 250, 750, 750), ("4",), "iou"),
    ("iou: the whole image", (0, 0, 1000, 1000), ("5", "6", "7", "8", "all"), "iou"),
    ("iou: partly outside", (-100, -100, 500, 500), ("0",), "iou"),
    ("contains: corner", (10, 10, 60, 60), ("0",), "contains"),
    ("contains: bottom right", (900, 900, 1000, 1000), ("3",), "contains"),
    ("contains: across the middle column", (480, 10, 520, 60), ("5",), "contains"),
    ("contains: across the middle row", (10, 480, 60, 520), ("7",), "contains"),
    ("contains: in the middle", (480, 480, 520, 520), ("4",), "contains"),
    ("contains: only all", (10, 480, 900, 520), ("all",), "contains"),
    ("contains: one pixel", (999, 0, 1000, 1), ("1",), "contains"),
    ("contains: fractions of a pixel", (0.25, 600.5, 0.5, 600.75), ("2",), "contains"),
    ("nearest: over the corner", (-50, -50, 100, 100), ("0",), "nearest"),
    ("nearest: over the far corner", (900, 900, 1100, 1100), ("3",), "nearest"),
    ("nearest: over the right edge", (950, 400, 1100, 600), ("8",), "nearest"),
]


@pytest.mark.parametrize(("box", "ids", "rule"), [row[1:] for row in TARGETS], ids=[row[0] for row in TARGETS])
def test_target_crops(box: tuple[float, float, float, float], ids: tuple[str, ...], rule: str) -> None:
    assert target_crops(box, (1000, 1000)) == (ids, rule)


def test_target_crops_takes_one_of_equally_small_ones() -> None:
    ids, rule = target_crops((300, 300, 400, 400), (1000, 1000))  # inside both the top-left quadrant and the center
    assert rule == "contains"
    assert ids in (("0",), ("4",))


@pytest.mark.parametrize(
    ("tau", "ids", "rule"),
    [
        (1.0, ("0",), "iou"),
        (0.51, ("0",), "iou"),
        (0.5, ("0", "5", "7"), "iou"),
        (0.25, ("0", "5", "7", "all"), "iou"),
        (1e-9, ("0", "4", "5", "7", "all"), "iou"),
    ],
)
def test_target_crops_at_other_thresholds(tau: float, ids: tuple[str, ...], rule: str) -> None:
    assert target_crops((0, 0, 500, 500), (1000, 1000), tau) == (ids, rule)


@pytest.mark.parametrize("size", [(99, 99), (80, 300), (300, 80), (1, 1)])
def test_target_of_a_tiny_image_is_all(size: tuple[int, int]) -> None:
    width, height = size
    assert target_crops((0, 0, width, height), size) == (("all",), "iou")
    assert target_crops((0, 0, width / 4, height / 4), size) == (("all",), "contains")
    assert target_crops((-width, -height, width / 4, height / 4), size) == (("all",), "nearest")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "no area"),
        ((10, 10, 20, 10), "no area"),
        ((20, 10, 10, 20), "no area"),
        ((20, 20, 10, 10), "no area"),
        ((1000, 0, 1100, 10), "outside"),
        ((-10, -10, 0, 0), "outside"),
        ((0, 2000, 10, 2010), "outside"),
    ],
)
def test_target_crops_refuses(box: Box, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        target_crops(box, (1000, 1000))
    assert str(box) in str(error.value)


def exact_iou(box: Box, other: Box) -> Fraction:
    width = max(min(box[2], other[2]) - max(box[0], other[0]), 0)
    height = max(min(box[3], other[3]) - max(box[1], other[1]), 0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return Fraction(width * height, areas - width * height)


@st.composite
def image_and_box(draw: st.DrawFn, outside: int = 0) -> tuple[tuple[int, int], Box]:
    size = draw(st.tuples(st.integers(1, 1200), st.integers(1, 1200)))
    spans = []
    for length in size:
        low = draw(st.integers(-outside, length - 1))
        spans.append((low, draw(st.integers(max(low, 0) + 1, length + outside))))
    return size, (spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def check_definition(size: tuple[int, int], box: Box) -> str:
    """Eq. 3 by brute force; crops that show the same pixels count once, as the largest of them."""
    boxes = {id: crop.box(*size) for id, crop in CROPS.items()}
    ids = list(CROPS)
    boxes = {id: b for k, (id, b) in enumerate(boxes.items()) if b not in [boxes[other] for other in ids[k + 1 :]]}
    iou = {id: exact_iou(box, b) for id, b in boxes.items()}
    area = {id: (b[2] - b[0]) * (b[3] - b[1]) for id, b in boxes.items()}
    holding = [id for id, b in boxes.items() if b[0] <= box[0] and b[1] <= box[1] and b[2] >= box[2] and b[3] >= box[3]]
    ids, rule = target_crops(box, size)
    if any(value >= Fraction(1, 2) for value in iou.values()):
        assert rule == "iou"
        assert ids == tuple(id for id in boxes if iou[id] >= Fraction(1, 2))
    elif holding:
        assert rule == "contains"
        assert len(ids) == 1
        assert ids[0] in holding
        assert area[ids[0]] == min(area[id] for id in holding)
    else:
        assert rule == "nearest"
        assert len(ids) == 1
        # The module compares floats: two crops that are equally near to 15 digits may stand for each other.
        assert float(iou[ids[0]]) == pytest.approx(float(max(iou.values())), rel=1e-12)
    return rule


@given(image_and_box())
@settings(max_examples=500)
def test_target_of_a_box_inside_satisfies_the_definition(case: tuple[tuple[int, int], Box]) -> None:
    assert check_definition(*case) in ("iou", "contains")


@given(image_and_box(outside=300))
@settings(max_examples=500)
def test_target_of_any_box_that_touches_the_image_satisfies_the_definition(case: tuple[tuple[int, int], Box]) -> None:
    assert check_definition(*case) in ("iou", "contains", "nearest")
