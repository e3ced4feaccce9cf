"""Calls for boxes: what the authors' released code made of them (recorded in `data/boxes`), and our own call."""

import json
from pathlib import Path

import pytest

from lmms_awares.protocol import adaptvision, ergo
from lmms_awares.tokens import budget_size, grid_size, thickened

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
