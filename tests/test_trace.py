"""The trace: its envelope survives any answer and lmms-eval's tag stripping; what cannot be read says why."""

import json
import re

import pytest
from harness import CONDITIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from lmms_eval.api.reasoning import strip_reasoning_tags

from lmms_awares.envelope import seal, unseal
from lmms_awares.trace import SCHEMA_VERSION, CropTrace, ToolCallTrace, Trace, TraceError, TurnTrace, parse_trace

TAGS = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]


def make_trace(text: str = "GET_CROPS: ['0', '5']", **changes: object) -> Trace:
    """A sample with a call; `text` stands wherever the model's own words are recorded."""
    fields: dict = {
        "model": "awares",
        "policy": "model",
        "method": "awares",
        "view": "lowres",
        "prompt": "own",
        "image_size": (640, 480),
        "images": 1,
        "full_tokens": 391,
        "lowres_tokens": 96,
        "crops": [CropTrace(id="0", tokens=96), CropTrace(id="5", tokens=184)],
        "visual_tokens": 376,
        "visual_tokens_processed": 376,
        "rtr": 376 / 391,
        "tool_call": ToolCallTrace(status="valid", ids=["0", "5"], text=text),
        "turns": [
            TurnTrace(text=text, new_tokens=9, seconds=0.125),
            TurnTrace(text=text, new_tokens=2, seconds=0.5),
        ],
        "preprocess_s": 0.1,
        "latency_s": 0.625,
        "response_chars": 2 * len(text),
        "conditions": CONDITIONS,
    }
    return Trace(**(fields | changes))


ENVELOPE = seal("", make_trace())
MARKERS = re.findall(r"<[^<>]*>", ENVELOPE)
ANSWERS = {
    "plain": "5",
    "empty": "",
    "blank": " ",
    "trailing blanks": "5  ",
    "trailing newlines": "5\n\n",
    "leading blanks": "\n 5",
    "opening marker": f"say {MARKERS[0]} twice {MARKERS[0]}",
    "closing marker": f"say {MARKERS[-1]}",
    "both markers": f"{MARKERS[0]}{{}}{MARKERS[-1]}",
    "closing then opening": MARKERS[-1] + MARKERS[0],
    "a whole envelope": ENVELOPE,
    "end of thought": "hmm</think>5",
    "start of thought": "<think>hmm",
    "thought": "<think>hmm</think>5",
    "less than": "1 < 2 <",
    "broken marker": MARKERS[0][:-1],
    "unicode": "答案是 5，الجواب 🔍 é\u0301",
    "line separators": "a\u2028b\u2029c\x85d\x0b\x0ce",
    "null": "\0",
    "JSON": '{"schema_version": 1}',
    "backslashes": r"\u003c \\ \n",
}


# ---------------------------------------------------------------- round trip


def test_envelope_has_two_markers_and_nothing_else_in_angles() -> None:
    assert len(MARKERS) == 2
    assert ENVELOPE.startswith(MARKERS[0] + "{")
    assert ENVELOPE.endswith("}" + MARKERS[1])


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answer_round_trip(answer: str) -> None:
    trace = make_trace()
    assert unseal(seal(answer, trace)) == (answer, trace)


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS)
def test_recorded_text_round_trip(text: str) -> None:
    trace = make_trace(text)
    answer, got = unseal(seal("5", trace))
    assert (answer, got) == ("5", trace)
    assert got is not None
    assert got.turns[0].text == text


def test_sealing_leaves_the_answer_in_front() -> None:
    assert seal("5 apples", make_trace()).startswith("5 apples")


def test_blanks_behind_the_envelope_do_not_hide_it() -> None:
    trace = make_trace()
    assert unseal(seal("5 ", trace) + " \n") == ("5 ", trace)


@given(st.text(), st.text())
@settings(deadline=None)
def test_any_text_round_trip(answer: str, text: str) -> None:
    trace = make_trace(text)
    assert unseal(seal(answer, trace)) == (answer, trace)


pieces = [*MARKERS, *TAGS[0], *TAGS[1], "<", ">", "|", " ", "\n", "{", "}", '"', "\\", "5"]
spliced = st.lists(st.sampled_from(pieces), max_size=10).map("".join)


@given(spliced, spliced)
@settings(deadline=None, max_examples=300)
def test_text_made_of_markers_and_tags_round_trip(answer: str, text: str) -> None:
    trace = make_trace(text)
    assert unseal(seal(answer, trace)) == (answer, trace)


