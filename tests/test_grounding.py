"""The oracle's stage: what replies say, which crops their boxes ask for, and what becomes of bad ones."""

import base64
import io
import json
from contextlib import ExitStack
from fractions import Fraction

import pytest
from curation_rows import STORED, Log, config, encoded, opened, row
from curation_server import FAULTS, PROSE, REFUSAL, Script, serving, text_of
from harness import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lmms_awares import images
from lmms_awares.crops import CROPS, target_crops
from lmms_awares.curation.asking import BadReplyError
from lmms_awares.curation.boxes import hull, read_boxes
from lmms_awares.curation.grounding import Grounding, Picture
from lmms_awares.curation.rows import GROUND, Rejected, read_rows, with_verdict, write_rows
from lmms_awares.errors import ConfigError

BOX = [10.0, 20.0, 300.0, 400.0]
ONE = {"question": [], "answer": [BOX]}
TWO = {"question": [[0.0, 0.0, 1000.0, 50.0]], "answer": [BOX, [500.0, 500.0, 600.0, 600.0]]}
READ = {
    '{"answer": [10, 20, 300, 400]}': ONE,
    '{"answer": [[10, 20, 300, 400]]}': ONE,
    '{"answer": [10.0, 20.0, 300.0, 400.0]}': ONE,
    '{"question": [], "answer": [[10, 20, 300, 400]]}': ONE,
    '{"question": null, "answer": [10, 20, 300, 400]}': ONE,
    "{'question': None, 'answer': (10, 20, 300, 400)}": ONE,
    "{'answer': [10, 20, 300, 400],}": ONE,
    '```json\n{"answer": [10, 20, 300, 400]}\n```': ONE,
    '```\n{"answer": [10, 20, 300, 400]}\n```\nThat is all.': ONE,
    'The answer [see row 2] stands here: {"answer": [10, 20, 300, 400]}.': ONE,
    'In {this image}: {"answer": [10, 20, 300, 400]}': ONE,
    '{"Answer": [10, 20, 300, 400]}': ONE,
    '{"answer_box": [10, 20, 300, 400]}': ONE,
    '{"answer region": [10, 20, 300, 400]}': ONE,
    '{"answer": "15", "answer_bbox": [10, 20, 300, 400]}': ONE,
    '{"answer": {"bbox_2d": [10, 20, 300, 400], "label": "15"}}': ONE,
    '{"answer": [{"bbox_2d": [10, 20, 300, 400]}]}': ONE,
    '[{"bbox_2d": [10, 20, 300, 400], "label": "answer"}]': ONE,
    '{"bbox_2d": [10, 20, 300, 400], "label": "the answer"}': ONE,
    '[{"label": "answer", "bbox": [10, 20, 300, 400]}]': ONE,
    '{"boxes": {"answer": [10, 20, 300, 400]}}': ONE,
    '{"answer": [[10, 20, 300, 400], [10, 20, 300, 400]]}': ONE,
    '{"reason": [1], "answer": [10, 20, 300, 400]}': ONE,
    '{"question": [0, 0, 1000, 50], "answer": [[10, 20, 300, 400], [500, 500, 600, 600]]}': TWO,
    '{"question": [0, 0, 1000, 50]}\n{"answer": [[10, 20, 300, 400], [500, 500, 600, 600]]}': TWO,
    json.dumps(
        [
            {"bbox_2d": [0, 0, 1000, 50], "label": "question"},
            {"bbox_2d": [10, 20, 300, 400], "label": "answer"},
            {"bbox_2d": [500, 500, 600, 600], "label": "answer region"},
        ]
    ): TWO,
}
BAD = {
    "": "empty reply",
    " \n": "empty reply",
    REFUSAL: "refusal",
    PROSE: "no boxes",
    "The answer stands at the top.": "no boxes",
    "[10, 20, 300, 400]": "no boxes",
    '{"bbox_2d": [10, 20, 300, 400], "label": "question and answer"}': "no boxes",
    '{"answer": [10, 20, 300': "no boxes",
    '{"answer": null}': "no boxes",
    '{"answer": []}': "no boxes",
    '{"answer": "top left"}': "no boxes",
    '{"question": [10, 20, 300, 400]}': "no answer box",
    '{"question": [10, 20, 300, 400], "answer": []}': "no answer box",
    '{"answer": [10, 20, 300]}': "not four numbers",
    '{"answer": [10, 20, 300, 400, 500]}': "not four numbers",
    '{"answer": ["10", "20", "300", "400"]}': "not four numbers",
    '{"answer": [10, 20, 300, null]}': "not four numbers",
    '{"answer": [[10, 20], [300, 400]]}': "not four numbers",
    '{"answer": [true, 20, 300, 400]}': "not four numbers",
    '{"answer": [10, 20, 300, 1001]}': "outside 0..1000",
    '{"answer": [-1, 20, 300, 400]}': "outside 0..1000",
    '{"answer": [10, 20, NaN, 400]}': "outside 0..1000",
    '{"answer": [10, 20, Infinity, 400]}': "outside 0..1000",
    '{"answer": [10, 20, 1' + "0" * 400 + ", 400]}": "outside 0..1000",
    '{"answer": [300, 20, 10, 400]}': "inverted box",
    '{"answer": [10, 400, 300, 20]}': "inverted box",
    '{"answer": [10, 20, 10, 400]}': "box without area",
    '{"answer": [10, 20, 300, 20]}': "box without area",
    '{"answer": [0.1, 0.2, 0.5, 0.6]}': "coordinates in 0..1",
    '{"answer": [0, 0, 1, 1]}': "coordinates in 0..1",
    '{"answer": [[10, 20, 300, 400], [300, 20, 10, 400]]}': "inverted box",
    "{'answer': __import__('os').getcwd()}": "no boxes",
    "[" * 15_000 + "]" * 15_000: "no boxes",
    "[" * 30_000: "no boxes",
}


