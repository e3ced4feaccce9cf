"""Adapters: every weight finds its place and is merged, whatever its name was, or one line says which does not."""

import re

import pytest
import torch
from checkpoints import ADAPTER, SHIPPED, adapter_copy, copy_of, renamed, to_old_adapter_names, without
from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PromptTuningConfig, get_peft_model
from report_runs import exit_of
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

from lmms_awares import doctor
from lmms_awares.engine import checkpoint
from lmms_awares.errors import ConfigError
from lmms_awares.models.config import CommonArgs

IDS = torch.arange(40)[None]
FIRST = r"base_model\.model\."
BROKEN = {
    "two of four layers": (
        {"change": without(r"layers\.[23]\.")},
        rf"of its 28 weights and the 56 that its settings ask for, 28 weights are missing, first {FIRST}model\.language"
        r"_model\.layers\.2\.mlp\.down_proj\.lora_A\.weight",
    ),
    "two of four layers, old names": (
        {"change": lambda tensors: to_old_adapter_names(without(r"layers\.[23]\.")(tensors))},
        r"28 weights are missing, first base_model\.model\.model\.language_model\.layers\.2\.",
    ),
    "the language model's own names": (
        {"change": renamed(r"^base_model\.model\.model\.language_model\.", "base_model.model.")},
        rf"56 weights are without a place in the model, first {FIRST}layers\.0\.mlp\.down_proj\.lora_A\.weight",
    ),
    "no prefix": ({"change": renamed(r"^base_model\.model\.", "")}, r"first model\.language_model\.layers\.0"),
    "another size": (
        {"change": lambda tensors: {name: t.repeat(1, 2) for name, t in tensors.items()}},
        rf"56 weights are of another shape, first {FIRST}model\.language_model\.layers\.0\.mlp\.down_proj\.lora_A\."
        r"weight, which is \[16, 1024\] and must be \[16, 512\]",
    ),
    "another rank": ({"r": 8}, r"56 weights are of another shape, .* which is \[16, 512\] and must be \[8, 512\]"),
    "resized vocabulary": (
        {
            "change": lambda tensors: (
                tensors | {"base_model.model.model.language_model.embed_tokens.weight": torch.zeros(386, 192)}
            )
        },
        rf"1 weight is of another shape, first {FIRST}model\.language_model\.embed_tokens\.weight, which is "
        r"\[386, 192\] and must be \[384, 192\]",
    ),
    "no such module": ({"target_modules": ["wqkv"]}, r"Target modules \{'wqkv'\} not found"),
    "prompt tuning": (
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 8},
        r"is of type PROMPT_TUNING, which is not merged into weights here; use one of LORA, ",
    ),
    "a type of the future": ({"peft_type": "MAGIC"}, r"its adapter_config\.json cannot be used \(.*MAGIC"),
}


def logits(adapter=None, pretrained=SHIPPED):
    args = CommonArgs(pretrained=str(pretrained), adapter=adapter and str(adapter), dtype="float32")
    model, _ = checkpoint.load(args, "cpu")
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module")
def merged():
    return logits(ADAPTER)


@pytest.mark.parametrize("name", BROKEN)
def test_an_adapter_without_its_place_is_refused(name, tmp_path):
    how, words = BROKEN[name]
    folder = adapter_copy(tmp_path / "broken", **how)
    with pytest.raises(ConfigError, match=words) as error:
        checkpoint.check_checkpoint(str(SHIPPED), str(folder))
    message = str(error.value)
    assert message.startswith(f"adapter={folder}")
    assert "\n" not in message


def test_the_command_exits_2_and_the_doctor_fails(tmp_path, monkeypatch, capsys):
    folder = adapter_copy(tmp_path / "half", change=without(r"layers\.[23]\."))
    arguments = ["--model", "visionthink", "--tasks", "awares_mini_pope", "--output_path", tmp_path / "out"]
    options = f"pretrained={SHIPPED},adapter={folder}"
    code, stderr = exit_of(monkeypatch, capsys, "eval", *arguments, "--model_args", options)
    assert code == 2
    assert re.fullmatch(
        rf"awares: error: adapter={folder} does not fit the checkpoint: .*28 weights are missing.*\n", stderr
    )
    finding = doctor.checkpoint(str(SHIPPED), str(folder))
    assert finding.state == "fail"
    assert "28 weights are missing" in finding.detail


def test_old_names_are_merged_alike(tmp_path, merged):
    assert (merged - logits()).abs().max() > 1
    assert torch.equal(logits(adapter_copy(tmp_path / "old", change=to_old_adapter_names)), merged)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": r"^model\.layers\..*_proj"},
        {"target_modules": ".*model.layers.*_proj"},
        # gate_proj and the like are in the tower too
        {
            "target_modules": ["o_proj", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"],
            "exclude_modules": "visual.*",
        },
        {
            "target_modules": [f"model.layers.{k}.self_attn.{p}_proj" for k in range(4) for p in "qkvo"]
            + [f"model.layers.{k}.mlp.{p}_proj" for k in range(4) for p in ("up", "gate", "down")]
        },
    ],
    ids=["anchored", "unescaped", "names", "full names"],
)
def test_settings_in_old_names_choose_the_same_modules(settings, tmp_path, merged):
    folder = adapter_copy(tmp_path / "old", change=to_old_adapter_names, **settings)
    assert torch.equal(logits(folder), merged)