@given(spliced | st.text())
@settings(deadline=None)
def test_json_in_the_envelope_has_no_opening_angle(text: str) -> None:
    sealed = seal("", make_trace(text, failed=text, model=text))
    payload = sealed.removeprefix(MARKERS[0]).removesuffix(MARKERS[1])
    assert "<" not in payload
    assert json.loads(payload)["model"] == text


# ---------------------------------------------------------------- lmms-eval's stripping


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("5", "5"),
        ("<think>is it 4?</think>5", "5"),
        ("is it 4?</think>5", "5"),
        ("<analysis>x</analysis>five <think>y</think>apples", "five apples"),
        ("<think>never closed", "<think>never closed"),
        ("", ""),
    ],
)
@pytest.mark.parametrize(
    "text", ["GET_CROPS: ['0']", "<think>a</think>b", "a</think>b", "<think>a", "</analysis></think>"]
)
def test_stripping_reasoning_leaves_answer_and_trace(answer: str, left: str, text: str) -> None:
    trace = make_trace(text)
    assert unseal(strip_reasoning_tags(seal(answer, trace), TAGS)) == (left, trace)


@given(spliced, spliced)
@settings(deadline=None, max_examples=300)
def test_stripping_does_to_the_answer_what_it_does_without_an_envelope(answer: str, text: str) -> None:
    trace = make_trace(text)
    left, got = unseal(strip_reasoning_tags(seal(answer, trace), TAGS))
    assert got == trace
    assert left.strip() == strip_reasoning_tags(answer, TAGS)


# ---------------------------------------------------------------- responses without an envelope


@pytest.mark.parametrize(
    "response",
    ["", "5", "5 \n", "<think>x</think>5", '{"schema_version": 1}', MARKERS[0], f"5{MARKERS[-1]}", f"{MARKERS[0]}5"],
)
def test_response_without_an_envelope_is_left_alone(response: str) -> None:
    assert unseal(response) == (response, None)


def test_response_that_goes_on_behind_the_envelope_is_left_alone() -> None:
    response = seal("5", make_trace()) + "and more"
    assert unseal(response) == (response, None)


# ---------------------------------------------------------------- what cannot be read


def stored(**changes: object) -> dict:
    return make_trace().model_dump(mode="json") | changes


def without(*fields: str) -> dict:
    return {key: value for key, value in stored().items() if key not in fields}


UNREADABLE = {
    "not JSON": ("{", "not JSON"),
    "empty": ("", "not JSON"),
    "cut": (json.dumps(stored())[:-5], "not JSON"),
    "a list": ("[1]", "schema version None"),
    "a number": ("3", "schema version None"),
    "null": ("null", "schema version None"),
    "no version": (json.dumps(without("schema_version")), "schema version None"),
    "newer version": (json.dumps(stored(schema_version=SCHEMA_VERSION + 1)), f"version {SCHEMA_VERSION + 1} is not"),
    "version as text": (json.dumps(stored(schema_version="1")), "version '1' is not"),
    "missing model": (json.dumps(without("model")), "model"),
    "missing method": (json.dumps(without("method")), "method"),
    "missing prompt": (json.dumps(without("prompt")), "prompt"),
    "extra field": (json.dumps(stored(colour="red")), "colour"),
    "wrong type": (json.dumps(stored(full_tokens="many")), "full_tokens"),
    "null count": (json.dumps(stored(full_tokens=None)), "full_tokens"),
    "unknown status": (json.dumps(stored(tool_call={"status": "fine", "ids": [], "text": ""})), "status"),
    "extra field below": (json.dumps(stored(crops=[{"id": "0", "tokens": 4, "x": 1}])), "crops"),
    "missing field below": (json.dumps(stored(turns=[{"text": "", "seconds": 1.0}])), "new_tokens"),
}


