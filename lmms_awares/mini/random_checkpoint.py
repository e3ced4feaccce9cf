"""A tiny Qwen2.5-VL with random weights: a real checkpoint in every respect but its answers, which mean nothing.

It makes the whole program run, and be tested, without a hub: `python -m lmms_awares.mini.random_checkpoint DIR`.
"""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from lmms_awares.tokens import DEFAULT_MAX_PIXELS, DEFAULT_MIN_PIXELS, MERGE, PATCH

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
    """A byte-level tokenizer of 273 tokens with Qwen's special tokens; needs no download."""
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


def chat_template() -> str:
    """Qwen2.5-VL's chat format, as this project's small checkpoints carry it."""
    return (files("lmms_awares.mini") / "chat_template.jinja").read_text(encoding="utf-8")


def build(
    directory: Path,
    tokenizer: PreTrainedTokenizerFast | None = None,
    *,
    seed: int = 0,
    std: float = 0.1,
    dtype: torch.dtype = torch.float32,
    min_pixels: int = DEFAULT_MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Path:
    """Write a checkpoint folder (weights, tokenizer, processor, template) and return it.

    Args:
        directory: created where missing.
        tokenizer: default: `byte_tokenizer()`.
        std: of the random weights; at Qwen's own 0.02 so small a model hardly reacts to the image.
    """
    tokenizer = tokenizer or byte_tokenizer()
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer, std)).to(dtype)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return save(directory, model, tokenizer, min_pixels=min_pixels, max_pixels=max_pixels)


def save(
    directory: Path,
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    *,
    min_pixels: int = DEFAULT_MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Path:
    """Write model, tokenizer, processor and template as a checkpoint folder; created where missing."""
    tokenizer.chat_template = chat_template()
    size = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=min_pixels, max_pixels=max_pixels, **size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**size),
        chat_template=tokenizer.chat_template,
    )
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _config(tokenizer: PreTrainedTokenizerFast, std: float) -> Qwen2_5_VLConfig:
    text, ids = token_settings(tokenizer)
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
            "initializer_range": std,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": 64,
            "window_size": 112,
            "fullatt_block_indexes": [1, 3],
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "initializer_range": std,
        },
        **ids,
        tie_word_embeddings=True,
        initializer_range=std,
    )


def token_settings(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a Qwen2.5-VL configuration says about its tokenizer: in its text part, and at its top."""
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
    arguments = parser.parse_args()
    print(build(arguments.directory, seed=arguments.seed))


if __name__ == "__main__":
    main()
