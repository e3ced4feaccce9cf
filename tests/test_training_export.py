"""`awares train export`: the folder answers as base and adapter do, is the base in all else, and says what it is."""

import json
import shutil

import curated_sets
import pytest
import torch
from checkpoints import SHIPPED
from harness import picture
from peft import LoraConfig, get_peft_model
from report_runs import awares
from safetensors.torch import load_file, save_file
from test_training_runs import FIXED

import lmms_awares
from lmms_awares.engine import checkpoint
from lmms_awares.engine.local import LocalEngine
from lmms_awares.engine.turns import Decoding, Opening
from lmms_awares.errors import ConfigError, UserError
from lmms_awares.families import FAMILIES
from lmms_awares.mini.random_checkpoint import build
from lmms_awares.models.config import CommonArgs
from lmms_awares.training.conditions import write_conditions
from lmms_awares.training.sft import LANGUAGE_MODEL, WeightedSFTConfig
from lmms_awares.views import plan_views, show

SIZES = ((280, 224), (420, 140), (140, 308))


@pytest.fixture(scope="module")
def folder(small_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    curated_sets.write(folder, keep_stages=False)
    return curated_sets.fit(folder, small_checkpoint)


@pytest.fixture(scope="module")
def trained(small_checkpoint, folder, tmp_path_factory):
    """A real training with evaluations."""
    output = tmp_path_factory.mktemp("runs") / "sft"
    named = ("--pretrained", small_checkpoint, "--curated", folder, "--output_dir", output)
    short = ("--max_steps", "2", "--save_steps", "1", "--per_device_train_batch_size", "1", "--learning_rate", "0.05")
    evaluated = ("--eval_every", "1", "--eval_rows", "3", "--best", "rtr@rtr<=9")
    assert awares("train", "sft", *named, *FIXED, *short, *evaluated).exit_code == 0
    return output


def finished(base, folder, output, *, rank):
    """A training as it lies on disk, without one: an adapter or weights that are drawn at random."""
    settings = WeightedSFTConfig(
        output_dir=str(output), pretrained=str(base), curated=str(folder), bf16=False, use_cpu=True, lora_rank=rank
    )
    write_conditions(output, "sft", settings, pretrained=str(base), curated=folder)
    model, processor = checkpoint.load(CommonArgs(pretrained=str(base)), "cpu")
    torch.manual_seed(2)
    if rank:
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_MODEL, init_lora_weights=False)
        model = get_peft_model(model, lora)
    else:
        for name, weight in model.named_parameters():
            if "language_model" in name:
                weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    return output


@pytest.fixture(scope="module")
def drawn(small_checkpoint, folder, tmp_path_factory):
    return finished(small_checkpoint, folder, tmp_path_factory.mktemp("drawn") / "run", rank=4)


def export(run, out, *more):
    shown = awares("train", "export", run, "-o", out, *more)
    assert shown.exit_code == 0 and shown.stdout.strip() == str(out)
    return out


def ids(engine):
    """Of greedy replies to several views."""
    openings = []
    for number, size in enumerate(SIZES):
        content = [{"type": "image"}, {"type": "text", "text": f"What is {number}?"}]
        view = show(picture(size, number), plan_views(*size), "lowres")
        openings.append(engine.prepare(Opening([{"role": "user", "content": content}], None, [view])))
    return [reply.ids for reply in engine.start(openings).generate(Decoding(12))]


def opened(pretrained, **named):
    return LocalEngine.open(CommonArgs(pretrained=str(pretrained), **named), "cpu")


def formats(folder):
    """All files but weights and card."""
    kept = (file for file in folder.iterdir() if file.is_file() and file.suffix in (".json", ".jinja", ".txt"))
    return {file.name: file.read_bytes() for file in kept}


