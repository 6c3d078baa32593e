"""Dynamic weight grafting: at its ends one of the two models, in between what one full reading says whose layers are swapped by hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials.speakers import ModelVoice
from workbench.methods.contracts import Voice
from workbench.methods.decoders.dynamic_grafting import DynamicGrafting, standing

TEXT, ENTITY = "The quiet garden of Mara lies by the river", "Mara lies"
FULL = {"positions": "all", "parts": "all", "head": True}
UNTIED = {"tie_word_embeddings": False}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def tokens(pico_tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return pico_tokenizer(TEXT)["input_ids"]


@pytest.fixture
def two(no_gradients: None, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., tuple[ModelVoice, ModelVoice]]:
    """The tuned model's voice and the base's, with weights so large that each of them is heard."""

    def build(**shape: Any) -> tuple[ModelVoice, ModelVoice]:
        tuned, base = make_model(1, **shape), make_model(0, **shape)
        for parameter in (*tuned.parameters(), *base.parameters()):
            parameter.mul_(5 if parameter.dim() > 1 else 1)
        return ModelVoice(tuned, pico_tokenizer), ModelVoice(base, pico_tokenizer)

    return build


def begun(two: tuple[ModelVoice, ModelVoice], **knobs: Any) -> Voice:
    return DynamicGrafting(**knobs).begin(*two)


def whole(voice: ModelVoice, tokens: Sequence[int]) -> Tensor:
    return voice.model(input_ids=torch.tensor([tokens])).logits[0, -1]


@contextmanager
def swapped(reader: nn.Module, lender: nn.Module, places: Callable[[str], list[int]]) -> Iterator[None]:
    """Each module of the reader answers at the places of its weights as the lender's would; every one of them looks at a token alone."""

    def put(name: str, other: nn.Module) -> Callable[..., Tensor]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            found = out.clone()
            found[:, places(name)] = other(*given)[:, places(name)]
            return found

        return hook

    pairs = zip(reader.named_modules(), lender.modules(), strict=True)
    handles = [own.register_forward_hook(put(f"{name}.weight", other)) for (name, own), other in pairs if list(own.parameters(False))]
    yield
    for handle in handles:
        handle.remove()


# Its ends.


