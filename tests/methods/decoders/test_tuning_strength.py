"""Tuning strength: at 1 the tuned model, at 0 the base where head and embeddings are shared, in between block by block as by hand."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials.choir import Choir
from workbench.materials.differing import between
from workbench.materials.speakers import ModelVoice, Singer
from workbench.methods.decoders.tuning_strength import TuningStrength

TOKENS = [7, 8, 9, 10, 11, 12]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(params=["two models", "one choir"])
def two(request: pytest.FixtureRequest, no_gradients: None, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """The tuned model's voice and the base's, and both models by themselves; the blocks say a lot."""

    def build(blocks_alone: bool = True) -> tuple[ModelVoice, ModelVoice, LlamaForCausalLM, LlamaForCausalLM]:
        base, tuned = make_model(0), make_model(0)
        for one, other in zip(base.parameters(), tuned.parameters(), strict=True):
            one.mul_(5 if one.dim() > 1 else 1)
            other.copy_(one)
        moved = tuned.model.layers if blocks_alone else tuned
        torch.manual_seed(1)
        for parameter in moved.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter) if parameter.dim() > 1 else 0.1)
        if request.param == "two models":
            return ModelVoice(tuned, pico_tokenizer), ModelVoice(base, pico_tokenizer), tuned, base
        choir, part = Choir(common := make_model(0)), between(base, tuned)
        assert part is not None
        common.load_state_dict(base.state_dict())
        return Singer(choir, part, pico_tokenizer), Singer(choir, {}, pico_tokenizer), tuned, base

    return build


def whole(model: LlamaForCausalLM, tokens: Sequence[int]) -> Tensor:
    return model(input_ids=torch.tensor([tokens])).logits[0, -1]


def by_hand(tuned: LlamaForCausalLM, base: LlamaForCausalLM, tokens: Sequence[int], strength: float) -> Tensor:
    """Without a cache: the hidden states of all tokens, and each block of both models asked about them."""
    hidden, places = tuned.model.embed_tokens(torch.tensor([tokens])), torch.arange(len(tokens))[None]
    turns = tuned.model.rotary_emb(hidden, position_ids=places)
    for own, other in zip(tuned.model.layers, base.model.layers, strict=True):
        ptc = other(hidden, position_embeddings=turns) - hidden
        ftc = own(hidden, position_embeddings=turns) - hidden - ptc
        hidden = hidden + ptc + strength * ftc
    return tuned.lm_head(tuned.model.norm(hidden))[0, -1]


def test_its_ends_are_the_two_models(two: Callable[..., Any]) -> None:
    own, other, tuned, base = two()
    assert TuningStrength(strength=1).begin(own, other) is own
    assert not torch.allclose(whole(tuned, TOKENS), whole(base, TOKENS), atol=1e-2)
    for end in (4, 5, 6):
        assert torch.allclose(TuningStrength(strength=0).begin(own, other).logits(TOKENS[:end]), whole(base, TOKENS[:end]), atol=1e-5)
        nearly = TuningStrength(strength=1 - 1e-7).begin(own, other)
        assert torch.allclose(nearly.logits(TOKENS[:end]), whole(tuned, TOKENS[:end]), atol=1e-4)


@pytest.mark.parametrize("strength", [0.0, 0.75, 1.25, 2.0])
@pytest.mark.parametrize("blocks_alone", [True, False])
def test_with_its_caches_it_says_what_the_blocks_say_by_hand(strength: float, blocks_alone: bool, two: Callable[..., Any]) -> None:
    own, other, tuned, base = two(blocks_alone)
    says = TuningStrength(strength=strength).begin(own, other)
    for end in (3, 4, 6, 5):  # it grows by one and by two, and goes back
        assert torch.allclose(says.logits(TOKENS[:end]), by_hand(tuned, base, TOKENS[:end], strength), atol=1e-5)


def test_both_voices_go_on_as_they_were(two: Callable[..., Any]) -> None:
    own, other, tuned, base = two()
    before = own.logits(TOKENS[:4]), other.logits(TOKENS[:4])
    says = TuningStrength(strength=0.5).begin(own, other)
    says.logits(TOKENS)
    assert torch.equal(own.logits(TOKENS[:4]), before[0]) and torch.equal(other.logits(TOKENS[:4]), before[1])
    assert torch.allclose(own.logits(TOKENS), whole(tuned, TOKENS), atol=1e-5)
    assert torch.allclose(other.logits(TOKENS), whole(base, TOKENS), atol=1e-5)


def test_the_base_itself_speaks_as_it_is(two: Callable[..., Any]) -> None:
    _, other, *_ = two()
    assert TuningStrength(strength=0.5).begin(other, other) is other


def test_models_of_other_shapes_are_refused(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    own, other = (ModelVoice(make_model(0, intermediate_size=size), pico_tokenizer) for size in (64, 48))
    with pytest.raises(WorkbenchError, match="choose another decoder"):
        TuningStrength().begin(own, other)