def test_ranks_and_scales_in_old_names_stay_with_their_modules(tmp_path, merged):
    """Half of layer 1's ranks are left out; its scale is set so that the other half counts as before."""

    def halved(tensors):
        made = {}
        for name, tensor in tensors.items():
            cut = ".layers.1." in name
            made[name] = (tensor[:8] if "lora_A" in name else tensor[:, :8]).contiguous() if cut else tensor
        return made

    patterns = {
        "target_modules": r"model\.layers\..*_proj",
        "rank_pattern": {r"model\.layers\.1\..*": 8},
        "alpha_pattern": {r"model\.layers\.1\..*": 16},
    }
    old = adapter_copy(tmp_path / "old", change=lambda t: to_old_adapter_names(halved(t)), **patterns)

    def zeroed(tensors):
        made = {name: tensor.clone() for name, tensor in tensors.items()}
        for name, tensor in made.items():
            if ".layers.1." in name and "lora_A" in name:
                tensor[8:] = 0
        return made

    same = adapter_copy(tmp_path / "same", change=zeroed)
    assert torch.allclose(logits(old), logits(same), atol=1e-4)
    assert not torch.allclose(logits(old), merged, atol=1e-2)


def small_base():
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32)


def trained(folder, config):
    """A saved adapter with random weights, and the logits of the model that wears it."""
    torch.manual_seed(0)
    tuned = get_peft_model(small_base(), config).eval()
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    tuned.save_pretrained(folder)
    with torch.inference_mode():
        return tuned(input_ids=IDS).logits


PROJECTIONS = ["q_proj", "v_proj"]
KINDS = {
    "LORA, two layers of a list": LoraConfig(r=4, target_modules=PROJECTIONS, layers_to_transform=[1, 3]),
    "LORA, a layer of a pattern": LoraConfig(r=4, target_modules=r".*layers\.2\..*_proj"),
    "LORA, tower and language model": LoraConfig(r=4, target_modules="all-linear"),
    "LORA, the head retrained": LoraConfig(r=4, target_modules=PROJECTIONS, modules_to_save=["lm_head"]),
    "LORA, the embeddings retrained": LoraConfig(r=4, target_modules=PROJECTIONS, modules_to_save=["embed_tokens"]),
    "LORA, single tokens": LoraConfig(r=4, target_modules=PROJECTIONS, trainable_token_indices=[3, 5]),
    "LORA, biases": LoraConfig(r=4, target_modules=PROJECTIONS, bias="lora_only"),
    "DORA": LoraConfig(r=4, target_modules=PROJECTIONS, use_dora=True),
    "RSLORA": LoraConfig(r=4, target_modules=PROJECTIONS, use_rslora=True),
    "PISSA": LoraConfig(r=4, target_modules=PROJECTIONS, init_lora_weights="pissa"),
    "LOHA": LoHaConfig(r=4, target_modules=PROJECTIONS),
    "LOKR": LoKrConfig(r=4, target_modules=PROJECTIONS),
    "IA3": IA3Config(target_modules=[*PROJECTIONS, "down_proj"], feedforward_modules=["down_proj"]),
    "OFT": OFTConfig(r=0, oft_block_size=32, target_modules=PROJECTIONS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_answers_as_it_was_trained(kind, tmp_path):
    expected = trained(tmp_path / "adapter", KINDS[kind])
    found = logits(tmp_path / "adapter")
    assert (found - expected).abs().max() < 1e-3
    assert (found - logits()).abs().max() > 0.05


def test_prompt_tuning_is_refused(tmp_path):
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, token_dim=192, num_layers=4, num_attention_heads=6
    )
    get_peft_model(small_base(), config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(ConfigError, match="is of type PROMPT_TUNING, which is not merged into weights here"):
        checkpoint.check_checkpoint(str(SHIPPED), str(tmp_path / "prompt"))


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_one_end_of_a_tied_matrix_is_refused(module, tmp_path):
    trained(tmp_path / "tied", LoraConfig(r=4, target_modules=[*PROJECTIONS, module]))
    with pytest.raises(ConfigError, match=f"it adapts .*{module} alone, which the checkpoint ties to its other end"):
        checkpoint.check_checkpoint(str(SHIPPED), str(tmp_path / "tied"))


def test_whole_embeddings_beside_an_adapter_arrive(tmp_path):
    """peft saves them where the vocabulary was resized; a matrix of the right size is taken."""
    name = "base_model.model.model.language_model.embed_tokens.weight"
    flipped = load_file(SHIPPED / "model.safetensors")["model.embed_tokens.weight"].float().flip(0).contiguous()
    folder = adapter_copy(tmp_path / "whole", change=lambda tensors: tensors | {name: flipped})
    base = copy_of(SHIPPED, tmp_path / "base", change=lambda tensors: tensors | {"model.embed_tokens.weight": flipped})
    assert torch.equal(logits(folder), logits(ADAPTER, pretrained=base))


def test_a_weight_under_both_names_is_refused(tmp_path):
    def both(tensors):
        return tensors | {name: tensor.clone() for name, tensor in to_old_adapter_names(tensors).items()}

    folder = adapter_copy(tmp_path / "both", change=both)
    with pytest.raises(ConfigError, match="holds weights twice"):
        checkpoint.check_checkpoint(str(SHIPPED), str(folder))


def test_old_files(tmp_path, merged):
    folder = adapter_copy(tmp_path / "bin")
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"holds no weights \(adapter_model\.safetensors\)"):
        checkpoint.check_checkpoint(str(SHIPPED), str(folder))
    torch.save(tensors, folder / "adapter_model.bin")
    assert torch.equal(logits(folder), merged)
