"""The tiny checkpoint's configuration: a real Qwen2.5-VL of about 4 million parameters."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from lmms_awares.tokens import MERGE, PATCH

INIT_STD = 0.05  # with Qwen's 0.02 so small a model hardly learns
HIDDEN = 192


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Configuration for a tokenizer with Qwen's special tokens.

    As in the published model, the tower's last block has full attention and the ones before it attend within windows;
    a window is one 56-px slot of the mini suite's pictures.
    """

    def token(name: str) -> Any:
        return tokenizer.convert_tokens_to_ids(name)

    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.pad_token_id,
            "initializer_range": INIT_STD,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "out_hidden_size": HIDDEN,
            "window_size": 56,
            "fullatt_block_indexes": [3],
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "initializer_range": INIT_STD,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        initializer_range=INIT_STD,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The model with random weights, in float32."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config(tokenizer)).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