@pytest.mark.parametrize(("text", "boxes"), READ.items())
def test_a_reply_with_boxes(text, boxes):
    assert read_boxes(text) == boxes


@pytest.mark.parametrize(("text", "reason"), BAD.items(), ids=[text[:40] for text in BAD])
def test_a_reply_without(text, reason):
    with pytest.raises(BadReplyError) as error:
        read_boxes(text)
    assert str(error.value) == reason


def test_the_kinds_that_are_needed():
    only = '{"question": [10, 20, 300, 400]}'
    assert read_boxes(only, ("question",)) == {"question": [BOX], "answer": []}
    with pytest.raises(BadReplyError, match="^no question box$"):
        read_boxes('{"answer": [10, 20, 300, 400]}', ("question", "answer"))


def test_hull():
    assert hull([BOX]) == BOX
    assert hull([[100, 700, 200, 800], [50, 750, 120, 900]]) == [50, 700, 200, 900]


# In thousandths of the image's sides, whose area is then 1. A quadrant and the center have 0.25, a half has 0.5. IoU of
# a box within a crop: its own area over the crop's.
TABLE = [
    ((0, 0, 500, 500), "0 5 7", "iou"),  # itself; .25/.5 of top and left
    ((500, 0, 1000, 500), "1 5 8", "iou"),
    ((0, 500, 500, 1000), "2 6 7", "iou"),
    ((500, 500, 1000, 1000), "3 6 8", "iou"),
    ((250, 250, 750, 750), "4", "iou"),  # quadrants .0625/.4375, halves .125/.625, all .25
    ((0, 0, 1000, 500), "0 1 5 all", "iou"),  # its quadrants and all: .5
    ((0, 500, 1000, 1000), "2 3 6 all", "iou"),
    ((0, 0, 500, 1000), "0 2 7 all", "iou"),
    ((500, 0, 1000, 1000), "1 3 8 all", "iou"),
    ((0, 0, 1000, 1000), "5 6 7 8 all", "iou"),  # halves .5
    ((0, 0, 400, 400), "0", "iou"),  # .16/.25 = .64; halves .32
    ((0, 0, 354, 354), "0", "iou"),  # .125316/.25 = .501
    ((0, 0, 353, 353), "0", "contains"),  # .124609/.25 = .498
    ((100, 100, 450, 460), "0", "iou"),  # .126/.25 = .504
    ((600, 100, 900, 400), "1", "contains"),  # .09/.25
    ((480, 480, 520, 520), "4", "contains"),  # over both middle lines: center, then all
    ((300, 300, 700, 700), "4", "iou"),  # .16/.25
    ((260, 260, 740, 740), "4", "iou"),  # .2304/.25
    ((10, 480, 60, 520), "7", "contains"),  # over the middle row, left of the center
    ((480, 10, 520, 60), "5", "contains"),
    ((480, 900, 520, 990), "6", "contains"),
    ((940, 480, 990, 520), "8", "contains"),
    ((10, 480, 900, 520), "all", "contains"),  # over both middle lines, wider than the center
    ((0, 0, 1000, 100), "5", "contains"),  # .1/.5
    ((0, 0, 1000, 250), "5", "iou"),  # .25/.5 exactly; quadrants .125/.375
    ((0, 750, 1000, 1000), "6", "iou"),
    ((0, 0, 250, 1000), "7", "iou"),
    ((750, 0, 1000, 1000), "8", "iou"),
    ((0, 0, 1000, 249), "5", "contains"),  # .249/.5
    ((0, 0, 700, 700), "0 5 7", "iou"),  # .25/.49 = .51; halves .35/.64 = .55; all .49; center .2025/.5375
    ((0, 0, 720, 720), "5 7 all", "iou"),  # quadrant .25/.5184 = .48; halves .36/.6584 = .55; all .5184
    ((200, 200, 800, 800), "4", "iou"),  # .25/.36 = .69; all .36; halves .18/.68
    ((100, 100, 900, 900), "all", "iou"),  # .64; center .25/.64 = .39; halves .32/.82
    ((146, 146, 854, 854), "all", "iou"),  # .501264; center .25/.501264 = .4987
    ((0, 300, 1000, 700), "all", "contains"),  # all .4; center .2/.45 = .44; halves .2/.7
    ((300, 0, 700, 1000), "all", "contains"),
    ((0, 0, 600, 400), "0", "iou"),  # .2/.29 = .69; top .24/.5 = .48
    ((0, 0, 625, 400), "0 5", "iou"),  # .2/.3 = .67; top .25/.5 exactly
    ((500, 500, 501, 501), "3", "contains"),  # within the center too, which is as small and comes later
    ((260, 260, 490, 490), "0", "contains"),  # .0529/.25 = .21; the same
]
REGIONS = {
    "0": (0, 0, 500, 500),
    "1": (500, 0, 1000, 500),
    "2": (0, 500, 500, 1000),
    "3": (500, 500, 1000, 1000),
    "4": (250, 250, 750, 750),
    "5": (0, 0, 1000, 500),
    "6": (0, 500, 1000, 1000),
    "7": (0, 0, 500, 1000),
    "8": (500, 0, 1000, 1000),
    "all": (0, 0, 1000, 1000),
}


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def by_fractions(box):
    """Eq. 3 with its fallbacks, in whole numbers."""
    found, holding = [], []
    for id, region in REGIONS.items():
        both = area((max(box[0], region[0]), max(box[1], region[1]), min(box[2], region[2]), min(box[3], region[3])))
        if Fraction(both, area(box) + area(region) - both) >= Fraction(1, 2):
            found.append(id)
        if both == area(box):
            holding.append(id)
    return (found, "iou") if found else ([min(holding, key=lambda id: area(REGIONS[id]))], "contains")