@pytest.mark.parametrize(("payload", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_trace_says_why(payload: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_trace(payload)
    with pytest.raises(TraceError, match=message):
        unseal(f"5{MARKERS[0]}{payload}{MARKERS[1]}")


def test_another_version_is_told_apart_from_a_broken_trace() -> None:
    """The fields of another version may differ as well: the message must be about the version."""
    with pytest.raises(TraceError, match="update lmms-awares"):
        parse_trace({"schema_version": SCHEMA_VERSION + 1, "something": "new"})


# ---------------------------------------------------------------- the schema


def test_parse_trace_takes_text_and_mapping() -> None:
    trace = make_trace()
    assert parse_trace(trace.model_dump_json()) == parse_trace(trace.model_dump(mode="json")) == trace
    unknown = make_trace(visual_tokens_processed=None)
    assert parse_trace(unknown.model_dump_json()).visual_tokens_processed is None


def test_row_has_the_keys_that_reports_rely_on() -> None:
    row = json.loads(make_trace().model_dump_json())
    keys = "model prompt image_size full_tokens lowres_tokens crops visual_tokens visual_tokens_processed rtr tool_call"
    assert {*keys.split(), "turns", "preprocess_s", "latency_s", "response_chars", "truncated"} <= set(row)
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["image_size"] == [640, 480]
    assert row["crops"] == [{"id": "0", "tokens": 96}, {"id": "5", "tokens": 184}]
    boxed = make_trace(crops=[CropTrace(id="box", tokens=9, box=(0, 0, 99.5, 40))])
    assert json.loads(boxed.model_dump_json())["crops"] == [{"id": "box", "tokens": 9, "box": [0, 0, 99.5, 40]}]
    assert parse_trace(boxed.model_dump_json()) == boxed
    assert {"status", "ids", "text"} <= set(row["tool_call"])
    keys = "text new_tokens seconds preprocess_s vision_s prefill_s decode_s prompt_tokens cached_tokens"
    assert set(keys.split()) == set(row["turns"][0])
    assert {"flops", "kv_bytes"} <= set(row)
    assert json.loads(make_trace(tool_call=None).model_dump_json())["tool_call"] is None


@pytest.mark.parametrize(
    ("status", "called"), [("valid", True), ("recovered", True), ("invalid", False), (None, False)]
)
def test_called_means_that_the_call_could_be_executed(status: str | None, called: bool) -> None:
    call = status and ToolCallTrace(status=status, ids=[] if status == "invalid" else ["0"], text="")
    assert make_trace(tool_call=call).called is called


# ---------------------------------------------------------------- older schemas


PRUNED = {
    "pruner": "holov",
    "retain_ratio": 0.7,
    "kv_lengths": [],
    **dict.fromkeys(("encoded_tokens", "entering_tokens", "mean_post", "mean_input", "final_tokens"), 1),
}
OLDER = {
    "full": ({"model": "qwen2_5_vl_full", "policy": None}, ("qwen2_5_vl_full", 1.0, "full")),
    "lowres": ({"model": "qwen2_5_vl_lowres", "policy": None}, ("qwen2_5_vl_lowres", 0.25, "lowres")),
    "awares": ({}, ("awares", None, "lowres")),
    "control": ({"policy": "oracle"}, ("awares:oracle", None, "lowres")),
    "pruned": ({"model": "holov", "policy": None, "pruning": PRUNED}, ("holov@0.7", 0.7, "full")),
    "any pruner": ({"model": "pruned", "policy": None, "pruning": PRUNED}, ("pruned+holov@0.7", 0.7, "full")),
    "both": ({"policy": "never", "pruning": PRUNED}, ("awares:never+holov@0.7", 0.7, "lowres")),
    "visionthink": ({"model": "visionthink", "policy": None}, ("visionthink", None, "lowres")),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("fields", "told"), OLDER.values(), ids=OLDER)
def test_what_older_traces_do_not_say_follows_from_what_they_do(version: int, fields: dict, told: tuple) -> None:
    older = without("method", "nominal", "view") | fields | {"schema_version": version}
    older["conditions"] = {key: value for key, value in older["conditions"].items() if key not in ("family", "engine")}
    trace = parse_trace(older)
    assert (trace.method, trace.nominal, trace.view) == told
    assert (trace.conditions.family, trace.conditions.engine) == ("qwen2_5_vl", "local")
    assert trace.schema_version == SCHEMA_VERSION
    assert parse_trace(trace.model_dump(mode="json")) == trace
    if trace.pruning is not None:  # nor where the tokens are that it kept
        assert (trace.pruning.grids, trace.pruning.kept) == ([], [])


def test_what_a_trace_says_is_not_derived_again() -> None:
    """A model that nobody here knows of: the trace is believed."""
    trace = make_trace(model="other", method="other@0.3", nominal=0.3, view="full")
    assert parse_trace(trace.model_dump(mode="json")) == trace
