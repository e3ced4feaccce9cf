"""The policy while it trains: answers as `ask` gives them, a training that does not notice, the best checkpoint."""

import json
import random
import shutil
from pathlib import Path

import curated_sets
import numpy as np
import pytest
import torch
from checkpoints import SHIPPED
from peft import LoraConfig, get_peft_model
from PIL import Image
from report_runs import awares
from safetensors.torch import load_file
from test_training_runs import FIXED

import lmms_awares
from lmms_awares.curation.metrics import best_score
from lmms_awares.engine import checkpoint
from lmms_awares.errors import ConfigError, DataError, SampleError
from lmms_awares.images import decode
from lmms_awares.models.config import CommonArgs
from lmms_awares.protocol import ToolCall
from lmms_awares.training.answers import Answered
from lmms_awares.training.best import BestFolder
from lmms_awares.training.evaluation import Result, evaluate, summarize, validation_rows
from lmms_awares.training.settings import NUMBERS, Best, EvaluationSettings
from lmms_awares.training.sft import LANGUAGE_MODEL, last_checkpoint

EVERY = ("--eval_every", "2", "--eval_rows", "4", "--per_device_eval_batch_size", "3")
SHORT = ("--max_steps", "3", "--save_steps", "2", "--logging_steps", "1", "--per_device_train_batch_size", "1")
# A policy that is not trained calls nothing: these replies count as calls, by their text alone.
CALLS = (ToolCall(("0", "5"), "valid", ""), ToolCall(("3",), "recovered", ""), ToolCall((), "invalid", ""), None)


@pytest.fixture(scope="module")
def folder(small_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder)
    return curated_sets.fit(folder, small_checkpoint)


@pytest.fixture(scope="module")
def rows(folder):
    return validation_rows(folder, 5)


@pytest.fixture
def calling(monkeypatch):
    """Each look at a reply also draws from every generator."""

    def parse(text):
        random.random(), np.random.rand(), torch.rand(1)
        return CALLS[sum(map(ord, text)) % 4]

    monkeypatch.setattr("lmms_awares.protocol.get_crops.parse_reply", parse)


def loaded(pretrained):
    return checkpoint.load(CommonArgs(pretrained=str(pretrained), dtype="float32"), "cpu")


