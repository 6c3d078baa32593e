"""How well a model knows a skill of the pocket world: the share of right answers to the letter, or its loss.

For claims, benchmarks and tests. What it is not: the Compare tab (that is `jobs/compare.py`); here nothing is streamed.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.materials.world.row import Row
from workbench.materials.world.skills import SKILLS, World

BATCH, MOST = 64, 64  # rows answered at once, and the most tokens of an answer


def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World, skill: str, number: int, seed: int) -> float:
    """The skill on `number` held-out rows: the share of right answers in [0, 1], or nats per token where it is `by` loss."""
    rows = world.rows(skill, number, seed, held_out=True)
    if SKILLS[skill].by == "loss":
        return loss(model, tokenizer, rows)
    return share_right(model, tokenizer, rows)


def share_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> float:
    """Exact match: the greedy answer, without the space around it, is the right one to the letter."""
    said = answers(model, tokenizer, rows)
    return sum(answer == row.answer for row, answer in zip(rows, said, strict=True)) / len(rows)


@torch.inference_mode()
def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[str]:
    """The greedy answers, many rows at once, padded on the left."""
    said: list[str] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        prompts = [tokenizer.apply_chat_template(row.asked(), add_generation_prompt=True, return_dict=False) for row in part]
        longest = max(map(len, prompts))
        pads = [[tokenizer.pad_token_id] * (longest - len(prompt)) for prompt in prompts]
        ids = torch.tensor([pad + prompt for pad, prompt in zip(pads, prompts, strict=True)], device=model.device)
        seen = torch.tensor([[0] * len(pad) + [1] * (longest - len(pad)) for pad in pads], device=model.device)
        given = model.generate(input_ids=ids, attention_mask=seen, max_new_tokens=MOST, do_sample=False)
        said += [text.strip() for text in tokenizer.batch_decode(given[:, longest:], skip_special_tokens=True)]
    return said


@torch.inference_mode()
def loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> float:
    """Mean nats per token of the right answers, the end of the turn included."""
    total, tokens = 0.0, 0
    for row in rows:
        prompt = tokenizer.apply_chat_template(row.asked(), add_generation_prompt=True, return_dict=False)
        whole = torch.tensor([tokenizer.apply_chat_template(row.messages(), return_dict=False)], device=model.device)
        logp = model(whole).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        said = whole[0, len(prompt) :]
        total -= logp.gather(-1, said[:, None]).sum().item()
        tokens += len(said)
    return total / tokens
