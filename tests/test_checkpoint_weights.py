"""Checkpoints whose weights do not arrive: refused from names and shapes, before and while loading."""

import json
import re

import pytest
import torch
from checkpoints import ADAPTER, SHIPPED, copy_of, edit, renamed, to_new_names, without
from report_runs import exit_of
from safetensors.torch import load_file, save_file

from lmms_awares import doctor
from lmms_awares.engine import checkpoint
from lmms_awares.errors import ConfigError
from lmms_awares.models.config import CommonArgs

BROKEN = {
    "behind peft's wrapper": (
        {"change": renamed("^", "base_model.model.")},
        r"105 weights are missing, first lm_head\.weight, 104 weights are without a place in the model, first "
        r"base_model\.model\.model\.embed_tokens\.weight",
    ),
    "behind a parallel wrapper": (
        {"change": renamed("^", "module.")},
        r"105 weights are missing, first lm_head\.weight, .* first module\.model\.embed_tokens\.weight",
    ),
    "one layer": (
        {"change": without(r"\.layers\.2\.")},
        r"12 weights are missing, first model\.language_model\.layers\.2\.input_layernorm\.weight",
    ),
    "no tower": ({"change": without("^visual")}, r"54 weights are missing, first model\.visual\.blocks\.0"),
    "no head": ({"config": {"tie_word_embeddings": False}}, r"1 weight is missing, first lm_head\.weight"),
    "another size": (
        {"config": {"text_config": {"intermediate_size": 256}}},
        r"12 weights are of another shape, first model\.language_model\.layers\.0\.mlp\.down_proj\.weight, which is "
        r"\[192, 512\] and must be \[192, 256\]",
    ),
    "more layers than configured": (
        {"config": {"text_config": {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}}},
        r"12 weights are without a place in the model, first model\.language_model\.layers\.3\.",
    ),
}


def load(folder, **arguments):
    return checkpoint.load(CommonArgs(pretrained=str(folder), **arguments), "cpu")


def logits(folder, **arguments):
    model, _ = load(folder, **arguments)
    with torch.inference_mode():
        return model(input_ids=torch.arange(40)[None]).logits


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_do_not_arrive_are_refused(name, tmp_path):
    how, words = BROKEN[name]
    folder = copy_of(SHIPPED, tmp_path / "broken", **how)
    with pytest.raises(ConfigError, match=words) as error:
        checkpoint.check_checkpoint(str(folder))
    assert one_line(error).startswith(f"pretrained={folder} does not fit its config.json: ")


@pytest.mark.parametrize("name", BROKEN)
def test_loading_checks_by_itself(name, tmp_path, monkeypatch):
    """What no header tells, as of a hub id that was just fetched, the loading info does."""
    how, words = BROKEN[name]
    folder = copy_of(SHIPPED, tmp_path / "broken", **how)
    monkeypatch.setattr(checkpoint, "check_weights", lambda *_: None)
    with pytest.raises(ConfigError, match=words) as error:
        load(folder)
    one_line(error)


def test_the_command_exits_2_and_the_doctor_fails(tmp_path, monkeypatch, capsys):
    folder = copy_of(SHIPPED, tmp_path / "broken", change=without("^visual"))
    arguments = ["--model", "qwen2_5_vl_full", "--tasks", "awares_mini_pope", "--output_path", tmp_path / "out"]
    code, stderr = exit_of(monkeypatch, capsys, "eval", *arguments, "--model_args", f"pretrained={folder}")
    assert code == 2
    assert stderr.splitlines() == [
        f"awares: error: pretrained={folder} does not fit its config.json: 54 weights are missing, first "
        "model.visual.blocks.0.attn.proj.bias; save it again with save_pretrained, from the unwrapped model"
    ]
    finding = doctor.checkpoint(str(folder), None)
    assert finding.state == "fail"
    assert "54 weights are missing" in finding.detail
    assert doctor.checkpoint(str(SHIPPED), str(ADAPTER)).state == "ok"


