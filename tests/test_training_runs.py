"""`awares train sft`: a run that was ended goes on, the adapter serves, settings that cannot work are one line."""

import json
import shutil

import curated_sets
import pytest
from harness import picture
from report_runs import awares
from safetensors.torch import load_file

import lmms_awares
from lmms_awares.engine.checkpoint import format_fingerprint
from lmms_awares.errors import UserError
from lmms_awares.journal import digest
from lmms_awares.protocol import GetCrops
from lmms_awares.training.sft import last_checkpoint

FIXED = ("--weights_dtype", "float32", "--bf16", "False", "--use_cpu", "True", "--report_to", "none", "--seed", "1")
SHORT = ("--max_steps", "4", "--save_steps", "2", "--logging_steps", "1", "--per_device_train_batch_size", "2")


@pytest.fixture(scope="module")
def folder(small_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder)
    built = {
        "prompt": digest(GetCrops.own["system"]),
        "format": format_fingerprint(str(small_checkpoint)),
        **{"min_pixels": None, "max_pixels": None, "lowres_base": "processed"},
    }
    (folder / "provenance.json").write_text(json.dumps({"stages": {"build": built}}))
    return folder


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


def test_the_adapter_answers(trained, small_checkpoint):

    chat = lmms_awares.load(str(small_checkpoint), adapter=str(trained), dtype="float32", device="cpu")
    assert chat.ask(picture((280, 224)), "What is it?", policy="never", max_new_tokens=2).visual_tokens > 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--hr_repeat", "0"), "hr_repeat=0 must be 1 or more"),
        (("--curated", "nowhere"), "nowhere/provenance.json does not say"),
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
