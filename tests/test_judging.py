"""The judge's stage: what replies say, what labels they give, and what becomes of those that say nothing."""

import random
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from curation_rows import Log, config, opened, row
from curation_server import FAULTS, IN_REPLIES, PROSE, Script, judge, serving, tagged, text_of

from lmms_awares.curation.asking import BadReplyError
from lmms_awares.curation.judging import Judging, agreed, read_verdict
from lmms_awares.curation.metrics import best_score
from lmms_awares.curation.rows import JUDGE, Rejected, read_rows, with_verdict, write_rows
from lmms_awares.errors import ConfigError

VERDICTS = {
    "0": 0,
    "1": 1,
    "2": 2,
    " 2 ": 2,
    "2\n": 2,
    "\n\n1\n\n": 1,
    "2.": 2,
    '"2"': 2,
    "'0'": 0,
    "“1”": 1,
    "`2`": 2,
    "**2**": 2,
    "# 1": 1,
    "```\n2\n```": 2,
    "(1)": 1,
    "[0]": 0,
    "{2}": 2,
    "Answer: 2": 2,
    "answer 1": 1,
    "ANSWER = 0": 0,
    "**Answer:** 2": 2,
    "**Answer: 2**": 2,
    "The answer is 2.": 2,
    "My final answer is: 1": 1,
    "Verdict: 0": 0,
    "Response 2": 2,
    "Best response: 1": 1,
    "<answer>2</answer>": 2,
    "\\boxed{1}": 1,
    '{"answer": 2}': 2,
    "2\n\nThe second response names the right year.": 2,
    "Both say the same.\n\nAnswer: 0": 0,
}
BAD = {
    "": "empty reply",
    "   \n\t": "empty reply",
    "I'm sorry, but I can't judge this.": "refusal",
    "As an AI, I have no opinion.": "refusal",
    "I am unable to see the image.": "refusal",
    "Both responses are equally good.": "no digit",
    "two": "no digit",
    "**": "no digit",
    "3": "another number",
    "7": "another number",
    "10": "another number",
    "-1": "another number",
    "1.5": "another number",
    "Answer: 12": "another number",
    "1 or 2": "several numbers",
    "1\n2": "several numbers",
    "0/2": "several numbers",
    "Response 1 says 14, response 2 says 15: 2": "several numbers",
    "2\n\nResponse 1 is wrong.": "several numbers",
    "2, since 15 is right": "several numbers",
    PROSE: "several numbers",
    "I think that 2 is better": "digit in a sentence",
    "Response 2 is not better": "digit in a sentence",
    "not 1": "digit in a sentence",
    "2 is wrong": "digit in a sentence",
}


@pytest.mark.parametrize(("text", "verdict"), VERDICTS.items())
def test_a_reply_that_says_a_verdict(text, verdict):
    assert read_verdict(text) == verdict


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_a_reply_that_says_none(text, reason):
    with pytest.raises(BadReplyError) as error:
        read_verdict(text)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    ("verdict", "swapped", "label"),
    [
        *[(0, None, "LR"), (1, None, "LR"), (2, None, "HR")],
        *[(0, 0, "LR"), (1, 1, "LR"), (2, 2, "HR")],
        *[(0, 1, "LR"), (0, 2, "LR"), (1, 0, "LR"), (1, 2, "LR"), (2, 0, "LR"), (2, 1, "LR")],
    ],
)
def test_labels_of_verdicts(verdict, swapped, label):
    assert agreed(verdict, swapped) == label


SCORES = [
    ("exact", "Paris", ["paris"], 1.0),
    ("exact", " paris ", ["Paris"], 1.0),
    ("exact", "Paris.", ["Paris"], 0.0),
    ("exact", "b", ["a", "b"], 1.0),
    ("exact", "", ["a"], 0.0),
    ("relaxed", "105", ["100"], 1.0),  # 5 % exactly
    ("relaxed", "105.1", ["100"], 0.0),
    ("relaxed", "95", ["100"], 1.0),
    ("relaxed", "0.5", ["50%"], 1.0),
    ("relaxed", "Yes", ["yes"], 1.0),
    ("relaxed", "yes!", ["yes"], 0.0),
    ("relaxed", "200", ["100", "199"], 1.0),
    ("anls", "hello", ["hello"], 1.0),
    ("anls", "hallo", ["hello"], 0.8),  # 1 of 5 letters
    ("anls", "hxxxo", ["hello"], 0.0),  # 3 of 5: 0.4 is below 0.5
    ("anls", "HELLO", ["hello"], 1.0),
    ("anls", "abcd", ["wxyz", "abce"], 0.75),
    ("anls", "", ["a"], 0.0),
]


