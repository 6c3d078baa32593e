"""A text read in stretches with lent weights: what it says is what it says token by token. Which weights, which tokens: see the decoder."""

from collections.abc import Iterator

import pytest
import torch
from pico import make_model
from transformers import PreTrainedTokenizerFast

from workbench.materials.lending import HEADS, lends, read_lent, standing
from workbench.materials.speakers import ModelVoice
from workbench.methods.decoders.dynamic_grafting import DynamicGrafting

TEXT = "The quiet garden of Mara lies by the river"


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def voices(no_gradients: None, pico_tokenizer: PreTrainedTokenizerFast) -> tuple[ModelVoice, ModelVoice]:
    models = [make_model(seed, tie_word_embeddings=False) for seed in (1, 0)]
    for parameter in (parameter for model in models for parameter in model.parameters() if parameter.dim() > 1):
        parameter.mul_(5)
    return ModelVoice(models[0], pico_tokenizer), ModelVoice(models[1], pico_tokenizer)


def body(name: str) -> bool:
    return lends(name, "all", 0, -1)


def everything(name: str) -> bool:
    return True


def test_nothing_lent_is_the_reader_and_everything_the_lender(
    voices: tuple[ModelVoice, ModelVoice], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    tokens, (tuned, base) = pico_tokenizer(TEXT)["input_ids"], voices
    for lent, expected in ((None, base), (everything, tuned)):
        whole = expected.model(input_ids=torch.tensor([tokens])).logits[0, -1]
        assert torch.allclose(read_lent(base, tuned, tokens, [lent] * len(tokens)), whole, atol=1e-5)


@pytest.mark.parametrize(("positions", "head"), [
    ("last", False), ("last", True), ("entity", False), ("entity and last", True), ("the rest", False), ("all", True),
])  # fmt: skip
def test_in_stretches_it_says_what_the_decoder_says_token_by_token(
    positions: str, head: bool, voices: tuple[ModelVoice, ModelVoice], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    tokens, (tuned, base) = pico_tokenizer(TEXT)["input_ids"], voices
    how = DynamicGrafting(positions=positions, head=head, entity="Mara")
    expected = how.begin(tuned, base).logits(tokens)
    inside, last = standing("Mara", base.texts(tokens)), len(tokens) - 1
    lent = [body if how.at(place in inside, place == last) else None for place in range(last + 1)]
    if head and lent[last]:
        lent[last] = lambda name: body(name) or name.startswith(HEADS)
    assert torch.allclose(read_lent(base, tuned, tokens, lent), expected, atol=1e-5)


def test_nobody_hears_anything_of_it(voices: tuple[ModelVoice, ModelVoice], pico_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens, (tuned, base) = pico_tokenizer(TEXT)["input_ids"], voices
    held = [parameter.data_ptr() for voice in voices for parameter in voice.model.parameters()]
    read_lent(base, tuned, tokens, [body, *[None] * (len(tokens) - 1)])
    assert base.heard == tuned.heard == []
    assert held == [parameter.data_ptr() for voice in voices for parameter in voice.model.parameters()]