def spread(model):
    """Replies that differ from row to row: the tiny model's layers count for more, so that the image does."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "_proj" in name and weight.ndim == 2:
            weight.data += 0.2 * torch.randn_like(weight)
    return model


def asked(model, processor, rows, limit):
    chat = lmms_awares.load(model=model, processor=processor)
    return [chat.ask(row["image"]["bytes"], row["question"], max_new_tokens=limit) for row in rows]


def agree(found, expected, rows):
    for result, said, row in zip(found.results, expected, rows, strict=True):
        outcome = result.outcome
        assert (outcome.answer, outcome.turns, outcome.crops) == (said.answer, said.turns, said.crops)
        assert (outcome.visual_tokens, outcome.rtr) == (said.visual_tokens, said.rtr)
        assert outcome.score == best_score(row["metric"], said.answer, row["answers"])


def test_answers_are_those_of_ask(small_checkpoint, rows, calling):
    """Batched here, one by one there; direct answers and calls of each kind."""
    model, processor = loaded(small_checkpoint)
    found = evaluate(spread(model), processor, rows, batch_size=3, max_new_tokens=4)
    agree(found, asked(model, processor, rows, 4), rows)
    assert len({result.outcome.status for result in found.results}) >= 3


def test_answers_of_the_shipped_checkpoint_are_those_of_ask(rows, calling):
    model, processor = loaded(SHIPPED)
    found = evaluate(model, processor, rows[:3], batch_size=2, max_new_tokens=8)
    agree(found, asked(model, processor, rows[:3], 8), rows[:3])


def test_an_adapter_answers_and_the_model_is_left_as_it_was(small_checkpoint, rows, calling):
    model, processor = loaded(small_checkpoint)
    torch.manual_seed(1)
    lora = LoraConfig(r=4, target_modules=LANGUAGE_MODEL, init_lora_weights=False, lora_dropout=0.5)
    tuned = get_peft_model(spread(model), lora)
    tuned.gradient_checkpointing_enable()
    tuned.enable_input_require_grads()
    tuned.config.use_cache = False
    tuned.train()
    tuned.base_model.model.model.visual.eval()
    inner = tuned.get_base_model()
    inner.forward = pytest.fail  # accelerate and TRL replace it

    def state():
        modes = [module.training for module in tuned.modules()]
        hooks = [len(module._forward_hooks) for module in tuned.modules()]
        drawn = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
        return modes, hooks, drawn, dict(vars(inner)), tuned.config.to_dict(), inner.model.rope_deltas

    before = state()
    found = evaluate(tuned, processor, rows, batch_size=2, max_new_tokens=4)
    assert state() == before
    assert inner.is_gradient_checkpointing
    tuned.gradient_checkpointing_disable()
    merged = tuned.merge_and_unload()
    del merged.forward
    agree(found, asked(merged, processor, rows, 4), rows)


def test_a_row_that_cannot_be_answered_says_why(small_checkpoint, rows):
    model, processor = loaded(small_checkpoint)
    bad = rows[1] | {"image": {"bytes": b"no image", "path": None}}
    long = rows[1] | {"question": "why " * 40_000}
    found = evaluate(model, processor, [rows[0], bad, long], batch_size=3, max_new_tokens=2)
    good, *others = (result.outcome for result in found.results)
    assert isinstance(good, Answered)
    assert [words in str(other) for words, other in zip(("raster format", "context"), others, strict=True)] == [
        True
    ] * 2
    assert (found.summary["n"], found.summary["failed"]) == (3, 2)


def result(label, targets=(), *, status=None, asked=(), score=1.0, tokens=25, source="a"):
    said = Answered("x", ("x",), status, asked, asked or (("all",) if status else ()), tokens, 100, score)
    return Result({"id": "1", "source": source, "label": label, "targets": list(targets)}, said)


def test_the_summary_worked_out_by_hand():
    results = [
        result("HR", ["0"], status="valid", asked=("0",), tokens=50),  # right, and exactly
        result("HR", ["1"], status="recovered", asked=("4", "0"), tokens=75, score=0.5),
        result("HR", ["2"], score=0.0),  # missed
        result("LR", status="invalid", tokens=125),
        result("LR", status="valid", asked=("all",), tokens=125),  # in vain
        Result({"id": "2", "source": "b", "label": "LR", "targets": []}, SampleError("no")),
    ]
    found = summarize(results)
    assert list(found) == ["n", "failed", *NUMBERS]
    expected = {"n": 6, "failed": 1, "score": 70.0, "rtr": 0.8, "call_rate": 0.6, "crops": 4 / 3}
    expected |= {"valid": 0.5, "recovered": 0.25, "invalid": 0.25}
    expected |= {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "fpr": 0.5, "iou_exact": 0.5, "iou_relaxed": 0.5}
    expected["area"] = (0.25 + 0.4375 + 1) / 3  # the center shares a sixteenth with the top left
    assert found == pytest.approx(expected)


def test_rows_are_the_same_ones_and_of_every_source(folder):
    chosen = validation_rows(folder, 3)
    assert sorted(row["source"] for row in chosen) == sorted(curated_sets.BENCHMARKS)
    assert [row["id"] for row in validation_rows(folder, 5)][:3] == [row["id"] for row in chosen]
    assert {row["metric"] for row in chosen} == {"exact"}
    assert decode(chosen[0]["image"]["bytes"]).size


def test_a_set_without_validation_is_refused(folder, tmp_path):
    (tmp_path / "trajectories").mkdir()
    for file in (folder / "trajectories").glob("train-*"):
        (tmp_path / "trajectories" / file.name).symlink_to(file)
    with pytest.raises(DataError, match="has no split validation"):
        validation_rows(tmp_path, 3)


# --- in a training


def sft(checkpoint, folder, output, *more):
    named = ("--pretrained", checkpoint, "--curated", folder, "--output_dir", output)
    shown = awares("train", "sft", *named, *FIXED, *SHORT, *more)
    assert shown.exit_code == 0
    return shown


@pytest.fixture(scope="module")
def trained(small_checkpoint, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated")
    shown = sft(small_checkpoint, folder, output, *EVERY, "--best", "score@rtr<=3")
    return output, shown


def weights(output):
    return load_file(output / "adapter_model.safetensors")


def entries(output):
    history = json.loads((Path(last_checkpoint(output)) / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "validation/rtr" in entry], [entry for entry in history if "loss" in entry]


def test_a_training_does_not_notice(trained, small_checkpoint, folder, tmp_path):
    output, _ = trained
    sft(small_checkpoint, folder, tmp_path)
    found, expected = weights(output), weights(tmp_path)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    plain = ("loss", "step", "grad_norm", "learning_rate")
    assert [[e[n] for n in plain] for e in entries(output)[1]] == [[e[n] for n in plain] for e in entries(tmp_path)[1]]
    assert len(entries(tmp_path)[1]) == 3


def test_numbers_and_samples_are_written(trained, small_checkpoint, rows):
    output, _ = trained
    logged = entries(output)[0]
    assert [entry["step"] for entry in logged] == [0, 2, 3]
    written = [json.loads((output / "validation" / f"step-{n}.json").read_text()) for n in (0, 2, 3)]
    for entry, told in zip(logged, written, strict=True):
        assert told["summary"]["n"] == 4 and len(told["rows"]) == 4
        for name, value in told["summary"].items():
            assert entry.get(f"validation/{name}") == value
        assert entry["validation/chartqa/rtr"] == told["sources"]["chartqa"]["rtr"]
    model, processor = loaded(small_checkpoint)
    first = evaluate(model, processor, rows[:4], batch_size=4)
    assert written[0]["summary"]["rtr"] == first.summary["rtr"]
    assert [row["answer"] for row in written[0]["rows"]] == [result.outcome.answer for result in first.results]
    text = (output / "validation" / "step-0" / "samples.md").read_text()
    for row in rows[:4]:
        name = row["id"].replace("/", "-")
        assert f"![low-res view and crops]({name}.png)" in text and f"## {row['id']}" in text
        assert Image.open(output / "validation" / "step-0" / f"{name}.png").height > 200


def test_a_run_that_was_ended_evaluates_as_an_unbroken_one(trained, small_checkpoint, folder, tmp_path):
    output, _ = trained
    shutil.copytree(output / "checkpoint-2", tmp_path / "checkpoint-2")
    shutil.copytree(output / "best", tmp_path / "best")
    sft(small_checkpoint, folder, tmp_path, *EVERY, "--best", "score@rtr<=3")
    assert [file.name for file in (tmp_path / "validation").glob("*.json")] == ["step-3.json"]
    found, expected = ((at / "validation" / "step-3.json").read_text() for at in (tmp_path, output))
    assert found == expected
    assert entries(tmp_path)[0] == entries(output)[0]
    assert (tmp_path / "best" / "best.json").read_text() == (output / "best" / "best.json").read_text()


def test_the_best_is_kept(trained, small_checkpoint):
    output, _ = trained
    told = json.loads((output / "best" / "best.json").read_text())
    scores = {entry["step"]: entry["validation/score"] for entry in entries(output)[0]}
    assert told["step"] == max(scores, key=scores.get)  # the first of equal ones
    assert told["best"] == "score@rtr<=3" and told["numbers"]["score"] == scores[told["step"]]
    chat = lmms_awares.load(str(small_checkpoint), adapter=str(output / "best"), dtype="float32", device="cpu")
    assert chat.ask(Image.new("RGB", (280, 224)), "What?", max_new_tokens=2).visual_tokens > 0
    assert (output / "best" / "tokenizer.json").is_file()


def test_no_best_is_said_in_one_line(small_checkpoint, folder, tmp_path):
    shown = sft(
        small_checkpoint, folder, tmp_path, "--eval_every", "9", "--eval_rows", "1", "--best", "score@rtr<=0.01"
    )
    (line,) = [line for line in shown.stderr.splitlines() if line.startswith("awares train:")]
    assert "no evaluation had rtr<=0.01" in line and "the lowest was" in line
    assert not (tmp_path / "best").exists()


# --- the rule and the folder of the best


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "must read METRIC") for text in ("score", "score@rtr<0.4", "score@rtr<=x")),
        ("speed@rtr<=1", "speed is not measured"),
        ("score@n<=1", "n is not measured"),
    ],
)
def test_rules_that_cannot_be_read(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        EvaluationSettings(eval_every=1, best=text).check_evaluation()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eval_every": -1}, "eval_every=-1"),
        ({"eval_rows": 0}, "eval_rows=0"),
        ({"best": "score@rtr<=1"}, "eval_every"),
    ],
)
def test_settings_that_cannot_work(settings, words):
    with pytest.raises(ConfigError, match=words):
        EvaluationSettings(**settings).check_evaluation()


def offer(best, step, score, rtr=0.3):
    def save(folder):
        folder.mkdir()
        (folder / "weights").write_text(str(step))

    return best.offer(step, {"score": score, "rtr": rtr, "area": float("nan")}, save)


def test_only_a_better_one_within_the_limit_is_kept(tmp_path):
    best = BestFolder(tmp_path, Best.parse("score@rtr<=0.4"))
    assert best.known() is None
    assert offer(best, 1, 40.0) and not offer(best, 2, 40.0) and not offer(best, 3, 90.0, rtr=0.41)
    assert not offer(best, 4, float("nan")) and not offer(best, 5, 50.0, rtr=float("nan"))
    assert offer(BestFolder(tmp_path, Best.parse("score@rtr<=0.4")), 6, 41.0), "a run that goes on knows it"
    assert (tmp_path / "best" / "weights").read_text() == "6"
    assert best.known()["numbers"] == {"score": 41.0, "rtr": 0.3, "area": None}
    other = BestFolder(tmp_path, Best.parse("score@rtr<=0.5"))
    assert other.known() is None and offer(other, 7, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_leaves_a_whole_best(tmp_path, monkeypatch, at):
    """Before each step of an exchange: the old or the new one is there, and whole."""
    rule = Best.parse("score@rtr<=0.4")
    offer(BestFolder(tmp_path, rule), 1, 40.0)
    steps = iter(range(1, 100))

    def killing(what):
        def step(*given, **named):
            if next(steps) == at:
                raise KeyboardInterrupt
            return what(*given, **named)

        return step

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "write_text"), (Path, "mkdir")):
            patch.setattr(owner, name, killing(getattr(owner, name)))
        patch.setattr("lmms_awares.training.best.shutil.rmtree", killing(shutil.rmtree))
        try:
            offer(BestFolder(tmp_path, rule), 2, 50.0)
            pytest.fail("nothing was killed")
        except KeyboardInterrupt:
            pass
    known = BestFolder(tmp_path, rule).known()
    assert known is not None
    assert (tmp_path / "best" / "weights").read_text() == str(known["step"])
    assert known["step"] in (1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert offer(BestFolder(tmp_path, rule), 3, 60.0)
