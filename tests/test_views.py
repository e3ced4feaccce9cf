"""Views of an image: token counts against known tables and the real image processor, pixels against Qwen's loader."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lmms_awares.crops import CROPS
from lmms_awares.tokens import LOADER_TOKENS, count_visual_tokens, grid_size
from lmms_awares.views import ViewPlan, plan_views, render_crop, render_full, render_lowres

TOKEN = 28 * 28
CAPPED = (32 * TOKEN, 1_605_632)  # the released adapter's limits; 2048 tokens at most
WIDE = (4 * TOKEN, 12_845_056)  # the published checkpoints' limits; 16384 tokens at most

# Worked out once with the real image processor. Per row: N_full, then N_low from halves of the original pixels, then
# the RTR of that low-res view with the top-left quadrant, the top half and the full view.
TABLE = [
    ("chartqa", (850, 600), CAPPED, 630, 165, 0.524, 0.786, 1.262),
    ("docvqa", (1700, 2200), CAPPED, 1989, 1170, 1.176, 1.602, 1.588),
    ("ocrbench strip", (100, 32), CAPPED, 40, 40, 2.0, 2.0, 2.0),
    ("ocrbench line", (200, 64), CAPPED, 40, 40, 2.0, 2.0, 2.0),
    ("photo", (512, 384), CAPPED, 252, 63, 0.500, 0.750, 1.250),
    ("pope", (640, 480), CAPPED, 391, 99, 0.506, 0.783, 1.253),
    ("realworldqa", (1920, 1080), CAPPED, 1980, 646, 0.653, 0.988, 1.326),
    ("vstar", (2250, 1500), CAPPED, 1980, 1080, 1.091, 1.570, 1.545),
    ("4k", (3840, 2160), CAPPED, 1980, 1980, 2.000, 2.030, 2.000),
    ("chartqa", (850, 600), WIDE, 630, 165, 0.524, 0.786, 1.262),
    ("docvqa", (1700, 2200), WIDE, 4819, 1170, 0.486, 0.736, 1.243),
    ("ocrbench strip", (100, 32), WIDE, 4, 8, 3.0, 3.0, 3.0),
    ("ocrbench line", (200, 64), WIDE, 14, 4, 1.286, 1.286, 1.286),
    ("photo", (512, 384), WIDE, 252, 63, 0.500, 0.750, 1.250),
    ("pope", (640, 480), WIDE, 391, 99, 0.506, 0.783, 1.253),
    ("realworldqa", (1920, 1080), WIDE, 2691, 646, 0.480, 0.727, 1.240),
    ("vstar", (2250, 1500), WIDE, 4320, 1080, 0.500, 0.750, 1.250),
    ("4k", (3840, 2160), WIDE, 10549, 2691, 0.510, 0.762, 1.255),
]
CASES = [row[1:3] for row in TABLE]
NAMES = [f"{row[0]}-{'capped' if row[2] is CAPPED else 'wide'}" for row in TABLE]
TINY = {(100, 32), (200, 64)}


@lru_cache
def processor(min_pixels: int, max_pixels: int):
    from transformers import Qwen2VLImageProcessor

    return Qwen2VLImageProcessor(min_pixels=min_pixels, max_pixels=max_pixels)


def process(image: Image.Image, plan: ViewPlan):
    return processor(plan.min_pixels, plan.max_pixels)(images=[image], return_tensors="pt")


def real_tokens(image: Image.Image, plan: ViewPlan) -> int:
    return int(process(image, plan)["image_grid_thw"].prod()) // 4


def plain(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (90, 120, 30))


def noisy(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    width, height = size
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def plan_of(size: tuple[int, int], limits: tuple[int, int], **options) -> ViewPlan:
    return plan_views(*size, min_pixels=limits[0], max_pixels=limits[1], **options)


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_table_of_raw_counts(row: tuple) -> None:
    _, (width, height), limits, full, low, quadrant_rtr, half_rtr, full_rtr = row
    plan = plan_of((width, height), limits, lowres_base="raw")
    assert plan.full_tokens == count_visual_tokens(width, height, *limits) == full
    assert count_visual_tokens(int(width / 2), int(height / 2), *limits) == low
    assert plan.lowres_is_full == (low >= full)
    assert plan.lowres_tokens == (full if plan.lowres_is_full else low)
    rtr = [round((low + plan.crop_tokens(id)) / full, 3) for id in ("0", "5", "all")]
    assert rtr == [quadrant_rtr, half_rtr, full_rtr]


@pytest.mark.parametrize("base", ["raw", "processed"])
@pytest.mark.parametrize(("size", "limits"), CASES, ids=NAMES)
def test_counts_are_those_of_the_real_processor(size: tuple[int, int], limits: tuple[int, int], base: str) -> None:
    plan, image = plan_of(size, limits, lowres_base=base), plain(size)
    assert real_tokens(render_lowres(image, plan), plan) == plan.lowres_tokens
    for id in ("0", "4", "6", "8"):
        assert real_tokens(render_crop(image, plan, id), plan) == plan.crop_tokens(id)
    if base == "processed":  # the full view is the same in both; it is the expensive one
        full = render_full(image, plan)
        assert real_tokens(full, plan) == plan.full_tokens == plan.crop_tokens("all")
        assert full.size == plan.full_size or limits == CAPPED


@pytest.mark.parametrize(("size", "limits"), CASES, ids=NAMES)
def test_processed_lowres_is_a_quarter(size: tuple[int, int], limits: tuple[int, int]) -> None:
    plan = plan_of(size, limits)
    assert plan.lowres_base == "processed"
    rtr = plan.lowres_tokens / plan.full_tokens
    if size in TINY:
        assert rtr <= 1
    else:
        assert not plan.lowres_is_full
        assert 0.238 <= round(rtr, 3) <= 0.261


@pytest.mark.parametrize(("size", "limits"), CASES, ids=NAMES)
def test_processed_crops_have_the_density_of_the_full_view(size: tuple[int, int], limits: tuple[int, int]) -> None:
    plan = plan_of(size, limits)
    if size in TINY:  # below 100 px: every crop is the whole image
        assert {plan.crop_tokens(id) for id in CROPS} == {plan.full_tokens}
        return
    for id, share in (("0", 0.25), ("4", 0.25), ("5", 0.5), ("7", 0.5), ("all", 1.0)):
        assert plan.crop_tokens(id) / plan.full_tokens == pytest.approx(share, rel=0.1)


def test_tiny_image_uses_the_full_view_once() -> None:
    plan, image = plan_of((100, 32), WIDE), noisy((100, 32))
    assert plan.lowres_is_full
    assert plan.lowres_tokens == plan.full_tokens == 4
    assert render_lowres(image, plan).tobytes() == render_full(image, plan).tobytes()
    assert render_crop(image, plan, "3").tobytes() == render_full(image, plan).tobytes()


def test_default_limits_are_those_of_the_published_checkpoints() -> None:
    assert tuple(tokens * TOKEN for tokens in LOADER_TOKENS) == WIDE
    plan = plan_views(640, 480)
    assert (plan.min_pixels, plan.max_pixels, plan.lowres_base, plan.min_crop_side) == (*WIDE, "processed", 100)


# ---------------------------------------------------------------- any size and limits

sides = st.integers(1, 6000)
any_size = st.tuples(sides, sides).filter(lambda size: max(size) <= 200 * min(size))
any_limits = st.tuples(st.integers(1, 20_000), st.integers(0, 20_000)).map(
    lambda tokens: (tokens[0] * TOKEN, (tokens[0] + tokens[1]) * TOKEN)
)


@given(any_size, any_limits)
@settings(deadline=None)
def test_count_is_the_processors_own(size: tuple[int, int], limits: tuple[int, int]) -> None:
    width, height = size
    kwargs = {"min_pixels": limits[0], "max_pixels": limits[1]}
    patches = processor(*WIDE).get_number_of_image_patches(height, width, kwargs)
    assert count_visual_tokens(width, height, *limits) == patches // 4
    columns, rows = grid_size(width, height, *limits)
    assert columns % 28 == rows % 28 == 0
    assert columns * rows == patches // 4 * TOKEN


small = st.integers(20, 420)
small_size = st.tuples(small, small)
LIMITS = [WIDE, (32 * TOKEN, 2048 * TOKEN), (4 * TOKEN, 24 * TOKEN), (64 * TOKEN, 256 * TOKEN)]


@given(
    small_size,
    st.sampled_from(LIMITS),
    st.sampled_from(["raw", "processed"]),
    st.lists(st.sampled_from(list(CROPS)), min_size=1, unique=True),
    st.sampled_from([1, 100, 150]),
)
@settings(deadline=None, max_examples=60)
def test_rendered_views_cost_what_the_plan_says(
    size: tuple[int, int], limits: tuple[int, int], base: str, ids: list[str], min_crop_side: int
) -> None:
    plan, image = plan_of(size, limits, lowres_base=base, min_crop_side=min_crop_side), plain(size)
    views = [render_full(image, plan), render_lowres(image, plan), *(render_crop(image, plan, id) for id in ids)]
    expected = [plan.full_tokens, plan.lowres_tokens, *(plan.crop_tokens(id) for id in ids)]
    assert [real_tokens(view, plan) for view in views] == expected
    together = processor(*limits)(images=views, return_tensors="pt")["image_grid_thw"]
    assert int(together.prod(dim=1).sum()) // 4 == sum(expected)
    assert plan.lowres_tokens <= plan.full_tokens


def test_equal_limits_still_cost_what_the_plan_says() -> None:
    """A fixed number of pixels: rounding to the grid falls below the minimum, so the processor must not round again."""
    limits = (16 * TOKEN, 16 * TOKEN)
    plan, image = plan_of((300, 200), limits), plain((300, 200))
    assert plan.full_tokens == real_tokens(image, plan)
    assert real_tokens(render_full(image, plan), plan) == plan.full_tokens
    assert real_tokens(render_lowres(image, plan), plan) == plan.lowres_tokens


# ---------------------------------------------------------------- requests


def test_requested_on_an_image_that_can_be_cropped() -> None:
    plan = plan_views(640, 480)
    assert plan.requested(("5", "0", "5")) == ("5", "0")
    assert plan.requested(("all", "0")) == ("all", "0")


@pytest.mark.parametrize("size", [(99, 640), (640, 99), (50, 50), (1, 1)])
def test_requested_on_a_tiny_image_is_one_full_view(size: tuple[int, int]) -> None:
    plan = plan_views(*size)
    assert plan.requested(("0",)) == ("all",)
    assert plan.requested(("5", "0", "all")) == ("all",)
    assert {plan.crop_box(id) for id in CROPS} == {(0, 0, *size)}
    assert {plan.crop_tokens(id) for id in CROPS} == {plan.full_tokens}


def test_requested_names_only_the_crops_that_are_whole_all() -> None:
    plan = plan_views(100, 640)  # one column: the left half is the whole image, the top half is not
    assert plan.requested(("5", "7", "8")) == ("5", "all")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0, "height": 10}, "got 0x10"),
        ({"width": 10, "height": 0}, "got 10x0"),
        ({"width": -1, "height": 10}, "got -1x10"),
        ({"width": 2011, "height": 10}, "aspect ratio must be smaller than 200, got 201.1"),
        ({"width": 10, "height": 2011}, "aspect ratio must be smaller than 200, got 201.1"),
        ({"min_pixels": 5000, "max_pixels": 4000}, "got 5000 and 4000"),
        ({"min_pixels": 0}, "got 0 and"),
        ({"lowres_base": "half"}, "got 'half'"),
        ({"lowres_base": None}, "got None"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_plan_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_views(**({"width": 640, "height": 480} | arguments))


@pytest.mark.parametrize("id", ["9", "top-left"])
@pytest.mark.parametrize("method", ["crop_tokens", "requested", "crop_box", "crop_size", "render_crop"])
def test_unknown_crop_is_refused(id: str, method: str) -> None:
    plan = plan_views(640, 480)
    with pytest.raises(ValueError, match="crop ids must be among") as error:
        if method == "render_crop":
            render_crop(plain((640, 480)), plan, id)
        elif method == "requested":
            plan.requested(("0", id))
        else:
            getattr(plan, method)(id)
    assert repr(id) in str(error.value)


@pytest.mark.parametrize("base", ["raw", "processed"])
@pytest.mark.parametrize("size", [(6150, 41), (600, 3), (200, 30_100)], ids=str)
def test_thin_strip_is_refused_at_once_or_counted(size: tuple[int, int], base: str) -> None:
    """Halving and rounding to the grid can push a view over the ratio of 200 that the image itself keeps."""
    try:
        plan = plan_views(*size, lowres_base=base)
    except ValueError as error:
        assert "aspect ratio" in str(error)
    else:
        assert 0 < plan.lowres_tokens <= plan.full_tokens
        assert all(plan.crop_tokens(id) > 0 for id in CROPS)


# ---------------------------------------------------------------- pixels


def fetched(image: Image.Image) -> Image.Image:
    from qwen_vl_utils import fetch_image

    return fetch_image({"image": image})


@pytest.mark.parametrize("size", [(640, 480), (850, 600), (100, 32), (33, 41), (20, 300), (28, 28)])
def test_full_view_below_the_cap_has_the_loaders_pixels(size: tuple[int, int]) -> None:
    image = noisy(size)
    expected = fetched(image)
    full = render_full(image, plan_views(*size))
    assert full.size == expected.size == plan_views(*size).full_size
    assert full.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [(1210, 900), (900, 1350)])
def test_capped_full_view_gives_the_model_the_same_values_as_the_loader(size: tuple[int, int]) -> None:
    image = noisy(size)
    plan = plan_of(size, (4 * TOKEN, 300 * TOKEN))
    assert plan.full_tokens < count_visual_tokens(*size, *WIDE)
    expected, got = process(fetched(image), plan), process(render_full(image, plan), plan)
    assert torch.equal(got["image_grid_thw"], expected["image_grid_thw"])
    assert torch.equal(got["pixel_values"], expected["pixel_values"])


def test_full_view_keeps_its_count_where_the_loaders_own_rounding_would_change_it() -> None:
    size = (1200, 900)
    image, plan = noisy(size), plan_of(size, (4 * TOKEN, 300 * TOKEN))
    assert real_tokens(fetched(image), plan) == 280
    assert real_tokens(render_full(image, plan), plan) == real_tokens(image, plan) == plan.full_tokens == 300


def test_docvqa_page_under_the_released_cap_has_the_loaders_values() -> None:
    image, plan = noisy((1700, 2200)), plan_of((1700, 2200), CAPPED)
    expected, got = process(fetched(image), plan), process(render_full(image, plan), plan)
    assert torch.equal(got["pixel_values"], expected["pixel_values"])


def test_crop_shows_its_part_of_the_original() -> None:
    image = Image.new("RGB", (560, 560))
    colours = {"0": (255, 0, 0), "1": (0, 255, 0), "2": (0, 0, 255), "3": (255, 255, 0)}
    plan = plan_views(560, 560)
    for id, colour in colours.items():
        image.paste(colour, plan.crop_box(id))
    for id, colour in colours.items():
        crop = render_crop(image, plan, id)
        assert crop.size == (280, 280)
        assert crop.getcolors() == [(280 * 280, colour)]
    assert render_crop(image, plan, "all").tobytes() == render_full(image, plan).tobytes()
    assert render_crop(image, plan, "5").getpixel((10, 10)) == colours["0"]
    assert render_crop(image, plan, "5").getpixel((550, 10)) == colours["1"]


def test_raw_crop_keeps_every_original_pixel_under_a_low_cap() -> None:
    image = noisy((560, 560))
    plan = plan_of((560, 560), (4 * TOKEN, 100 * TOKEN), lowres_base="raw")
    assert plan.full_size == (280, 280)
    assert render_crop(image, plan, "3").tobytes() == image.crop((280, 280, 560, 560)).tobytes()


@pytest.mark.parametrize("base", ["raw", "processed"])
@pytest.mark.parametrize("id", ["0", "4", "8"])
def test_crop_does_not_depend_on_pixels_outside_its_box(id: str, base: str) -> None:
    plan = plan_of((590, 430), (4 * TOKEN, 100 * TOKEN), lowres_base=base)
    image, other = noisy((590, 430)), plain((590, 430))
    other.paste(image.crop(plan.crop_box(id)), plan.crop_box(id))
    assert render_crop(image, plan, id).tobytes() == render_crop(other, plan, id).tobytes()