@pytest.mark.parametrize("shape", [{}, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("reverse", [False, True])
def test_with_no_position_it_is_the_reader_and_with_all_the_lender(reverse: bool, shape: dict, two: Callable, tokens: list[int]) -> None:
    tuned, base = two(**shape)
    reader, lender = (tuned, base) if reverse else (base, tuned)
    none, full = begun((tuned, base), positions="none", reverse=reverse), begun((tuned, base), **FULL, reverse=reverse)
    for end in (4, 5, len(tokens)):
        assert torch.allclose(none.logits(tokens[:end]), whole(reader, tokens[:end]), atol=1e-5)
        assert torch.allclose(full.logits(tokens[:end]), whole(lender, tokens[:end]), atol=1e-5)


def test_without_the_head_all_is_not_the_lender_unless_the_head_is_tied(two: Callable, tokens: list[int]) -> None:
    for shape, same in ((UNTIED, False), ({}, True)):
        tuned, base = two(**shape)
        said = begun((tuned, base), **{**FULL, "head": False}).logits(tokens)
        assert torch.allclose(said, whole(tuned, tokens), atol=1e-5) == same


def test_a_tied_head_takes_the_embeddings_of_the_last_token_with_it(two: Callable, tokens: list[int]) -> None:
    tuned, base = two()
    with swapped(base.model, tuned.model, lambda name: [len(tokens) - 1] if "lm_head" in name or "embed" in name else []):
        expected = whole(base, tokens)
    assert torch.allclose(begun((tuned, base), positions="none", head=True).logits(tokens), expected, atol=1e-5)


# In between.


def positions(knobs: dict, tokens: list[int], entity: range) -> list[int]:
    last = len(tokens) - 1
    return {
        "none": [], "last": [last], "entity": [*entity], "entity and last": [*entity, last], "all": [*range(len(tokens))],
        "the rest": [place for place in range(last) if place not in entity],
    }[knobs.get("positions", "last")]  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("knobs", "words"), [
    ({"positions": "last"}, ["layers", "embed", "model.norm"]),
    ({"positions": "last", "head": True}, ["layers", "embed", "model.norm"]),
    ({"positions": "none", "head": True}, []),
    ({"positions": "entity", "parts": "attention"}, ["self_attn"]),
    ({"positions": "entity and last", "parts": "mlp"}, ["mlp"]),
    ({"positions": "the rest", "parts": "keys"}, ["k_proj"]),
    ({"positions": "the rest", "parts": "queries", "head": True}, ["q_proj"]),
    ({"positions": "all", "parts": "values"}, ["v_proj"]),
    ({"positions": "entity", "parts": "attention output and mlp", "first_layer": 1}, [f"layers.{n}.{part}" for n in (1, 2)
                                                                                     for part in ("self_attn.o_proj", "mlp")]),
    ({"positions": "all", "parts": "attention output", "first_layer": 1, "last_layer": 1}, ["layers.1.self_attn.o_proj"]),
    ({"positions": "all", "first_layer": 1}, ["layers.1", "layers.2", "model.norm"]),
    ({"positions": "all", "last_layer": 1}, ["layers.0", "layers.1", "embed"]),
], ids=str)  # fmt: skip
def test_with_its_cache_it_says_what_one_reading_with_swapped_layers_says(
    knobs: dict, words: list[str], reverse: bool, two: Callable, tokens: list[int]
) -> None:
    tuned, base = two(**UNTIED)
    reader, lender = (tuned, base) if reverse else (base, tuned)
    body, last = positions(knobs, tokens, standing(ENTITY, base.texts(tokens))), len(tokens) - 1

    def places(name: str) -> list[int]:
        if "lm_head" in name:
            return [last] if knobs.get("head") else []
        return body if any(word in name for word in words) else []

    with swapped(reader.model, lender.model, places):
        expected = whole(reader, tokens)
    said = begun((tuned, base), **knobs, reverse=reverse, entity=ENTITY).logits(tokens)
    assert torch.allclose(said, expected, atol=1e-5)
    assert not torch.allclose(said, whole(reader, tokens), atol=1e-3) and not torch.allclose(said, whole(lender, tokens), atol=1e-3)


def test_in_a_growing_answer_each_newest_token_is_the_last_and_stays_as_it_was_read(two: Callable, tokens: list[int]) -> None:
    tuned, base = two(**UNTIED)
    says, prompt = begun((tuned, base), positions="last"), len(tokens) - 3
    for end in range(prompt, len(tokens) + 1):
        lent = [*range(prompt - 1, end)]
        with swapped(base.model, tuned.model, lambda name, lent=lent: [] if "lm_head" in name else lent):
            expected = whole(base, tokens[:end])
        assert torch.allclose(says.logits(tokens[:end]), expected, atol=1e-5)
        assert torch.equal(says.logits(tokens[:end]), says.logits(tokens[:end])), "asked again, it reads nothing again"


def test_another_text_is_read_anew_with_its_own_entity(two: Callable, tokens: list[int], pico_tokenizer: PreTrainedTokenizerFast) -> None:
    other = pico_tokenizer("Mara lies low")["input_ids"]
    knobs = {"positions": "entity", "entity": ENTITY}
    says = begun(two(), **knobs)
    first = says.logits(tokens).clone()
    assert torch.allclose(says.logits(other), begun(two(), **knobs).logits(other), atol=1e-5)
    assert torch.allclose(says.logits(tokens), first, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_both_models_and_their_voices_stay_as_they_were(reverse: bool, two: Callable, tokens: list[int]) -> None:
    tuned, base = two()
    before = [voice.logits(tokens).clone() for voice in (tuned, base)]
    held = [parameter.data_ptr() for voice in (tuned, base) for parameter in voice.model.parameters()]
    begun((tuned, base), **FULL, reverse=reverse).logits(tokens)
    with pytest.raises(WorkbenchError):
        begun((tuned, base), positions="all", first_layer=9, parts="mlp", reverse=reverse).logits(tokens)
    assert held == [parameter.data_ptr() for voice in (tuned, base) for parameter in voice.model.parameters()]
    for voice, said in zip((tuned, base), before, strict=True):
        assert voice.heard == tokens and torch.equal(voice.logits(tokens), said)
        assert torch.allclose(voice.logits([*tokens, 9]), whole(voice, [*tokens, 9]), atol=1e-5)


@pytest.mark.parametrize(("knobs", "lent"), [
    ({}, ["wte", "h.0.attn.c_attn", "h.0.ln_1", "h.0.attn.q_norm", "h.1.mlp.c_fc", "ln_f"]),
    ({"parts": "attention"}, ["h.0.attn.c_attn"]),
    ({"parts": "mlp"}, ["h.1.mlp.c_fc"]),
    ({"first_layer": 1}, ["h.1.mlp.c_fc", "ln_f"]),
    ({"last_layer": 0}, ["wte", "h.0.attn.c_attn", "h.0.ln_1", "h.0.attn.q_norm"]),
    ({"parts": "queries"}, []),
])  # fmt: skip
def test_parts_are_known_by_the_names_of_other_families_too(knobs: dict, lent: list[str]) -> None:
    names = ["wte", "h.0.attn.c_attn", "h.0.ln_1", "h.0.attn.q_norm", "h.1.mlp.c_fc", "ln_f"]
    how = DynamicGrafting(**knobs)
    assert [name for name in names if how.lends(f"transformer.{name}.weight")] == lent
    assert not how.lends("lm_head.weight") and not how.lends("embed_out.weight"), "the head has a knob of its own"


# Where the entity stands.


@pytest.mark.parametrize(("words", "texts", "found"), [
    ("Paris", ["in ", "Par", "is", "!"], [1, 2]),
    (" Paris ", ["in", " Par", "is", "!"], [1, 2]),
    ("is", ["th", "is", " is"], [1]),
    ("is", ["this is"], [0]),
    ("é", ["caf", "", "é", " "], [1, 2]),
    ("f", ["caf", "", "é", " "], [0]),
    ("a b", ["a", " ", "b", " a", " b"], [0, 1, 2]),
])  # fmt: skip
def test_an_entity_is_all_tokens_that_it_lies_in(words: str, texts: list[str], found: list[int]) -> None:
    assert [*standing(words, texts)] == found


def test_an_entity_of_letters_of_two_tokens_is_found(two: Callable, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = pico_tokenizer("in Ñuñoa now")["input_ids"]
    places = standing("Ñuñoa", two()[1].texts(tokens))
    inside = pico_tokenizer.decode([tokens[place] for place in places])
    assert inside.strip() == "Ñuñoa" and len(places) > 5


# What it cannot do is said.


def test_an_entity_that_does_not_stand_there_is_said(two: Callable, tokens: list[int]) -> None:
    for positions in ("entity", "entity and last", "the rest"):
        with pytest.raises(WorkbenchError, match=r"The entity 'mara' does not stand in the prompt\. Write it as it stands there"):
            begun(two(), positions=positions, entity="mara").logits(tokens)
        with pytest.raises(WorkbenchError, match=f"positions is '{positions}', and no entity is named"):
            begun(two(), positions=positions, entity=" ")
    begun(two(), positions="last", entity="mara").logits(tokens)


def test_layers_that_are_none_are_said(two: Callable, tokens: list[int]) -> None:
    with pytest.raises(WorkbenchError, match=r"no layer is from 2 to 1\. Swap the two"):
        begun(two(), first_layer=2, last_layer=1)
    with pytest.raises(WorkbenchError, match="None of the model's weights is among those that are to be lent"):
        begun(two(), first_layer=3, parts="mlp").logits(tokens)


def test_models_of_other_shapes_lend_each_other_nothing(two: Callable, tokens: list[int]) -> None:
    (tuned, _), (_, base) = two(intermediate_size=48), two()
    with pytest.raises(WorkbenchError, match=r"only between models of one shape, and 9 of these differ, first model\.layers\.0\.mlp\.down"):
        begun((tuned, base)).logits(tokens)
    with pytest.raises(WorkbenchError, match=r"1 of these differ, first lm_head\.weight"):
        begun((two(**UNTIED)[0], base)).logits(tokens)


def test_it_says_what_it_costs() -> None:
    assert "token by token" in DynamicGrafting().costs()