def test_old_and_new_names_load_the_same(tmp_path):
    new = copy_of(SHIPPED, tmp_path / "new", change=to_new_names)
    assert {name.split(".")[1] for name in load_file(new / "model.safetensors")} == {"visual", "language_model"}
    assert torch.equal(logits(new), logits(SHIPPED))


def test_an_untied_head_is_the_files_own(tmp_path):
    """Untied it must be there; in a tied checkpoint either name of the one matrix will do."""

    def with_head(tensors):
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].flip(0).contiguous()}

    untied = copy_of(SHIPPED, tmp_path / "untied", change=with_head, config={"tie_word_embeddings": False})
    assert torch.allclose(logits(untied), logits(SHIPPED).flip(-1), atol=1e-4)
    head_only = copy_of(SHIPPED, tmp_path / "head", change=renamed(r"^model\.embed_tokens\.", "lm_head."))
    assert torch.equal(logits(head_only), logits(SHIPPED))


def sharded(folder):
    """The weights of `folder` in two files."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    parts = [{name: t for name, t in tensors.items() if name.startswith("visual") == bool(k)} for k in (0, 1)]
    for file, part in zip(names, parts, strict=True):
        save_file(part, folder / file, {"format": "pt"})
    places = {name: file for file, part in zip(names, parts, strict=True) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return names


def test_shards(tmp_path):
    folder = copy_of(SHIPPED, tmp_path / "shards")
    names = sharded(folder)
    assert torch.equal(logits(folder), logits(SHIPPED))
    (folder / names[1]).unlink()
    with pytest.raises(ConfigError, match=rf"lacks {names[1]}: 1 of the 2 files that its .*index\.json names") as error:
        checkpoint.check_checkpoint(str(folder))
    one_line(error)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ConfigError, match="index.json is no index of weights"):
        checkpoint.check_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_is_cut_off_is_named(name, tmp_path):
    folder = copy_of(SHIPPED, tmp_path / "cut")
    if name != "model.safetensors":
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=rf"{re.escape(name)} cannot be read \(.*\); copy it again") as error:
        checkpoint.check_checkpoint(str(folder))
    one_line(error)


def test_old_files_are_compared_too(tmp_path):
    folder = copy_of(SHIPPED, tmp_path / "bin")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert torch.equal(logits(folder), logits(SHIPPED))
    torch.save(without("^visual")(tensors), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="54 weights are missing"):
        checkpoint.check_checkpoint(str(folder))


def test_a_folder_of_both_kinds_is_refused(tmp_path):
    """transformers would load the base that the adapter names, wherever that is."""
    folder = copy_of(SHIPPED, tmp_path / "both")
    (folder / "adapter_config.json").write_bytes((ADAPTER / "adapter_config.json").read_bytes())
    with pytest.raises(ConfigError, match="holds an adapter_config.json beside its config.json"):
        checkpoint.check_checkpoint(str(folder))


def test_a_configuration_that_makes_no_model_is_one_line(tmp_path):
    folder = copy_of(SHIPPED, tmp_path / "torn")
    edit(folder / "config.json", text_config=[1])
    with pytest.raises(ConfigError, match="its config.json cannot be used") as error:
        checkpoint.check_checkpoint(str(folder))
    one_line(error)


def test_a_hub_id_is_compared_where_the_cache_holds_its_weights(tmp_path, monkeypatch):
    """Where only its configuration was fetched so far, the weights are judged when they are loaded."""
    snapshot = copy_of(SHIPPED, tmp_path / "snapshot", change=without("^visual"))
    monkeypatch.setattr(checkpoint, "_find", lambda location, name, argument: snapshot / name)
    with pytest.raises(ConfigError, match="pretrained=someone/model does not fit .* 54 weights are missing"):
        checkpoint.check_checkpoint("someone/model")
    (snapshot / "model.safetensors").unlink()
    checkpoint.check_checkpoint("someone/model")


def test_nothing_is_reported_where_nothing_is_wrong(capfd):
    checkpoint.check_checkpoint(str(SHIPPED), str(ADAPTER))
    assert capfd.readouterr() == ("", "")
