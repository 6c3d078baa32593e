"""Pico models made in memory, for every test that needs a real transformer and no weights from anywhere; and a batch to show them."""

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


def make_batch() -> dict[str, torch.Tensor]:
    """(4, 12) tokens; the first three positions and two ends are not learnt."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 400, (4, 12), generator=generator)
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :3], labels[0, 10:], mask[0, 10:] = -100, -100, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
