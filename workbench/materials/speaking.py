"""What a model answers when nothing is left to chance. Not here: sampling, streaming and comparing (`jobs/compare.py`)."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.materials.templates import prompt_ids

MOST = 40  # tokens of an answer


@torch.no_grad()
def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The likeliest answer to one question, at most `MOST` tokens."""
    ids = torch.tensor([prompt_ids(tokenizer, [{"role": "user", "content": prompt}])], device=model.device)
    spoken = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, do_sample=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return tokenizer.decode(spoken[0, ids.shape[1] :], skip_special_tokens=True).strip()
