"""Voices that lend each other weights: those of one choir as two models would, and either kind the other."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from pico import make_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials.choir import Choir
from workbench.materials.differing import between
from workbench.materials.speakers import WINDOW, ModelVoice, Singer, Spelling, texts

TOKENS, MORE = [7, 8, 9, 10], [7, 8, 9, 10, 11, 12]
NAMED: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "the head": lambda name: name == "lm_head.weight",
    "a layer": lambda name: "layers.1." in name,
    "keys and norms": lambda name: "k_proj" in name or "norm" in name,
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def models(tied: bool) -> tuple[LlamaForCausalLM, LlamaForCausalLM, LlamaForCausalLM]:
    """A common one and two more: one with few numbers of its own, one with all of them."""
    base, near, far = (make_model(seed, tie_word_embeddings=tied) for seed in (0, 0, 1))
    near.model.layers[1].self_attn.k_proj.weight[3, :4] += 3
    near.model.norm.weight.mul_(2)
    return base, near, far


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def voices(request: pytest.FixtureRequest, no_gradients: None, pico_tokenizer: PreTrainedTokenizerFast) -> dict[str, list[ModelVoice]]:
    """The same three models, by themselves and as a choir."""
    base, *others = models(request.param)
    parts = [between(base, other) for other in others]
    choir = Choir(base)
    return {
        "alone": [ModelVoice(model, pico_tokenizer) for model in models(request.param)],
        "choir": [Singer(choir, part or {}, pico_tokenizer) for part in ({}, *parts)],
    }


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize(("own", "other"), [("choir", "choir"), ("choir", "alone"), ("alone", "choir")])
def test_what_is_lent_says_what_it_says_between_two_models(named: str, own: str, other: str, voices: dict[str, list[ModelVoice]]) -> None:
    for reader, lender in ((0, 1), (1, 0), (1, 2), (2, 1), (0, 2)):
        expected, found = voices["alone"][reader].anew(), voices[own][reader].anew()
        with expected.lent(voices["alone"][lender], NAMED[named]):
            lent = expected.logits(TOKENS)
        with found.lent(voices[other][lender], NAMED[named]):
            assert torch.allclose(found.logits(TOKENS), lent, atol=1e-5), (reader, lender)
        assert torch.allclose(found.logits(MORE), expected.logits(MORE), atol=1e-5), "what was heard stays heard, and no more"
        for place in range(3):
            assert torch.allclose(voices[own][place].anew().logits(MORE), voices["alone"][place].anew().logits(MORE), atol=1e-5)


def test_none_named_is_told(voices: dict[str, list[ModelVoice]]) -> None:
    for kind in voices.values():
        with pytest.raises(WorkbenchError, match="Choose other parts"), kind[0].lent(kind[1], lambda name: False):
            pass


@pytest.mark.parametrize("kind", ["alone", "choir"])
def test_going_back_reads_no_more_than_what_is_new(kind: str, voices: dict[str, list[ModelVoice]], monkeypatch: pytest.MonkeyPatch) -> None:
    voice, read = voices[kind][2], list[int]()
    voice.logits(MORE)
    forward = voice.model.forward

    def counting(**given: torch.Tensor) -> object:
        read.append(given["input_ids"].shape[1])
        return forward(**given)

    monkeypatch.setattr(voice.model, "forward", counting)
    for tokens in (MORE, TOKENS, [*TOKENS, 20, 21], [5, 6]):
        voice.logits(tokens)
    assert read == [1, 2, 2]


# Tokens as text.

LONG = "Ñu ☂ is é 🙂🙂 and so on, " * 12


def test_a_long_answer_is_spelled_by_its_end_and_joins_to_the_text(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = pico_tokenizer(LONG)["input_ids"]
    assert len(tokens) > 4 * WINDOW
    spelling, asked = Spelling(pico_tokenizer), list[int]()

    class Counting:
        def decode(self, given: list[int]) -> str:
            asked.append(len(given))
            return pico_tokenizer.decode(given)

    spelling.tokenizer = Counting()  # type: ignore[assignment]
    for end in range(1, len(tokens) + 1):
        parts = spelling.of(tokens[:end])
        assert "".join(parts) == pico_tokenizer.decode(tokens[:end])
    whole = [pico_tokenizer.decode(tokens[:end]).rstrip("\ufffd") for end in range(len(tokens) + 1)]
    assert parts == [after[len(before) :] for before, after in pairwise(whole)]
    assert sum(length > 2 * WINDOW for length in asked) <= len(tokens), "the whole is spelled once a call, to see that the parts join to it"
    for start in range(WINDOW):  # wherever the windows end, in half a letter too
        asked.clear()
        spelling = Spelling(Counting())  # type: ignore[arg-type]
        assert "".join(spelling.of(tokens[start:])) == pico_tokenizer.decode(tokens[start:])
        assert sorted(asked)[-2] <= 2 * WINDOW and asked[-1] == len(tokens) - start


def test_where_the_parts_do_not_join_all_of_it_is_spelled(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """A tokenizer whose text of some tokens is not part of the text of all, as one that puts a mark before every text."""
    tokens = pico_tokenizer(LONG)["input_ids"]

    class Odd:
        def decode(self, given: list[int]) -> str:
            return "".join(f"{place % 7}{token}" for place, token in enumerate(given))

    assert "".join(texts(Odd(), tokens)) == Odd().decode(tokens)  # type: ignore[arg-type]