def test_the_table_was_worked_out_right():
    assert len(TABLE) == 40
    for box, ids, rule in TABLE:
        assert by_fractions(box) == (ids.split(), rule), box


@pytest.fixture
def served():
    """Start scripted servers; returns a function that gives a script and an oracle's settings."""
    with ExitStack() as stack:

        def start(reply=None, settings=(), **facts):
            models = {} if reply is None else {"models": {"oracle": reply, "judge": lambda body: "0"}}
            script = Script(bodies=[], **models, **facts)
            address = stack.enter_context(serving(script))
            return script, {"base_url": address, "model": "oracle", "concurrency": 16, **dict(settings)}

        yield start


def high(number=0, size=(800, 600), **columns):
    """An HR row."""
    return row(number, **{"image": {"bytes": encoded(picture(size)), "path": None}} | columns) | {"label": "HR"}


def numbered(body):
    """The box of the table that the question names."""
    number = int(text_of(body).split("Number ")[1].split("?")[0])
    return json.dumps({"answer": TABLE[number][0]})


def test_forty_boxes_to_targets(served):
    _, oracle = served(numbered)
    same = {"bytes": encoded(picture((800, 600))), "path": None}
    rows = [row(number, image=same) | {"label": "HR"} for number in range(40)]
    stage, _, _ = opened(Grounding, config(oracle=oracle))
    found = stage.process(rows)
    stage.close()
    for one, (box, ids, rule) in zip(found, TABLE, strict=True):
        assert (one["targets"], one["rule"]) == (ids.split(), rule), box
        assert one["boxes"] == {"question": [], "answer": [list(map(float, box))]}
        assert one["grounding"] == json.dumps({"answer": box})
    rows = [
        one | {"evidence_box": [box[0] * 4 / 5, box[1] * 3 / 5, box[2] * 4 / 5, box[3] * 3 / 5]}
        for one, (box, _, _) in zip(rows, TABLE, strict=True)
    ]
    for one, (box, ids, rule) in zip(opened(Grounding, config())[0].process(rows), TABLE, strict=True):
        assert (one["targets"], one["rule"]) == (ids.split(), rule), box
        assert one["boxes"]["answer"] == [pytest.approx(box)]


