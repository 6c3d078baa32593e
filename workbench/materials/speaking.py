"""What a model answers when nothing is left to chance. Not here: sampling, streaming and comparing (`jobs/compare.py`)."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.materials.templates import prompt_ids

MOST = 40  # tokens of an answer


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The likeliest answer to one question, at most `MOST` tokens."""
    return spoken(model, tokenizer, [prompt_ids(tokenizer, [{"role": "user", "content": prompt}])], MOST)[0]


@torch.no_grad()
def spoken(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], most: int) -> list[str]:
    """The likeliest answers, of at most `most` tokens, to prompts given as tokens; they are read together, filled up on the left."""
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    said = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return [text.strip() for text in tokenizer.batch_decode(said[:, longest:], skip_special_tokens=True)]