@pytest.mark.parametrize(("metric", "answer", "right", "score"), SCORES)
def test_metrics_by_hand(metric, answer, right, score):
    assert best_score(metric, answer, right) == pytest.approx(score)


def test_a_metric_judges_by_its_threshold():
    rows = [
        row(0, "hallo", "hello", answers=["hello"]),  # 0.8 and 1: HR where only 1 is right
        row(1, "xxxxx", "hallo", answers=["hello"]),  # 0 and 0.8: HR where 0.8 is right
        row(2, "hello", "xxxxx", answers=["hello"]),
        row(3, "hello", "hello", answers=["hello"]),
        row(4, "xxxxx", "yyyyy", answers=["hello"]),
    ]
    stage, log, _ = opened(Judging, config(judge={"kind": "anls"}))
    lax = stage.process(rows)
    strict = opened(Judging, config(judge={"kind": "anls", "threshold": 0.9}))[0].process(rows)
    assert [one["label"] for one in lax] == ["LR", "HR", "LR", "LR", "LR"]
    assert [one["judge"]["verdict"] for one in lax] == [0, 2, 1, 0, 0]
    assert [one["label"] for one in strict] == ["HR", "LR", "LR", "LR", "LR"]
    assert [one["judge"]["verdict"] for one in strict] == [2, 0, 1, 0, 0]
    assert lax[1]["judge"] == {"verdict": 2, "swapped": None, "replies": [], "scores": [0.0, pytest.approx(0.8)]}
    assert lax[0]["judge_model"]["name"] == "anls"
    assert re.fullmatch(r"lmms-eval \d+\.\d+.*", lax[0]["judge_model"]["revision"])
    assert log == {}


def test_the_rows_own_metric():
    rows = [row(0, "96", "100", answers=["100"], metric=metric) for metric in ("relaxed", "exact", "guess")]
    found = opened(Judging, config(judge={"kind": "metric"}))[0].process(rows)
    assert [one["label"] for one in found[:2]] == ["LR", "HR"]
    assert [one["judge_model"]["name"] for one in found[:2]] == ["relaxed", "exact"]
    assert isinstance(found[2], Rejected) and found[2].reason == "unknown metric" and "'guess'" in found[2].detail