@st.composite
def image_and_box(draw):
    width, height = draw(st.integers(30, 1200)), draw(st.integers(30, 1200))
    sides = []
    for length in (width, height):
        low, high = sorted((draw(st.floats(0, length)), draw(st.floats(0, length))))
        sides.append((low, high) if high - low > 1e-3 else (0.0, float(length)))
    return (width, height), [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]


@given(image_and_box())
@settings(max_examples=300, deadline=None)
def test_every_target_covers_the_boxs_centre(case):
    (width, height), box = case
    stage, _, _ = opened(Grounding, config())
    blank = {"bytes": encoded(Image.new("L", (width, height))), "path": None}
    (found,) = stage.process([row(image=blank, evidence_box=box) | {"label": "HR"}])
    assert (tuple(found["targets"]), found["rule"]) == target_crops(tuple(box), (width, height))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for id in found["targets"]:
        left, top, right, bottom = CROPS[id].box(width, height)
        assert left - 1e-6 <= x <= right + 1e-6 and top - 1e-6 <= y <= bottom + 1e-6


def test_low_res_rows_need_nothing(served, tmp_path):
    script, oracle = served(numbered)
    stage, log, _ = opened(Grounding, config(oracle=oracle))
    found = stage.process([row(0) | {"label": "LR"}, high(1), row(2) | {"label": "LR"}])
    empty = {"boxes": {"question": [], "answer": []}, "targets": [], "rule": None}
    assert found[0] == found[2] == {**empty, "grounding": None, "oracle_model": None}
    assert found[1]["oracle_model"] == {
        "name": "oracle",
        "revision": "openai unknown",
        "prompt": stage.depends_on()["prompt"],
    }
    assert len(log) == script.record.requests == 1
    rows = [{"id": "1", **one, "reason": None, "detail": None} for one in found]
    write_rows(tmp_path / "shard.parquet", rows, with_verdict(GROUND))
    kept = [{key: one[key] for key in GROUND} for one in read_rows(tmp_path / "shard.parquet")]
    nobody = {"name": None, "revision": None, "prompt": None}
    assert [one["oracle_model"] or nobody for one in kept] == [one["oracle_model"] or nobody for one in found]
    assert [one | {"oracle_model": 0} for one in kept] == [one | {"oracle_model": 0} for one in found]


def both_kinds(body):
    return '{"question": [0, 0, 300, 300], "answer": [[600, 600, 700, 700], [800, 650, 950, 900]]}'


