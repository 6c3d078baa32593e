"""What a model answers where nothing helps it, once greedily and several times by chance, and how many of the answers are right.

What it is not: it makes no prompts and looks at no row (`knowing.py`), and keeps nothing (`around.py`). The prompts are read together and
only once, whatever the number of answers: each answer goes on from a copy of the cache. Chance belongs to what is asked: an answer is the
same whatever else is asked, and in which order. Tags as in the project's notes: [P] paper, [K] known, [O] our own choice.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.materials.corpus import digest
from workbench.materials.rendering import Messages, dialect
from workbench.materials.templates import prompt_ids

LONGEST = 32  # tokens of an answer that is asked for [P]
SLACK = 8  # tokens more than the right answer has that a model may say before it is stopped [O]
MOST = 2048  # tokens of a prompt [O]
TOP = 40  # likeliest tokens among which is drawn [P]
ARTICLES = {"a", "an", "the"}
MARKS = re.compile(r"(?![-.:]\d)[^\w\s]|_")  # not those that make another number: -3, 2.5, 10:30
MEANS = "#%&@/"  # marks that make another word: C# is not C
SIGNS = {"Sm", "Sc", "So"}  # of sums, of money, and pictures, as Unicode names them


@dataclass(frozen=True)
class Draws:
    """How many answers are drawn for each prompt beside the greedy one, at which temperature, and what fixes them."""

    samples: int
    temperature: float
    seed: int


def plain(text: str) -> str:
    """What is left of an answer when case, punctuation, articles and spaces do not count [K: exact match of SQuAD].

    Other than there, signs that mean something stay, and an article that stands alone (answer A of a test) [O].
    """
    bare = MARKS.sub(_sign, unicodedata.normalize("NFKC", text).casefold())
    words = bare.split()
    return " ".join([word for word in words if word not in ARTICLES] or words)


def _sign(mark: re.Match[str]) -> str:
    sign = mark.group()
    return sign if sign in MEANS or unicodedata.category(sign) in SIGNS else ""


def tally(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], answer: str, draws: Draws) -> Tensor:
    """(4,) float32: of the greedy answers to the prompts how many are right and how many there are, then of those that were drawn.

    0 of 0 where the answer has more than `LONGEST` tokens, or a prompt more than the model or `MOST` allow, or a form its template refuses.
    """
    most = len(tokenizer(answer.strip(), add_special_tokens=False, verbose=False)["input_ids"])
    try:
        ids = [prompt_ids(tokenizer, prompt) for prompt in prompts] if most <= LONGEST else []
    except WorkbenchError:
        ids = []
    context = model.config.to_dict().get("max_position_embeddings") or math.inf
    if not ids or max(map(len, ids)) > min(MOST, context - most - SLACK):
        return torch.zeros(4)
    seed = digest(repr((prompts, answer, draws)))
    found = said(model, tokenizer, ids, most + SLACK, draws, seed)
    right = torch.tensor([_right(text, ended, answer) for text, ended in found]).reshape(len(ids), -1)
    return torch.tensor([right[:, 0].sum(), len(ids), right[:, 1:].sum(), right[:, 1:].numel()], dtype=torch.float32)


def _right(text: str, ended: bool, answer: str) -> bool:
    """Whether that is what should be said: as many of its lines as the answer has, for a model without a template goes on and on [O]."""
    count = answer.strip().count("\n") + 1
    lines = text.lstrip().split("\n")
    if not ended and len(lines) <= count:
        return False  # it had not come to an end, and might be anything
    return plain("\n".join(lines[:count])) == plain(answer)


@torch.no_grad()
def said(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], most: int, draws: Draws, seed: int
) -> list[tuple[str, bool]]:
    """(what was said, whether it came to an end) for each prompt first greedily, then by chance."""
    ends = _ends(model, tokenizer)
    noise = _noise(len(prompts), most, draws, seed).to(model.device)
    last = torch.tensor(sorted(ends), device=model.device)
    ended, spoken = torch.zeros(noise.shape[1], dtype=torch.bool, device=model.device), list[Tensor]()
    logits, cache, mask = _read(model, prompts, tokenizer.pad_token_id or 0, 1 + draws.samples)
    while True:
        best = (logits.float() / draws.temperature).topk(min(TOP, logits.shape[-1]))
        luck = noise[len(spoken), :, : best.values.shape[1]]
        token = best.indices.gather(1, (best.values + luck).argmax(1, keepdim=True))
        spoken.append(token)
        ended |= torch.isin(token[:, 0], last)
        if len(spoken) == most or ended.all():
            return [_text(tokenizer, tokens, ends) for tokens in torch.cat(spoken, 1).tolist()]
        mask = torch.cat([mask, torch.ones_like(token)], 1)
        place = mask.sum(1, keepdim=True) - 1
        logits = model(input_ids=token, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True).logits[:, -1]


def _read(model: PreTrainedModel, prompts: Sequence[list[int]], pad: int, copies: int) -> tuple[Tensor, object, Tensor]:
    """(logits after each prompt, its cache, its mask), each so many times over; the prompts are filled up on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    read.past_key_values.batch_repeat_interleave(copies)
    return read.logits[:, -1].repeat_interleave(copies, 0), read.past_key_values, mask.repeat_interleave(copies, 0)


def _noise(prompts: int, most: int, draws: Draws, seed: int) -> Tensor:
    """(most, prompts · (1 + samples), TOP): nothing for greedy answers, Gumbel's for the others.

    The largest of logits with such noise is a draw from their softmax [K].
    """
    luck = torch.rand(most, prompts, 1 + draws.samples, TOP, generator=torch.Generator().manual_seed(seed)).log().neg().log().neg()
    luck[:, :, 0] = 0
    return luck.flatten(1, 2)


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer: the tokenizer's, the model's, and that with which the template closes a turn."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    closing = tokenizer.convert_tokens_to_ids(dialect(tokenizer).closing.strip() or tokenizer.eos_token)
    return {token for token in (tokenizer.eos_token_id, closing, *(own if isinstance(own, list) else [own])) if token is not None}


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: set[int]) -> tuple[str, bool]:
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    return tokenizer.decode(tokens[:stop], skip_special_tokens=True), stop is not None
