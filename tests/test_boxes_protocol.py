"""Calls for boxes: what the authors' released code made of them (recorded in `data/boxes`), and our own call."""

import json
import time
from pathlib import Path

import pytest

from lmms_awares.protocol import adaptvision, ergo, free_box
from lmms_awares.protocol.ergo import Ergo
from lmms_awares.protocol.free_box import FreeBox
from lmms_awares.tokens import budget_size, grid_size, thickened
from lmms_awares.views import plan_views

RECORDED = {
    name: json.loads((Path(__file__).parent / f"data/boxes/{name}.json").read_text())
    for name in ("adaptvision", "ergo")
}
CROP_LIMITS = 3136, 3840**2  # of AdaptVision's crops


def named(vector):
    return "{id}-{size[0]}x{size[1]}-{cap}".format(cap=vector.get("max_vision_token_num", ""), **vector)


@pytest.mark.parametrize("vector", RECORDED["adaptvision"]["vectors"], ids=named)
def test_adaptvision_reads_as_released(vector):
    call = adaptvision.parse_reply(vector["reply"])
    if vector["status"] == "answer":
        assert call is None
        return
    try:
        box = adaptvision.clamp(call.numbers, vector["view"])
    except (ValueError, OverflowError):
        box = None
    assert (box is None) == (vector["status"] in ("error", "crash"))
    if box:
        assert list(box) == vector["box"]
        assert list(grid_size(*thickened((box[2] - box[0], box[3] - box[1]), 3136), *CROP_LIMITS)) == vector["crop"]


@pytest.mark.parametrize("vector", RECORDED["ergo"]["vectors"], ids=named)
def test_ergo_reads_as_released(vector):
    call, size, cap = ergo.parse_reply(vector["reply"]), vector["size"], vector["max_vision_token_num"] * 784
    assert list(budget_size(*size, 3136, cap)) == vector["view"]
    parsed = [str(n) if n > 2**63 else n for n in call.numbers]
    assert (parsed or None) == vector["parsed"]
    if not parsed:
        assert vector["status"] == "whole"
        return
    try:
        box = ergo.locate(call.numbers, vector["view"], tuple(size))
        crop = budget_size(box[2] - box[0], box[3] - box[1], 3136, cap)
    except (ValueError, OverflowError):
        assert vector["status"] == "exception"
        return
    assert (vector["status"], vector["box"], vector["crop"]) == ("zoom", list(box), list(crop))


@pytest.mark.parametrize("case", RECORDED["ergo"]["geometry"], ids=lambda case: str(case["size"]))
def test_ergos_first_views(case):
    for cap in (640, 1280, 16384):
        assert list(budget_size(*case["size"], 3136, cap * 784)) == case[f"view_{cap}"]


@pytest.mark.parametrize("case", RECORDED["ergo"]["answers"], ids=lambda case: case["reply"])
def test_ergos_answers(case):
    assert Ergo().answer(["", case["reply"]]) == (case["extracted"] or case["reply"].strip())


PLAN = plan_views(640, 480)  # a full view of 644 x 476 px, a first one of 336 x 224


@pytest.mark.parametrize(
    ("reply", "status", "numbers"),
    [
        ("GET_CROPS: [1, 2, 30, 40]", "valid", (1, 2, 30, 40)),
        (" GET_CROPS: [1, 2, 30, 40]\n", "valid", (1, 2, 30, 40)),
        ("I call get_crops(1, 2, 30, 40) now", "recovered", (1, 2, 30, 40)),
        ("GET_CROPS: [[1.5, 2, 30, 40]]", "recovered", (1.5, 2, 30, 40)),
        ("GET_CROPS [1 2 30 40", "recovered", (1, 2, 30, 40)),
        ("GET_CROPS: ['0'] GET_CROPS: [1, 2, 30, 40]", "recovered", (1, 2, 30, 40)),
        ("GET_CROPS: [-5, 2, 30, 40]", "recovered", (-5, 2, 30, 40)),
        ("ＧＥＴ_ＣＲＯＰＳ：【1，2，30，40】", "recovered", (1, 2, 30, 40)),
        ("GET_CROPS: [1, 2, 30]", "invalid", ()),
        ("GET_CROPS: [1, 2, 30, 40, 50]", "invalid", ()),
        ("GET_CROPS: ['0', '5']", "invalid", ()),
        ("GET_CROPS: [a, b, c, d]", "invalid", ()),
        ("GET_CROPS: []", "invalid", ()),
    ],
)
def test_free_boxes(reply, status, numbers):
    call = free_box.parse_reply(reply)
    assert (call.status, call.numbers) == (status, numbers)


@pytest.mark.parametrize("reply", ["", "[1, 2, 30, 40]", "Get crops of wheat.", "7"])
def test_no_free_box(reply):
    assert free_box.parse_reply(reply) is None


def test_free_boxes_in_an_image():
    def placed(*corners):
        return FreeBox().place(free_box.parse_reply(free_box.format_call(corners)), PLAN)

    assert PLAN.first_size == (336, 224)
    whole = placed(0, 0, 336, 224)
    assert (whole.status, whole.ids, whole.note) == ("valid", ("box",), None)
    assert whole.box == pytest.approx((0, 0, 640, 480))
    assert PLAN.crop_tokens(whole.box) == PLAN.full_tokens
    clamped = placed(168, 112, 999, 999)
    assert (clamped.status, clamped.box) == ("recovered", pytest.approx((320, 240, 640, 480)))
    assert clamped.note == "box [168, 112, 999, 999] was clamped to the view of 336x224 px"
    for corners, why in {
        (90, 10, 20, 40): "is inverted",
        (20, 10, 20, 40): "has no area",
        (336, 10, 400, 40): "lies outside the view of 336x224 px",
    }.items():
        call = placed(*corners)
        assert (call.status, call.ids, call.box) == ("invalid", (), None)
        assert call.note.endswith(why)


def test_a_box_too_thin_for_the_processor_is_named():
    plan = plan_views(11200, 56)
    call = FreeBox().place(free_box.parse_reply("GET_CROPS: [0, 0, 5600, 1]"), plan)
    assert call.status == "invalid"
    assert "cannot be shown" in call.note


@pytest.mark.parametrize("part", ["<zoom>", "<tool_call>", "GET_CROPS: [", "GET_CROPS: 1, 1, 1 ", "[1, 1, 1, ", "1"])
def test_repetition_costs_linear_time(part):
    started = time.perf_counter()
    for text in (part * 30_000, f"<zoom>{part * 30_000}</zoom>", f"<tool_call>{part * 30_000}</tool_call>"):
        for read in (adaptvision.parse_reply, ergo.parse_reply, free_box.parse_reply):
            read(text)
    assert time.perf_counter() - started < 8


def test_own_prompts_state_the_calls():
    for text, read, write in (
        (adaptvision.OWN_PROMPTS["system"], adaptvision.parse_reply, adaptvision.format_call),
        (ergo.OWN_PROMPTS["turn1"], ergo.parse_reply, ergo.format_call),
        (free_box.OWN_PROMPT, lambda text: free_box.parse_reply(text.splitlines()[1]), free_box.format_call),
    ):
        call = read(text)
        assert call.status == "valid"
        assert text.replace(write(call.numbers), "") != text