@pytest.mark.parametrize(
    ("box", "targets", "rule"),
    [
        ("answer", ["3"], "contains"),  # hull 600 600 950 900: .105/.25
        ("question", ["0"], "contains"),  # .09/.25
        ("union", ["5", "all"], "iou"),  # 0 0 950 900: all .855; top .475/.88 = .54; left .45/.905 = .497
    ],
)
def test_which_box_counts(served, box, targets, rule):
    _, oracle = served(both_kinds, settings={"box": box})
    (found,) = opened(Grounding, config(oracle=oracle))[0].process([high()])
    assert (found["targets"], found["rule"]) == (targets, rule)
    assert found["boxes"] == {"question": [[0, 0, 300, 300]], "answer": [[600, 600, 700, 700], [800, 650, 950, 900]]}


def test_tau(served):
    _, oracle = served(lambda body: '{"answer": [0, 0, 353, 353]}', settings={"tau": 0.49})
    (found,) = opened(Grounding, config(oracle=oracle))[0].process([high()])
    assert (found["targets"], found["rule"]) == (["0"], "iou")
    source = {"kind": "source", "tau": 0.49}
    (found,) = opened(Grounding, config(oracle=source))[0].process([high(evidence_box=[0, 0, 282, 212])])
    assert (found["targets"], found["rule"]) == (["0"], "iou")


def test_the_sources_own_box():
    boxes = {
        "inside": [40, 30, 240, 330],
        "partly outside": [-80, -60, 160, 150],
        "none": None,
        "outside": [900, 0, 1000, 100],
        "no area": [10, 10, 10, 20],
    }
    rows = [high(n, evidence_box=box, id=name) for n, (name, box) in enumerate(boxes.items())]
    rows.append(high(9, evidence_box=[0, 0, 9, 9], image={"bytes": b"no image", "path": None}))
    stage, log, _ = opened(Grounding, config())
    inside, partly, *rest = stage.process(rows)
    assert inside["boxes"] == {"question": [], "answer": [[50, 50, 300, 550]]}
    assert (inside["targets"], inside["rule"], inside["grounding"]) == (["7"], "contains", None)
    assert inside["oracle_model"] == {"name": "source", "revision": None, "prompt": None}
    assert partly["boxes"]["answer"] == [[0, 0, 200, 250]], "what lies outside is cut off"
    assert (partly["targets"], partly["rule"]) == (["0"], "nearest")
    assert [one.reason for one in rest] == [
        *["no evidence box", "bad evidence box", "bad evidence box", "unreadable image"]
    ]
    assert log == {}


def sent(body):
    """The image of a request: its media type and its bytes."""
    head, _, data = body["messages"][0]["content"][0]["image_url"]["url"].partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data)


def exif(turn):
    tags = Image.Exif()
    tags[0x0112] = turn
    return tags


PICTURE = picture((300, 200))
STORED_AS = {
    "png": (encoded(PICTURE), "image/png", True),
    "jpeg": (encoded(PICTURE, "JPEG"), "image/jpeg", True),
    "webp": (encoded(PICTURE, "WEBP"), "image/webp", True),
    "grey": (encoded(PICTURE.convert("L"), "JPEG"), "image/jpeg", True),
    "upright": (encoded(PICTURE, "JPEG", exif=exif(1)), "image/jpeg", True),
    "turned": (encoded(PICTURE, "JPEG", exif=exif(6)), "image/png", False),
    "mirrored": (encoded(PICTURE, "JPEG", exif=exif(2)), "image/png", False),
    "gif": (encoded(PICTURE.quantize(16), "GIF"), "image/png", False),
    "palette": (encoded(PICTURE.quantize(16)), "image/png", False),
    "transparent": (encoded(PICTURE.convert("RGBA")), "image/png", False),
    "cmyk": (encoded(PICTURE.convert("CMYK"), "JPEG"), "image/png", False),
}


@pytest.mark.parametrize(("stored", "kind", "same"), STORED_AS.values(), ids=STORED_AS)
def test_the_oracle_sees_the_pixels_that_models_see(served, stored, kind, same):
    script, oracle = served(lambda body: '{"answer": [0, 0, 1000, 500]}')
    stage, _, _ = opened(Grounding, config(oracle=oracle))
    (found,) = stage.process([high(image={"bytes": stored, "path": None})])
    (body,) = script.bodies
    assert sent(body)[0] == kind
    assert (sent(body)[1] == stored) == same
    seen = Image.open(io.BytesIO(sent(body)[1])).convert("RGB")
    upright = images.decode(stored)
    assert seen.tobytes() == upright.tobytes()
    assert Picture.of(stored).size == upright.size
    assert found["targets"] == ["0", "1", "5", "all"]


