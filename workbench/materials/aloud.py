"""Answers as they grow, with nothing left to chance: several prompts are read together, and what is said so far is told after every token.

What it is not: answers that are told when they are whole (`speaking.py`), or drawn by chance (`asking.py`).
"""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.materials.roomy import RoomyCache


@torch.no_grad()
def growing(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], most: int) -> Iterator[list[str]]:
    """After each of at most `most` tokens the answers so far to prompts given as tokens; the last ones are whole."""
    pad, longest = tokenizer.pad_token_id or 0, max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    cache, said = RoomyCache(), ids[:, :0]
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    for _ in range(most):
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        told = model(
            input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1
        )  # fmt: skip
        ids = told.logits[:, -1].argmax(-1).masked_fill(ended, pad)[:, None]
        said, mask = torch.cat([said, ids], 1), torch.cat([mask, torch.ones_like(ids)], 1)
        ended |= ids[:, 0] == (-1 if tokenizer.eos_token_id is None else tokenizer.eos_token_id)
        yield [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
        if ended.all():
            return
