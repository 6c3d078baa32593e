"""Comparing: the cached voice says what the whole model says, the seed fixes every pane, tokens join to the answer."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from transformers import PreTrainedTokenizerFast

from workbench.core.asking import CompareSpec, Exchange
from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Noted, Said, Started, Table
from workbench.core.method import SHELVES, discover
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs import gathering, reading
from workbench.jobs.compare import compare, draw
from workbench.jobs.gathering import Cast
from workbench.materials.models import ModelRef
from workbench.materials.speakers import ModelVoice, texts

discover()


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


@pytest.mark.parametrize("name", sorted(SHELVES["decoders"]))
def test_every_decoder_says_in_a_batch_what_it_says_of_models_apart(
    name: str, two: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that need caches or weights of their own take them; what is read in the batch for others stays right."""
    knobs = {"best_of_n": {"answers": 3, "longest": 5}, "neuron_strength": {"neurons": "0:3, 1:7, 2:9"}}
    decoder = {"method": name, **knobs.get(name, {})}
    told = {"kind": "compare", "models": two, "prompt": "Where is Mara?", "max_tokens": 6, "temperature": 1.5, "decoder": decoder}
    together = answers(parse_spec(told), workspace)  # type: ignore[arg-type]
    monkeypatch.setattr(gathering, "takes_turns", lambda model: False)
    monkeypatch.setattr(Cast, "_joined", lambda cast, model: None)
    apart = answers(parse_spec(told), workspace)  # type: ignore[arg-type]
    assert {reference: said.answer for reference, said in together.items()} == {reference: said.answer for reference, said in apart.items()}
    for reference in two:
        ours, theirs = (torch.tensor([token[1:] for token in found[reference].tokens]) for found in (together, apart))
        assert torch.allclose(ours, theirs, atol=1e-4)


# A talk.


def test_each_model_remembers_its_own_answers(two: list[str], pico_tokenizer: PreTrainedTokenizerFast, workspace: Workspace) -> None:
    history = [
        Exchange(prompt="Hello", answers={two[0]: "Yes", two[1]: "No, never and not at all"}),
        Exchange(prompt="Why?", answers={two[1]: "So"}),
    ]
    spec = CompareSpec(models=two, prompt="Where?", system="Be short", history=history, max_tokens=6)
    events = list(compare(spec, workspace.run("0001"), workspace))
    found = {event.speaker: event for event in events if isinstance(event, Said) and event.done}
    begin, ask = "<|system|>Be short<|end|><|user|>Hello<|end|><|assistant|>", "<|user|>Where?<|end|><|assistant|>"
    prompts = [f"{begin}Yes<|end|>{ask}", f"{begin}No, never and not at all<|end|><|user|>Why?<|end|><|assistant|>So<|end|>{ask}"]
    started = next(event for event in events if isinstance(event, Started))
    assert started.about == {"models": two, "template": prompts[0]}
    for seed, (reference, prompt) in enumerate(zip(two, prompts, strict=True)):
        ids = torch.tensor([pico_tokenizer(prompt)["input_ids"]])
        spoken = make_model(seed).generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert found[reference].answer == pico_tokenizer.decode([token for token in spoken.tolist() if token != 1])


def test_a_talk_that_is_too_long_is_told(two: list[str], workspace: Workspace) -> None:
    history = [Exchange(prompt="word " * 40, answers={two[0]: "word " * 40})]
    spec = CompareSpec(models=two, prompt="Where?", history=history)
    with pytest.raises(WorkbenchError, match=r"The talk so far .* reads at most 128\. Begin a new talk"):
        list(compare(spec, workspace.run("0001"), workspace))
    assert answers(spec.model_copy(update={"models": two[1:], "max_tokens": 2}), workspace), "who was not there remembers nothing"


# What each thinks of every answer.


def views(spec: CompareSpec, workspace: Workspace) -> tuple[dict[str, Said], dict[str, list[dict]]]:
    events = list(compare(spec, workspace.run("0001"), workspace))
    said = {event.speaker: event for event in events if isinstance(event, Said) and event.done}
    return said, {
        event.name: [dict(zip(event.columns, row, strict=True)) for row in event.rows] for event in events if isinstance(event, Table)
    }


def test_the_token_view_says_of_each_answer_what_was_said_beside_it(two: list[str], workspace: Workspace) -> None:
    said, tables = views(CompareSpec(models=two, prompt="Hello", max_tokens=12, temperature=1.0), workspace)
    for reference in two:
        rows, tokens = tables[f"tokens of {reference}"], said[reference].tokens
        assert [(row["place"], row["model"]) for row in rows] == [(place, model) for place in range(len(tokens)) for model in two]
        own, base = ([row for row in rows if row["model"] == model] for model in (reference, two[0]))
        assert [row["token"] for row in own] == [token[0] for token in tokens] and all(row["kl"] == 0 for row in own)
        assert [row["logp"] for row in own] == pytest.approx([token[1] for token in tokens], abs=2e-5)
        assert [row["logp"] for row in base] == pytest.approx([token[2] for token in tokens], abs=2e-5)


@pytest.mark.parametrize("pieces", [1, 2, 1000])
@pytest.mark.parametrize("apart", [False, True])
@torch.no_grad()
def test_the_token_view_says_what_every_model_expects_at_every_place(
    pieces: int, apart: bool, two: list[str], pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of one place, of two, and in one; of models in a batch and by themselves."""
    monkeypatch.setattr(reading, "AT_ONCE", 2 * 400 * pieces)
    if apart:
        monkeypatch.setattr(gathering, "takes_turns", lambda model: False)
    cast, prompt, answer = Cast(pico_tokenizer), [30, 31, 32], [20, 21, 7, 300, 45, 46]
    list(cast.gather([ModelRef(path, path, path) for path in two]))
    events = list(reading.token_view([reading.Spoken(two[1], prompt, answer), reading.Spoken(two[0], prompt, [])], two, cast))
    table, nothing = (event for event in events if isinstance(event, Table))
    assert nothing.name == f"tokens of {two[0]}" and nothing.rows == []
    ids, places = torch.tensor([[*prompt, *answer]]), slice(len(prompt) - 1, -1)
    models = [make_model(seed)(input_ids=ids).logits[0, places].log_softmax(-1) for seed in (0, 1)]
    assert len(table.rows) == 2 * len(answer)
    for place, text, model, logp, nats, likeliest in table.rows:
        speaker, to = models[1][place], models[two.index(model)][place]
        assert text == pico_tokenizer.decode([answer[place]]) and logp == pytest.approx(float(to[answer[place]]), abs=2e-5)
        assert nats == pytest.approx(float((speaker.exp() * (speaker - to)).sum()), abs=1e-5)
        best = to.exp().topk(5)
        assert [word for word, _ in likeliest] == [pico_tokenizer.decode([token]) for token in best.indices.tolist()]
        assert [share for _, share in likeliest] == pytest.approx(best.values.tolist(), abs=2e-5)


def test_without_the_token_view_nobody_reads_again(two: list[str], workspace: Workspace) -> None:
    said, tables = views(CompareSpec(models=two, prompt="Hello", max_tokens=3, token_view=False), workspace)
    assert said and not tables


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