def high_of(image, number=0):
    return high(number, image={"bytes": image, "path": None})


def test_what_the_oracle_is_asked_and_when_again(served):
    script, oracle = served()
    log = Log()
    stage, _, _ = opened(Grounding, config(oracle=oracle), log)
    other = encoded(picture((400, 200), seed=1))
    rows = [high_of(STORED), high_of(STORED, 1), high_of(other), high_of(STORED)]
    rows[2]["question"] = rows[0]["question"]
    rows.append(high_of(STORED) | {"answers": ["16", "15"]})
    found = stage.process(rows)
    assert script.record.requests == 4, "one row is asked as another one is"
    assert found[0] == found[3]
    assert len({one["grounding"] for one in found}) == 4
    text = text_of(script.bodies[0])
    assert "<question>\nNumber 0?\n</question>\n<answer>\n15\n</answer>" in text
    assert text.rstrip().endswith('{"question": [[left, top, right, bottom]], "answer": [[left, top, right, bottom]]}')
    again, _, meter = opened(Grounding, config(oracle=oracle | {"box": "union", "tau": 0.6}), log)
    assert [one["boxes"] for one in again.process(rows)] == [one["boxes"] for one in found]
    assert script.record.requests == 4 and (meter.sent, meter.known) == (0, 5)


BAD_REPLIES = {"no boxes", "refusal", "outside 0..1000", "inverted box"}


def test_a_server_that_fails_in_every_way(served):
    rows = [high_of(STORED, number) for number in range(100)]
    rows[7]["image"] = rows[8]["image"] = {"bytes": STORED[:20], "path": None}
    _, clean = served()
    undisturbed = opened(Grounding, config(oracle=clean))[0].process(rows)
    script, oracle = served(faults=0.05, stall_s=20.0, settings={"request_timeout": 3.0})
    stage, log, _ = opened(Grounding, config(oracle=oracle))
    found = stage.process(rows)
    stage.close()
    assert set(script.record.faults) >= {*FAULTS} - {"storm"}, "storms are rare"
    for number, (one, other) in enumerate(zip(found, undisturbed, strict=True)):
        if number in (7, 8):
            assert one.reason == other.reason == "unreadable image"
        elif isinstance(one, Rejected):
            assert one.reason in BAD_REPLIES
        else:
            assert one == other
    assert sum(isinstance(one, Rejected) for one in found) < 12
    assert script.record.again == []
    assert script.record.finished == len(log)


def test_an_oracle_that_answers_badly_three_times(served):
    script, oracle = served(lambda body: '{"answer": [300, 20, 10, 400]}')
    (found,) = opened(Grounding, config(oracle=oracle))[0].process([high()])
    assert found == Rejected("inverted box", "3 replies, the last one: '{\"answer\": [300, 20, 10, 400]}'")
    assert [body.get("seed") for body in script.bodies] == [None, 1, 2]


def test_what_rows_depend_on():
    oracle = {"base_url": "http://a/v1", "model": "m"}

    def depends(**changed):
        return Grounding(config(oracle=oracle | changed), Log(), None).depends_on()

    assert depends(base_url="http://b/v1", concurrency=1, request_timeout=9, api_key_env="K", price=[1, 2]) == depends()
    different = [depends(), depends(model="n"), depends(box="union"), depends(tau=0.4)]
    assert all(one != other for n, one in enumerate(different) for other in different[:n])
    source = [Grounding(config(oracle={"kind": "source", "tau": t}), Log(), None).depends_on() for t in (0.5, 0.6)]
    assert source[0] != source[1]


def test_a_model_without_eyes_is_found_before_the_first_row(served):
    script, oracle = served()
    script.blind = True
    with pytest.raises(ConfigError, match="oracle: the server refuses it: .*takes no image"):
        opened(Grounding, config(oracle=oracle))
    with pytest.raises(ConfigError, match="oracle: model=qwen is not served at .*; its models: judge"):
        opened(Grounding, config(oracle=oracle | {"model": "qwen"}))
