"""`awares train sft`: a run that was ended goes on, the adapter serves, settings that cannot work are one line."""

import json
import shutil

import curated_sets
import pytest
import torch
from harness import picture
from report_runs import awares
from safetensors.torch import load_file

import lmms_awares
from lmms_awares.engine import checkpoint
from lmms_awares.errors import UserError
from lmms_awares.training.parsing import read_settings
from lmms_awares.training.sft import WeightedSFTConfig, last_checkpoint

FIXED = ("--weights_dtype", "float32", "--bf16", "False", "--use_cpu", "True", "--report_to", "none", "--seed", "1")
SHORT = ("--max_steps", "4", "--save_steps", "2", "--logging_steps", "1", "--per_device_train_batch_size", "2")


@pytest.fixture(scope="module")
def folder(small_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder)
    return curated_sets.fit(folder, small_checkpoint)


def sft(checkpoint, folder, output, *more):
    named = ("--pretrained", checkpoint, "--curated", folder, "--output_dir", output)
    result = awares("train", "sft", *named, *FIXED, *SHORT, *more)
    assert result.exit_code == 0
    return result


@pytest.fixture(scope="module")
def trained(small_checkpoint, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("sft")
    sft(small_checkpoint, folder, output)
    return output


def weights(output):
    return load_file(output / "adapter_model.safetensors")


def losses(output):
    state = json.loads((output / "checkpoint-4" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_a_run_that_was_killed_while_it_saved_ends_as_an_unbroken_one(trained, small_checkpoint, folder, tmp_path):
    shutil.copytree(trained / "checkpoint-2", tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-4").mkdir()
    shutil.copy(trained / "checkpoint-4" / "adapter_config.json", tmp_path / "checkpoint-4")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    sft(small_checkpoint, folder, tmp_path)
    assert losses(tmp_path) == losses(trained)
    found, expected = weights(tmp_path), weights(trained)
    assert found.keys() == expected.keys() and found
    assert all((found[name] == expected[name]).all() for name in expected)
    assert any(value.abs().max() > 0 for name, value in expected.items() if "lora_B" in name)
    assert all("language_model" in name for name in expected)


def test_the_adapter_is_what_answers(trained, small_checkpoint):
    """Merged into the weights by rank 8 and alpha 16, and into nothing but the language model."""
    plain = lmms_awares.load(str(small_checkpoint), dtype="float32", device="cpu")._engine.model.state_dict()
    chat = lmms_awares.load(str(small_checkpoint), adapter=str(trained), dtype="float32", device="cpu")
    assert chat.ask(picture((280, 224)), "What is it?", max_new_tokens=2).visual_tokens > 0
    found, lora = chat._engine.model.state_dict(), weights(trained)
    changed = {name for name in plain if not torch.equal(plain[name], found[name])}
    assert changed and all("language_model" in name and "_proj" in name for name in changed)
    for name in changed:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        expected = plain[name] + 2 * lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"]
        torch.testing.assert_close(found[name], expected)


def test_phases_and_examples(small_checkpoint, folder, tmp_path):
    """A first phase on call turns alone, then each turn by itself, high-res rows twice; all weights instead of LoRA."""
    made = tmp_path / "out"
    more = ("--phased", "True", "--per_message", "True", "--hr_repeat", "2", "--lora_rank", "0")
    sft(small_checkpoint, folder, made, *more)
    kept = {name: (made / name).stat().st_mtime_ns for name in ("calls/checkpoint-4", "checkpoint-4")}
    plain, found = (load_file(at / "model.safetensors") for at in (small_checkpoint, made))
    changed = {name for name in plain if not torch.equal(plain[name], found[name])}
    assert changed and not any("visual" in name for name in changed)
    assert any("embed_tokens" in name for name in changed)
    first = load_file(made / "calls" / "model.safetensors")
    assert any(not torch.equal(plain[name], first[name]) for name in plain)
    assert any(not torch.equal(found[name], first[name]) for name in plain)
    sft(small_checkpoint, folder, made, *more)
    assert kept == {name: (made / name).stat().st_mtime_ns for name in kept}, "a finished run trains no further"


def test_what_a_set_lacks_is_found_before_weights_load(small_checkpoint, folder, tmp_path, monkeypatch):
    """A row that is too long, and nothing to evaluate on; the folder of the training is not made either."""

    def load(*_):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(checkpoint, "load", load)
    with pytest.raises(UserError, match="row .* has .* tokens, more than max_length=300; allow more"):
        sft(small_checkpoint, folder, tmp_path / "out", "--max_length", "300")
    part = shutil.copytree(folder, tmp_path / "set")
    (part / "trajectories" / "validation-00000-of-1.parquet").unlink()
    with pytest.raises(UserError, match="has no split validation, .*; set eval_every=0") as caught:
        sft(small_checkpoint, part, tmp_path / "out", "--eval_every", "2", "--max_length", "8192")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="weights were loaded"):
        sft(small_checkpoint, part, tmp_path / "out", "--max_length", "8192")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--hr_repeat", "0"), "hr_repeat=0 must be 1 or more"),
        (("--per_device_train_batch_size", "0"), "per_device_train_batch_size"),
        (("--per_device_eval_batch_size", "0"), "per_device_eval_batch_size=0 must be 1 or more"),
        (("--tool_weight", "inf"), "tool_weight=inf must be 0 or more, and finite"),
        (("--report_to", "nonsense"), "report_to: nonsense is not known"),
        (("--curated", "nowhere"), "nowhere holds no curated set"),
        (("--pretrained", "nowhere"), "pretrained=nowhere"),
        (("--config", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("--tool_weigth", "5"), "tool_weigth"),
        (("--max_length", "20"), "more than max_length=20"),
    ],
)
def test_what_cannot_work_is_one_line(small_checkpoint, folder, tmp_path, more, words):
    with pytest.raises(UserError) as caught:
        sft(small_checkpoint, folder, tmp_path, *more)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_argument_at_all_is_one_line():
    with pytest.raises(UserError, match="give --config FILE"):
        read_settings(WeightedSFTConfig, [])
