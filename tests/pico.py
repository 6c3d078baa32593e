"""Pico models made in memory, for every test that needs a real transformer and no weights from anywhere."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def make_model(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A Llama of 3 layers and width 32 with random weights, in eval mode."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changes})).eval()