@pytest.mark.parametrize("kind", ["real", "drawn"])
def test_an_adapter_is_merged(kind, trained, drawn, small_checkpoint, tmp_path):
    run = trained if kind == "real" else drawn
    out = export(run, tmp_path / "out")
    expected = ids(opened(small_checkpoint, adapter=str(run)))
    assert ids(opened(out)) == expected
    assert expected != ids(opened(small_checkpoint))
    assert formats(out) == formats(small_checkpoint)
    assert checkpoint.format_fingerprint(str(out)) == checkpoint.format_fingerprint(str(small_checkpoint))
    assert lmms_awares.load(out, device="cpu").ask(picture((280, 224)), "What?", max_new_tokens=2).visual_tokens > 0


def test_all_weights_are_taken(small_checkpoint, folder, tmp_path):
    run = finished(small_checkpoint, folder, tmp_path / "run", rank=0)
    out = export(run, tmp_path / "out")
    found, expected = load_file(out / "model.safetensors"), load_file(run / "model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert formats(out) == formats(small_checkpoint)
    assert "all weights of the language model were trained" in (out / "README.md").read_text()


def test_the_dtype_of_the_bases_file_is_kept(folder, tmp_path):
    """The mini checkpoint is stored in float16 and runs in float32."""
    run = finished(SHIPPED, folder, tmp_path / "run", rank=4)
    out = export(run, tmp_path / "out")
    found, base = load_file(out / "model.safetensors"), load_file(SHIPPED / "model.safetensors")
    assert {name: weight.dtype for name, weight in found.items()} == dict.fromkeys(base, torch.float16)
    assert (out / "config.json").read_bytes() == (SHIPPED / "config.json").read_bytes()
    merged = opened(SHIPPED, adapter=str(run)).model.state_dict()
    again = opened(out).model.state_dict()
    assert again.keys() == merged.keys()
    assert all(torch.equal(again[name], merged[name].half().float()) for name in again)
    assert any(not torch.equal(found[name], base[name]) for name in base)


def test_the_card_says_what_it_is(trained, drawn, folder, tmp_path):
    card = (export(trained, tmp_path / "last", "--curated", folder) / "README.md").read_text()
    told = json.loads((trained / "training.json").read_text())[-1]
    measured = json.loads((trained / "validation" / "step-2.json").read_text())
    assert "LORA, rank 8, alpha 16" in card and "the end of the training" in card
    assert all(told[name][:12] in card for name in ("content", "data", "prompt", "code"))
    assert "| `learning_rate` | `0.05` |" in card and "output_dir" not in card
    assert "| base | tiny-bytes, content" in card and str(trained.parent.parent) not in card  # no path of this machine
    assert f"| trl | {told['versions']['trl']} |" in card
    assert "at step 2" in card and f"| {measured['summary']['rtr']:.3f} |" in card and "| docvqa_val | 1 | 0 |" in card
    assert "| validation | chartqa | " in card
    best = json.loads((trained / "best" / "best.json").read_text())
    card = (export(trained / "best", tmp_path / "best") / "README.md").read_text()
    assert "the best checkpoint" in card and f"at step {best['step']}" in card
    assert "this training was not evaluated" in (export(drawn, tmp_path / "drawn") / "README.md").read_text()


def test_conditions_are_kept_where_they_change(trained, folder, small_checkpoint, tmp_path):
    told = json.loads((trained / "training.json").read_text())
    assert len(told) == 1 and told[0]["pretrained"] == str(small_checkpoint)
    assert told[0]["settings"]["eval_every"] == 1 and "tool_weight" not in told[0]["settings"]
    settings = WeightedSFTConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True)

    def start(**changes):
        given = {"pretrained": str(small_checkpoint), "curated": folder, "stage": "sft"} | changes
        write_conditions(tmp_path, settings=settings, **given)
        return [one["settings"].get("max_steps") for one in json.loads((tmp_path / "training.json").read_text())]

    for steps in (1, 2):
        settings.max_steps = steps
        assert start() == [steps]  # nothing was trained yet: what failed at its start is no part of it
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    assert start() == [2]
    settings.max_steps = 3
    assert start() == [2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [("seed", "seed=3, not the default"), ("stage", "stage sft, not grpo"), ("base", "base "), ("data", "data ")],
)
def test_a_training_does_not_go_on_with_something_else(change, words, folder, small_checkpoint, tmp_path):
    """The checkpoint's state would win, and the record would say otherwise."""
    out = tmp_path / "out"
    settings = WeightedSFTConfig(output_dir=str(out), bf16=False, use_cpu=True, seed=3)
    given = {"stage": "sft", "settings": settings, "pretrained": str(small_checkpoint), "curated": folder}
    write_conditions(out, **given)
    (out / "checkpoint-1").mkdir()
    (out / "checkpoint-1" / "trainer_state.json").write_text("{}")
    before = (out / "training.json").read_bytes()
    if change == "seed":
        settings.seed = 42
    elif change == "stage":
        given["stage"] = "grpo"
    elif change == "base":
        other = shutil.copytree(small_checkpoint, tmp_path / "other")
        (other / "generation_config.json").write_text("{}")
        given["pretrained"] = str(other)
    else:
        told = json.loads(before)
        told[0]["data"] = "0" * 64
        (out / "training.json").write_text(json.dumps(told))
        before = (out / "training.json").read_bytes()
    with pytest.raises(ConfigError, match=f"holds a training with {words}") as caught:
        write_conditions(out, **given)
    assert "\n" not in str(caught.value) and (out / "training.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(folder, small_checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    settings = WeightedSFTConfig(output_dir=str(tmp_path / "file"), bf16=False, use_cpu=True)
    with pytest.raises(ConfigError, match="output_dir=.*file cannot be written: "):
        write_conditions(tmp_path / "file", "sft", settings, pretrained=str(small_checkpoint), curated=folder)


# --- what is refused, in one line and before anything is written


def unknown(run, base, out):
    (run / "training.json").unlink()
    return "holds no training (training.json)"


def unfinished(run, base, out):
    (run / "adapter_model.safetensors").unlink()
    return "is not finished"


def not_empty(run, base, out):
    out.mkdir()
    (out / "file").touch()
    return "is not empty"


def no_base(run, base, out):
    shutil.rmtree(base)
    return "does not exist"


def another_architecture(run, base, out):
    shutil.rmtree(base)
    build(base, family=FAMILIES["qwen3_vl"])
    return "does not fit the checkpoint"


def another_content(run, base, out):
    weights = load_file(base / "model.safetensors")
    first = min(weights)
    save_file(weights | {first: weights[first] + 1}, base / "model.safetensors", {"format": "pt"})
    return "is not what it was"


@pytest.mark.parametrize(
    "spoil", [unknown, unfinished, not_empty, no_base, another_architecture, another_content], ids=lambda f: f.__name__
)
def test_refused(spoil, drawn, small_checkpoint, tmp_path):
    run, base, out = tmp_path / "run", tmp_path / "base", tmp_path / "out"
    shutil.copytree(drawn, run)
    shutil.copytree(small_checkpoint, base)
    told = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps([told[0] | {"pretrained": str(base)}]))
    words = spoil(run, base, out)
    with pytest.raises(UserError) as caught:
        export(run, out)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not out.exists() or [file.name for file in out.iterdir()] == ["file"]


def test_all_weights_of_another_model_are_refused(small_checkpoint, folder, tmp_path):
    run, base = tmp_path / "run", tmp_path / "base"
    shutil.copytree(small_checkpoint, base)
    finished(base, folder, run, rank=0)
    another_architecture(run, base, tmp_path / "out")
    with pytest.raises(UserError, match="is another model than the one trained"):
        export(run, tmp_path / "out")


def test_another_set_is_refused(drawn, folder, tmp_path):
    other = tmp_path / "set"
    shutil.copytree(folder, other)
    min((other / "trajectories").glob("train-*")).unlink()
    with pytest.raises(UserError, match="is not the set"):
        export(drawn, tmp_path / "out", "--curated", other)
    assert not (tmp_path / "out").exists()
