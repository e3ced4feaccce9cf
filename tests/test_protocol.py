"""The tool call: a table of replies, every combination of the tolerated variations, and properties over any text."""

import itertools
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmms_awares.crops import CROPS
from lmms_awares.protocol import ToolCall, format_call, parse_reply

TABLE = json.loads((Path(__file__).parent / "data" / "replies.json").read_text(encoding="utf-8"))
STATUSES = ("valid", "recovered", "invalid")
NOISE = "The chart shows 5 bars [see (a)]; farmers get crops to the top left market, all 8 of them. "


def result(reply: str) -> tuple[tuple[str, ...], str] | None:
    call = parse_reply(reply)
    return None if call is None else (call.ids, call.status)


def noise(length: int) -> str:
    return (NOISE * (length // len(NOISE) + 1))[:length]


# ---------------------------------------------------------------- the table


def test_table_is_large_and_has_every_outcome() -> None:
    assert len(TABLE) >= 80
    assert len({row["name"] for row in TABLE}) == len({row["reply"] for row in TABLE}) == len(TABLE)
    outcomes = {row["call"]["status"] if row["call"] else None for row in TABLE}
    assert outcomes == {*STATUSES, None}


@pytest.mark.parametrize("row", TABLE, ids=[row["name"] for row in TABLE])
def test_reply_of_the_table(row: dict) -> None:
    expected = row["call"] and (tuple(row["call"]["ids"]), row["call"]["status"])
    assert result(row["reply"]) == expected


# ---------------------------------------------------------------- all combinations of the contract's variations

BEFORE = ("", "The text is too small. ", "I see 5 bars.\n")
NAMES = ("GET_CROPS", "get_crops", "Get_Crops")
COLONS = (": ", ":", ":   ", " ", "")
ITEMS = {
    "quoted": ("'3'", "'6'"),
    "unquoted": ("3", "6"),
    "double": ('"3"', '"6"'),
    "names": ("'bottom-right'", "'bottom'"),
    "upper names": ("BOTTOM-RIGHT", "BOTTOM"),
}
SEPARATORS = (", ", ",")
ENDS = ("]", "")
AFTER = ("", ".", "\nThe sign is too small.")


@pytest.mark.parametrize("items", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("end", ENDS, ids=["closed", "unclosed"])
def test_every_combination_of_variations(items: tuple[str, str], end: str) -> None:
    canonical = "GET_CROPS: ['3', '6']"
    wrong = []
    for before, name, colon, separator, after in itertools.product(BEFORE, NAMES, COLONS, SEPARATORS, AFTER):
        reply = f"{before}{name}{colon}[{separator.join(items)}{end}{after}"
        expected = (("3", "6"), "valid" if reply == canonical else "recovered")
        if result(reply) != expected:
            wrong.append((reply, result(reply)))
    assert not wrong


# ---------------------------------------------------------------- noise

CALLS = {
    "canonical": "GET_CROPS: ['3', '6']",
    "lower, unquoted": "get_crops [3, 6]",
    "names": "GET_CROPS:[bottom-right, bottom]",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("before", "after"), [(10_000, 0), (0, 10_000), (10_000, 10_000)])
def test_call_in_10_kb_of_noise(call: str, before: int, after: int) -> None:
    assert result(f"{noise(before)}\n{call}\n{noise(after)}") == (("3", "6"), "recovered")


def test_unclosed_call_before_10_kb_of_noise() -> None:
    assert result(f"GET_CROPS: ['3', '6'\n{noise(10_000)}") == (("3", "6"), "recovered")


def test_10_kb_of_noise_without_a_call() -> None:
    assert result(noise(10_000)) is None


def test_unusable_call_in_10_kb_of_noise() -> None:
    assert result(f"{noise(5_000)} GET_CROPS: [42] {noise(5_000)}") == ((), "invalid")


# ---------------------------------------------------------------- what a call reports


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("GET_CROPS: ['0', '5']", "GET_CROPS: ['0', '5']"),
        ("  GET_CROPS: ['0']\n", "GET_CROPS: ['0']"),
        ("I look. get_crops [0] now", "get_crops [0]"),
        ("Yes GET_CROPS: [42] no", "GET_CROPS: [42]"),
    ],
)
def test_text_is_the_call_without_what_surrounds_it(reply: str, text: str) -> None:
    call = parse_reply(reply)
    assert call is not None
    assert call.text == text


# ---------------------------------------------------------------- format_call


def test_format_call_is_canonical() -> None:
    assert format_call(["0", "5"]) == "GET_CROPS: ['0', '5']"
    assert format_call(("all",)) == "GET_CROPS: ['all']"
    assert format_call(id for id in ("8", "1")) == "GET_CROPS: ['8', '1']"


def test_format_call_drops_duplicates() -> None:
    assert format_call(["5", "0", "5"]) == "GET_CROPS: ['5', '0']"


@given(st.lists(st.sampled_from(list(CROPS)), unique=True, min_size=1))
def test_format_call_round_trip(ids: list[str]) -> None:
    text = format_call(ids)
    assert parse_reply(text) == ToolCall(tuple(ids), "valid", text)


@pytest.mark.parametrize(
    ("ids", "named"),
    [([], "none"), (["9"], "9"), (["0", "42"], "42"), (["top-left"], "top-left"), (["ALL"], "ALL"), ([""], "''")],
)
def test_format_call_refuses(ids: list[str], named: str) -> None:
    with pytest.raises(ValueError, match="crop ids must be among") as error:
        format_call(ids)
    assert named in str(error.value)


# ---------------------------------------------------------------- any text

FRAGMENTS = [
    *("GET_CROPS", "get_crops", "GET CROPS", "GET-CROPS", "GETCROPS", "GET_CROP", "GET", "CROPS", "_CROPS"),
    *(":", "：", " ", "   ", "\n", "\t", "\u3000", "\u2028", ",", "，", "、", ";", "/", "|", ".", "-", "_"),
    *("[", "]", "(", ")", "{", "}", "［", "］", "【", "】", "<", ">", "'", '"', "`", "‘", "”", "*", "\\"),
    *CROPS,
    *(crop.name for crop in CROPS.values()),
    *(
        "9",
        "42",
        "10",
        "０",
        "５",
        "²",
        "ALL",
        "Top Left",
        "left",
        "the",
        "ſ",
        "İ",
        "ß",
        "\u0301",
        "\0",
        "🔍",
        "答",
        "\ud800",
    ),
]


def check_consistent(reply: str) -> None:
    call = parse_reply(reply)
    if call is None:
        return
    assert call.status in STATUSES
    assert set(call.ids) <= set(CROPS)
    assert len(set(call.ids)) == len(call.ids)
    assert (not call.ids) == (call.status == "invalid")
    assert call.text == call.text.strip() != ""
    if call.status == "valid":
        assert reply.strip() == call.text
    if reply.isascii():
        assert call.text in reply


@given(st.text())
@example("\ud800")
@example("GET_CROPS: ['0']\ud800")
@settings(deadline=None, max_examples=500)
def test_any_text(reply: str) -> None:
    check_consistent(reply)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
@settings(deadline=None, max_examples=1000)
def test_any_text_made_of_fragments(reply: str) -> None:
    check_consistent(reply)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
@settings(deadline=None, max_examples=500)
def test_any_text_behind_the_name(rest: str) -> None:
    check_consistent(f"GET_CROPS: [{rest}")
    assert parse_reply(f"GET_CROPS: [{rest}") is not None


# ---------------------------------------------------------------- time


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after that much CPU time: stops a regex that backtracks, and is blind to a busy machine."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s of CPU time")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    started = time.process_time()
    try:
        yield
        if time.process_time() - started > seconds:  # spent in one call into C, which no signal interrupts
            raise TimeoutError(f"more than {seconds} s of CPU time")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


SIZE = 100_000
ADVERSARIAL = {
    "many open calls": "GET_CROPS: [",
    "many unusable calls": "GET_CROPS: [42] ",
    "many names": "GET_CROPS ",
    "many names with blanks": "GET_CROPS" + " " * 50,
    "many spaced names with blanks": "GET CROPS" + " " * 9_991,
    "many halves of the name": "GET ",
    "many open brackets": "[",
    "many closed brackets": "]",
    "many brackets of all kinds": "[({})]",
    "many quotes": "'\"`",
    "many ids": "'0', ",
    "many blanks": " ",
    "many newlines": "\n",
    "many colons and stars": ":*",
    "characters that fold to many": "\ufdfa",
    "combining marks": "\u0301\u0323",
}
HEADS = {"plain": "", "behind a call": "GET_CROPS: [", "behind a name": "GET_CROPS", "behind spaced words": "GET CROPS"}


@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="needs POSIX interval timers")
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_100_kb_take_less_than_a_second(unit: str, head: str) -> None:
    reply = head + unit * (SIZE // len(unit.encode()))
    with cpu_limit(1.0):
        call = parse_reply(reply)
    assert call is None or call.status in STATUSES
