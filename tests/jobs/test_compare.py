"""Comparing: the cached voice says what the whole model says, the seed fixes every pane, tokens join to the answer."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from transformers import PreTrainedTokenizerFast

from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Noted, Said
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.compare import ModelVoice, compare, draw, texts


@torch.no_grad()
def test_a_voice_with_its_cache_equals_the_model_without(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    model, tokens = make_model(), [7, 8, 9, 10, 11]
    voice = ModelVoice(model, pico_tokenizer)
    for end in (1, 3, 5, 2):  # it may even go back
        expected = model(input_ids=torch.tensor([tokens[:end]])).logits[0, -1]
        assert torch.allclose(voice.logits(tokens[:end]), expected, atol=1e-5)


@torch.no_grad()
def test_what_was_heard_with_lent_weights_stays_heard_and_the_weights_come_back(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    own, other = ModelVoice(make_model(), pico_tokenizer), ModelVoice(make_model(1), pico_tokenizer)
    plain, theirs = own.anew().logits([7, 8, 9]), other.anew().logits([7, 8, 9])
    lent = own.anew()
    with lent.lent(other, lambda name: True):
        assert torch.allclose(lent.logits([7, 8, 9]), theirs, atol=1e-6)
        with own.lent(other, lambda name: "norm" in name):  # one within the other
            pass
        assert torch.allclose(lent.anew().logits([7, 8, 9]), theirs, atol=1e-6)
    assert torch.equal(own.logits([7, 8, 9]), plain) and torch.equal(other.logits([7, 8, 9]), theirs)
    assert not torch.allclose(lent.logits([7, 8, 9, 10]), own.logits([7, 8, 9, 10]), atol=1e-4), "it heard the first three with others"
    with pytest.raises(ZeroDivisionError), own.lent(other, lambda name: True):
        raise ZeroDivisionError
    assert torch.equal(own.anew().logits([7, 8, 9]), plain), "also where something goes wrong"


def test_what_tokens_add_joins_to_the_text_and_half_a_letter_adds_nothing(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Ñu ☂ is é"
    tokens = pico_tokenizer(text)["input_ids"]
    parts = texts(pico_tokenizer, tokens)
    assert "".join(parts) == text == pico_tokenizer.decode(tokens) and len(parts) == len(tokens)
    assert not any("\ufffd" in part for part in parts) and "" in parts and "☂" in "".join(parts)
    half = texts(pico_tokenizer, tokens[:1])
    assert half == ["\ufffd"], "as long as it is all there is, the answer shows it too"
    assert texts(pico_tokenizer, []) == []


@pytest.fixture
def two(tmp_path: Path, pico_folder: Path, pico_tokenizer: object) -> list[str]:
    other = tmp_path / "other"
    make_model(seed=1).save_pretrained(other)
    pico_tokenizer.save_pretrained(other)  # type: ignore[attr-defined]
    return [str(pico_folder), str(other)]


def answers(spec: CompareSpec, workspace: Workspace) -> dict[str, Said]:
    said = [event for event in compare(spec, workspace.run("0001"), workspace) if isinstance(event, Said) and event.done]
    return {event.speaker: event for event in said}


def test_the_answer_is_the_models_own_greedy_answer(two: list[str], pico_tokenizer: object, workspace: Workspace) -> None:
    found = answers(CompareSpec(models=two, prompt="Where is it?", max_tokens=12), workspace)
    for seed, reference in enumerate(two):
        model = make_model(seed)
        ids = torch.tensor([pico_tokenizer("<|user|>Where is it?<|end|><|assistant|>")["input_ids"]])  # type: ignore[operator]
        spoken = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert found[reference].answer == pico_tokenizer.decode([t for t in spoken.tolist() if t != 1])  # type: ignore[attr-defined]
        assert "".join(token[0] for token in found[reference].tokens) == found[reference].answer


def test_every_token_stands_beside_what_the_base_would_have_given_it(two: list[str], workspace: Workspace) -> None:
    found = answers(CompareSpec(models=two, prompt="Hello", max_tokens=6, temperature=1.0), workspace)
    assert all(own == base for _, own, base in found[two[0]].tokens)
    assert any(abs(own - base) > 1e-3 for _, own, base in found[two[1]].tokens)


def test_a_seed_fixes_every_pane_and_equal_models_say_the_same(two: list[str], workspace: Workspace) -> None:
    spec = CompareSpec(models=[two[0], two[0] + "/"], prompt="Hello", max_tokens=10, temperature=1.0, seed=3)
    first, again = answers(spec, workspace), answers(spec, workspace)
    assert first == again
    assert first[two[0]].answer == first[two[0] + "/"].answer
    assert answers(spec.model_copy(update={"seed": 4}), workspace)[two[0]].answer != first[two[0]].answer


def test_a_decoder_may_lend_the_base_the_tuned_models_weights(two: list[str], workspace: Workspace) -> None:
    def said(**knobs: object) -> list[str]:
        decoder = {"method": "dynamic_grafting", **knobs}
        given = {"kind": "compare", "models": two, "prompt": "Where is Mara?", "max_tokens": 8, "temperature": 2, "decoder": decoder}
        found = answers(parse_spec(given), workspace)  # type: ignore[arg-type]
        return [found[reference].answer for reference in two]

    plain = answers(CompareSpec(models=two, prompt="Where is Mara?", max_tokens=8, temperature=2), workspace)
    base, tuned = (plain[reference].answer for reference in two)
    assert base != tuned
    assert said(positions="none") == [base, base] and said(positions="none", reverse=True) == [base, tuned]
    assert said(positions="all", head=True) == [base, tuned]
    assert len(said(positions="entity", entity="Mara")) == 2
    with pytest.raises(WorkbenchError, match="The entity 'Nora' does not stand in the prompt"):
        said(positions="entity", entity="Nora")


def test_a_drawn_token_has_its_probability() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log()
    assert draw(logits, 0, 0.99) == 1
    picked = [draw(logits, 1.0, luck / 1000) for luck in range(1000)]
    assert [picked.count(token) for token in range(3)] == pytest.approx([100, 600, 300], abs=2)
    assert draw(logits, 1.0, 0.9999999) == 0


def test_limits_are_told(two: list[str], workspace: Workspace, tmp_path: Path, pico_tokenizer: object) -> None:
    with pytest.raises(WorkbenchError, match=r"reads at most 128\. Shorten the prompt"):
        list(compare(CompareSpec(models=two[:1], prompt="word " * 200), workspace.run("0001"), workspace))
    events = list(compare(CompareSpec(models=two[:1], prompt="word " * 8, max_tokens=500), workspace.run("0001"), workspace))
    assert any(isinstance(event, Noted) and "has room for" in event.text for event in events) and isinstance(events[-1], Finished)
    wide = tmp_path / "wide"
    make_model(vocab_size=500).save_pretrained(wide)
    pico_tokenizer.save_pretrained(wide)  # type: ignore[attr-defined]
    with pytest.raises(WorkbenchError, match="a vocabulary of 500 tokens"):
        list(compare(CompareSpec(models=[two[0], str(wide)], prompt="x"), workspace.run("0001"), workspace))
