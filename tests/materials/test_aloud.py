"""Answers as they grow: the last are those of `generate`, whoever else is asked, and each begins with the one before it."""

from itertools import pairwise

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.workspace import Workspace
from workbench.materials.aloud import growing
from workbench.materials.models import POCKET, load, resolve, tokenizer
from workbench.materials.speaking import spoken
from workbench.materials.templates import prompt_ids

ASKED = ["What color is the sky?", "2 + 2 =", "Say something long about the sea and the ships on it, please."]


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    ref = resolve(POCKET, Workspace(tmp_path_factory.mktemp("home")))
    return load(ref, torch.device("cpu"), torch.float32), tokenizer(ref)


def test_the_last_are_what_generate_says(pocket: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, words = pocket
    prompts = [prompt_ids(words, [{"role": "user", "content": asked}]) for asked in ASKED]
    assert len({len(prompt) for prompt in prompts}) > 1, "some are filled up"
    told = list(growing(model, words, prompts, 24))
    assert told[-1] == spoken(model, words, prompts, 24)
    assert told[-1] == [list(growing(model, words, [prompt], 24))[-1][0] for prompt in prompts]
    for one, other in pairwise(told):
        assert all(longer.startswith(shorter.rstrip("\N{REPLACEMENT CHARACTER}")) for shorter, longer in zip(one, other, strict=True))


def test_places_are_counted_without_what_is_filled_up(pocket: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    """A model that learns a vector for each place tells the difference; one that turns by distances does not."""
    torch.manual_seed(0)
    words = pocket[1]
    shape = {"vocab_size": len(words), "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=None, eos_token_id=None)).eval()
    prompts = [prompt_ids(words, [{"role": "user", "content": asked}]) for asked in ASKED]
    assert list(growing(model, words, prompts, 6))[-1] == [list(growing(model, words, [prompt], 6))[-1][0] for prompt in prompts]


def test_it_ends_when_all_have_come_to_an_end(pocket: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, words = pocket
    prompts = [prompt_ids(words, [{"role": "user", "content": asked}]) for asked in ASKED[:2]]
    told = list(growing(model, words, prompts, 200))
    assert len(told) < 200 and len(list(growing(model, words, prompts, 3))) == 3