@pytest.fixture
def served():
    """Start scripted servers; returns a function that gives a script and a judge's settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(model="judge", swap=False, settings=(), **facts):
            script = Script(bodies=[], **facts)
            address = stack.enter_context(serving(script))
            return script, {"base_url": address, "model": model, "swap": swap, "concurrency": 16, **dict(settings)}

        yield start


ROWS = [
    row(0, "12", "15"),  # the full view is right
    row(1, "15", "12"),
    row(2, "12", "13"),  # both wrong
    row(3, "15", "15."),  # both right
    row(4, "15", " 15\n"),  # the same
]


def test_an_llm_judges(served):
    script, settings = served()
    stage, log, meter = opened(Judging, config(judge=settings))
    found = stage.process(ROWS)
    stage.close()
    assert [one["label"] for one in found] == ["HR", "LR", "LR", "LR", "LR"]
    assert [one["judge"]["verdict"] for one in found] == [2, 1, 0, 0, 0]
    assert [one["judge"]["replies"] for one in found] == [["2"], ["1"], ["0"], ["0"], []], "equal answers: no request"
    assert [one["judge"]["swapped"] for one in found] == [None] * 5
    assert found[0]["judge_model"] == {
        "name": "judge",
        "revision": "openai unknown",
        "prompt": stage.depends_on()["prompt"],
    }
    assert len(log) == meter.sent == script.record.requests == 4
    assert meter.input_tokens > 400 and meter.output_tokens == 4
    assert script.record.probes == 1


def test_what_the_judge_is_asked(served):
    script, settings = served(swap=True)
    stage, _, _ = opened(Judging, config(judge=settings))
    stage.process([row(0, "{low}", "full", question="Line 1?\nLine 2", answers=["a", "b c"])])
    prompts = sorted(map(text_of, script.bodies), key=lambda text: tagged(text, "response_1"))
    assert [tagged(prompts[0], f"response_{n}") for n in (1, 2)] == ["full", "{low}"]
    assert [tagged(prompts[1], f"response_{n}") for n in (1, 2)] == ["{low}", "full"]
    assert tagged(prompts[0], "question") == "Line 1?\nLine 2"
    assert tagged(prompts[0], "right_answers") == "- a\n- b c"
    (body, other) = script.bodies
    assert body["temperature"] == other["temperature"] == 0
    assert body["max_tokens"] == 16
    assert "stream" not in body and "stream_options" not in body


def test_swapped_answers(served):
    _, settings = served(swap=True)
    found = opened(Judging, config(judge=settings))[0].process(ROWS)
    assert [(one["judge"]["verdict"], one["judge"]["swapped"]) for one in found] == [
        *[(2, 2), (1, 1), (0, 0), (0, 0), (0, 0)]
    ]
    assert found[0]["judge"]["replies"] == ["2", "1"]
    assert [one["label"] for one in found] == ["HR", "LR", "LR", "LR", "LR"]


def second(body):
    """A judge that likes what it reads last, unless the first is right and the other is not."""
    return judge(body).replace("0", "2")


def test_position_bias_shows_and_gives_no_label(served):
    script, settings = served(model="second", swap=True, models={"second": second})
    rows = [row(0, "12", "13"), row(1, "12", "15")]  # both wrong; the full view is right
    found = opened(Judging, config(judge=settings))[0].process(rows)
    assert [(one["judge"]["verdict"], one["judge"]["swapped"]) for one in found] == [(2, 1), (2, 2)]
    assert [one["label"] for one in found] == ["LR", "HR"]
    alone = opened(Judging, config(judge=settings | {"swap": False}))[0].process(rows)
    assert [one["label"] for one in alone] == ["HR", "HR"], "without the exchange the bias decides"
    assert script.record.requests == 6


def test_finished_requests_are_not_sent_again(served):
    script, settings = served()
    log = Log()
    first, _, _ = opened(Judging, config(judge=settings), log)
    rows = [*ROWS, ROWS[0] | {"id": "toy/9"}]
    labels = [one["label"] for one in first.process(rows)]
    assert script.record.requests == 4, "the same question twice is asked once"
    again, _, meter = opened(Judging, config(judge=settings | {"concurrency": 3, "request_timeout": 5}), log)
    assert [one["label"] for one in again.process(rows)] == labels
    assert script.record.requests == 4
    assert (meter.sent, meter.known) == (0, 5)
    other, _, _ = opened(Judging, config(judge=settings | {"model": "first-judge"}), log)
    assert [one["judge"]["verdict"] for one in other.process(rows)] == [2, 1, 1, 1, 0, 2]
    assert script.record.requests == 8


def test_what_rows_depend_on():
    settings = {"base_url": "http://a/v1", "model": "m"}

    def depends(**changed):
        return Judging(config(judge=settings | changed), Log(), None).depends_on()

    for same in (
        {"base_url": "http://b/v1"},
        {"concurrency": 2},
        {"request_timeout": 1},
        {"api_key_env": "K"},
        {"price": [1, 2]},
    ):
        assert depends(**same) == depends()
    assert depends(model="n") != depends() != depends(swap=True)
    assert depends()["prompt"] and "m" in str(depends())
    anls = [Judging(config(judge={"kind": "anls", "threshold": t}), Log(), None).depends_on() for t in (0.5, 0.6)]
    assert anls[0] != anls[1]


def test_rows_without_a_right_answer_are_set_aside(served):
    _, settings = served()
    rows = [row(0, answers=[]), row(1), row(2, answers=[])]
    for judging in (settings, {"kind": "exact"}):
        found = opened(Judging, config(judge=judging))[0].process(rows)
        assert [isinstance(one, Rejected) and one.reason for one in found] == [
            *["no right answer", False, "no right answer"]
        ]


def test_the_columns_can_be_written(served, tmp_path):
    _, settings = served(swap=True)
    both = [opened(Judging, config(judge=judging))[0].process(ROWS) for judging in (settings, {"kind": "relaxed"})]
    for found in both:
        assert all(one.keys() == JUDGE.keys() for one in found)
        rows = [{"id": "1", **one, "reason": None, "detail": None} for one in found]
        write_rows(tmp_path / "shard.parquet", rows, with_verdict(JUDGE))
        assert [{key: one[key] for key in JUDGE} for one in read_rows(tmp_path / "shard.parquet")] == found


BAD_REPLIES = {"prose": "several numbers", "refusal": "refusal", "range": "another number", "inverted": "empty reply"}


@pytest.mark.parametrize(("fault", "reason"), BAD_REPLIES.items())
def test_replies_that_stay_bad_reject_the_row(served, fault, reason):
    script, settings = served(faults=1 / len(IN_REPLIES), only=(fault,), models={"judge": lambda body: "2"})
    # Each kind gets its quarter of the requests; with one kind only, a row survives if one of three replies is good.
    rows = [row(number, f"a{number}", f"b{number}") for number in range(64)]
    stage, _, meter = opened(Judging, config(judge=settings))
    found = stage.process(rows)
    stage.close()
    bad = [one for one in found if isinstance(one, Rejected)]
    assert {one.reason for one in bad} <= {reason}
    assert all(one.final and one.detail.startswith("3 replies, the last one: ") for one in bad)
    assert all(one["label"] == "HR" for one in found if not isinstance(one, Rejected))
    assert meter.unreadable == script.record.faults[fault] > 3 * len(bad)


def test_a_judge_that_never_answers_properly(served):
    _, settings = served(models={"judge": lambda body: PROSE})
    (found,) = opened(Judging, config(judge=settings))[0].process([row()])
    assert found == Rejected("several numbers", f"3 replies, the last one: {PROSE!r}")


def test_a_server_that_fails_in_every_way(served):
    rows = [row(n, *random.Random(n).choices(["12", "15", "15.", "13"], k=2)) for n in range(200)]
    rows = [one | {"question": f"Number {n}?"} for n, one in enumerate(rows)]
    _, clean = served(swap=True)
    undisturbed = opened(Judging, config(judge=clean))[0].process(rows)
    limit = {"request_timeout": 3.0}
    script, settings = served(swap=True, faults=0.05, stall_s=20.0, settings=limit)
    stage, log, _ = opened(Judging, config(judge=settings))
    found = stage.process(rows)
    stage.close()
    assert all(script.record.faults[fault] >= (1 if fault == "storm" else 3) for fault in FAULTS)
    for one, other in zip(found, undisturbed, strict=True):
        if isinstance(one, Rejected):
            assert one.reason in BAD_REPLIES.values()
        else:
            assert one["judge"] | {"replies": []} == other["judge"] | {"replies": []}
            assert one["label"] == other["label"]
    assert sum(isinstance(one, Rejected) for one in found) < 15
    assert script.record.again == [], "none that finished was sent again"
    assert script.record.finished == len(log)


def test_a_wrong_judge_is_found_before_the_first_row(served, monkeypatch):
    script, settings = served(key="s3cret", listed=("judge", "ghost"))

    def refused(message, **changed):
        with pytest.raises(ConfigError, match=message) as error:
            opened(Judging, config(judge=settings | changed))
        assert "s3cret" not in str(error.value) and "wr0ng" not in str(error.value)

    refused("judge: base_url=.* refuses a request without a key; name one with api_key_env")
    refused("judge: api_key_env=NO_SUCH names an environment variable that is not set", api_key_env="NO_SUCH")
    monkeypatch.setenv("JUDGE_KEY", "wr0ng")
    refused("judge: base_url=.* refuses the key of api_key_env", api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "s3cret")
    settings["api_key_env"] = "JUDGE_KEY"
    refused("judge: model=nobody is not served at .*; its models: judge, ghost", model="nobody")
    refused("judge: base_url=.* does not know model ghost", model="ghost")
    refused("judge: base_url=.* does not answer", base_url="http://127.0.0.1:9/v1")
    refused("judge: base_url=.* is no address", base_url="127.0.0.1:9")
    stage, _, _ = opened(Judging, config(judge=settings))
    assert stage.process([row()])[0]["label"] == "HR"
    assert script.record.requests == 1


def test_a_server_in_a_process_of_its_own_outlives_its_client():
    command = [sys.executable, str(Path(__file__).parent / "curation_server.py"), "0", "--faults", "0.05"]
    process = subprocess.Popen([*command, "--only", "500"], stdout=subprocess.PIPE, text=True)
    try:
        root = f"http://127.0.0.1:{int(process.stdout.readline())}"
        settings = {"base_url": f"{root}/v1", "model": "judge"}
        rows = [row(number, f"a{number}", "15") for number in range(40)]
        found = [opened(Judging, config(judge=settings))[0].process(rows) for _ in range(2)]
        assert found[0] == found[1] and all(one["label"] == "HR" for one in found[0])
        record = httpx2.get(f"{root}/record").json()
    finally:
        process.terminate()
        process.wait()
    failed = record["faults"]["500"]
    assert failed and record["requests"] == 80 + failed and record["finished"] == 80 and record["probes"] == 2
    assert len({key for key, _, _ in record["again"]}) == 40, (
        "the second client knew nothing of the first one's replies"
    )
    assert all(asked > finished for _, finished, asked in record["again"])
