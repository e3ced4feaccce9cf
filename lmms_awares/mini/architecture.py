"""The tiny checkpoint's configuration: a real Qwen2.5-VL of about 3 million parameters."""

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from lmms_awares.families import QWEN2_5_VL
from lmms_awares.mini.random_checkpoint import token_settings

INIT_STD = 0.05  # with Qwen's 0.02 so small a model hardly learns
EMBEDDING_STD = 0.1
HIDDEN = 192


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Return the configuration for a tokenizer with Qwen's special tokens.

    As in the published model, the tower's last block has full attention and the ones before it attend within windows;
    a window is one 56-px slot of the mini suite's pictures.
    """
    text, ids = token_settings(tokenizer)
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
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
            "patch_size": QWEN2_5_VL.patch,
            "spatial_merge_size": QWEN2_5_VL.merge,
            "temporal_patch_size": 2,
            "initializer_range": INIT_STD,
        },
        **ids,
        tie_word_embeddings=True,
        initializer_range=INIT_STD,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Make the model with random weights, in float32.

    Attention starts out copying: keys are made as queries are, and the output matrix undoes the values. So after two
    layers the symbol that a question names and the visual token that shows it come together.
    """
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config(tokenizer)).float()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(EMBEDDING_STD / INIT_STD)
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.v_proj.weight.copy_(torch.nn.init.orthogonal_(attention.v_proj.weight))
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
