"""A tiny Qwen2.5-VL or Qwen3-VL with random weights: complete in every respect, only its answers are random.

With it the whole program runs, and is tested, without a hub: `python -m lmms_awares.mini.random_checkpoint DIR`.
"""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from lmms_awares.families import FAMILIES, QWEN2_5_VL, QWEN3_VL, Family, Model, family_of
from lmms_awares.tokens import LOADER_TOKENS

SPECIAL_TOKENS = (  # in Qwen2.5-VL's order, so that the real vocabulary gets the real ids
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TOOL_TOKENS = ("<tool_call>", "</tool_call>")  # not special in Qwen's tokenizer: they survive decoding


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer of 273 tokens with Qwen's special tokens; needs no download."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return finish_tokenizer(tokenizer)


def finish_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Add Qwen's special tokens to a tokenizer and set its roles as Qwen2.5-VL has them."""
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in _TOOL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=32768,
    )


def chat_template(family: Family = QWEN2_5_VL) -> str:
    """Return the family's chat template, as this project's small checkpoints carry it."""
    name = {"qwen2_5_vl": "chat_template.jinja", "qwen3_vl": "chat_template_qwen3.jinja"}[family.model_type]
    return (files("lmms_awares.mini") / name).read_text(encoding="utf-8")


def build(
    directory: Path,
    tokenizer: PreTrainedTokenizerFast | None = None,
    *,
    family: Family = QWEN2_5_VL,
    seed: int = 0,
    std: float = 0.1,
    dtype: torch.dtype = torch.float32,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Path:
    """Write a checkpoint folder (weights, tokenizer, processor, template) and return it.

    Args:
        directory: created where missing.
        tokenizer: default: `byte_tokenizer()`.
        family: Qwen2.5-VL or Qwen3-VL.
        seed: of the random weights.
        std: of the random weights; at Qwen's own 0.02 so small a model hardly reacts to the image.
        dtype: of the stored weights.
        min_pixels, max_pixels: default: 4 and 16384 visual tokens.

    Example:
        build(Path("tiny"))  # then: awares eval --model awares --model_args pretrained=tiny --tasks awares_mini
    """
    tokenizer = tokenizer or byte_tokenizer()
    torch.manual_seed(seed)
    model = family.model_class()(_CONFIGS[family.model_type](tokenizer, std)).to(dtype)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return save(directory, model, tokenizer, min_pixels=min_pixels, max_pixels=max_pixels)


def save(
    directory: Path,
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Path:
    """Write model, tokenizer, processor and template as a checkpoint folder; created where missing."""
    family = family_of(model.config)
    tokenizer.chat_template = chat_template(family)
    size = {"patch_size": family.patch, "merge_size": family.merge, "temporal_patch_size": 2}
    least, most = (tokens * family.token_side**2 for tokens in LOADER_TOKENS)
    images = Qwen2VLImageProcessor(min_pixels=min_pixels or least, max_pixels=max_pixels or most, **size)
    processor_class, video_class = _PROCESSORS[family.model_type]
    processor = processor_class(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=video_class(**size),
        chat_template=tokenizer.chat_template,
    )
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _text(tokenizer: PreTrainedTokenizerFast, std: float) -> dict[str, Any]:
    return {
        **token_settings(tokenizer)[0],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        "initializer_range": std,
    }


def _tower(family: Family, std: float) -> dict[str, Any]:
    return {
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "patch_size": family.patch,
        "spatial_merge_size": family.merge,
        "temporal_patch_size": 2,
        "initializer_range": std,
    }


def _qwen2_5(tokenizer: PreTrainedTokenizerFast, std: float) -> PretrainedConfig:
    return Qwen2_5_VLConfig(
        text_config=_text(tokenizer, std),
        vision_config=_tower(QWEN2_5_VL, std) | {"window_size": 112, "fullatt_block_indexes": [1, 3]},
        **token_settings(tokenizer)[1],
        tie_word_embeddings=True,
        initializer_range=std,
    )


def _qwen3(tokenizer: PreTrainedTokenizerFast, std: float) -> PretrainedConfig:
    """Return a configuration of eight layers: half of the tokens can go behind those that add DeepStack's levels."""
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 1e6}
    return Qwen3VLConfig(
        text_config=_text(tokenizer, std) | {"num_hidden_layers": 8, "head_dim": 16, "rope_parameters": rope},
        vision_config=_tower(QWEN3_VL, std) | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]},
        **token_settings(tokenizer)[1],
        tie_word_embeddings=True,
    )


_CONFIGS = {"qwen2_5_vl": _qwen2_5, "qwen3_vl": _qwen3}
_PROCESSORS = {
    "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
    "qwen3_vl": (Qwen3VLProcessor, Qwen3VLVideoProcessor),
}


def token_settings(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Qwen2.5-VL configuration's settings for its tokenizer: those of its text part, and those at its top."""
    text = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.pad_token_id,
    }
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    keys = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return text, {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in zip(keys, names, strict=True)}


def main() -> None:
    """Build a checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES, default=QWEN2_5_VL.model_type)
    arguments = parser.parse_args()
    print(build(arguments.directory, family=FAMILIES[arguments.family], seed=arguments.seed))


if __name__ == "__main__":
    main()
