"""A base and models tuned from it, made in memory and written where an inspection reads them; rows to show them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pico import make_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.materials.models import ModelRef
from workbench.materials.rows import Example
from workbench.materials.subject import Subject
from workbench.materials.templates import Encoded, encode_all
from workbench.materials.world.skills import World

Change = Callable[[LlamaForCausalLM], None]


def unchanged(model: LlamaForCausalLM) -> None:
    """The base itself."""


def moved(by: float, seed: int = 1) -> Change:
    """All weights a little elsewhere."""

    def move(model: LlamaForCausalLM) -> None:
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))

    return move


@torch.no_grad()
def subject(
    folder: Path, tokenizer: PreTrainedTokenizerFast, tuned: Sequence[Change], rows: Sequence[str] = ("",), count: int = 12, **shape: object
) -> Subject:  # fmt: skip
    """The pico model and copies of it that `tuned` changes, called `tuned 0`, `tuned 1`, …; `count` rows for each name of `rows`."""
    refs = []
    for number, change in enumerate([unchanged, *tuned]):
        model, place = make_model(**shape), folder / f"model-{number}"
        change(model)
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        refs.append(ModelRef(str(place), "base" if number == 0 else f"tuned {number - 1}", str(place)))
    found = [Example(messages=tuple(row.messages())) for row in World().rows("facts", count, seed=0, held_out=False)]
    encoded = [row for row in encode_all(tokenizer, found, "answers", 128) if isinstance(row, Encoded)]
    return Subject(refs[0], refs[1:], dict.fromkeys(rows, encoded), dict.fromkeys(rows, found), seed=0)
