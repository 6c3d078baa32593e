"""Dynamic weight grafting over rows: its ends are the two models, a planted entity and a planted recall are found where they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.subject import Subject
from workbench.methods.inspections.dynamic_grafting import (
    BOTH,
    ENTITY,
    EVERYWHERE,
    LAST,
    NOWHERE,
    REST,
    WHERE,
    DynamicGrafting,
    first_name,
    lent_at,
    measured,
)

UNTIED = {"tie_word_embeddings": False}


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, **shape: subject(tmp_path, pico_tokenizer, tuned, count=4, **shape)


def told(finding: Finding, label: str = "tuned 0") -> dict[tuple[bool, str], list[float]]:
    """Top 1, top 5 and P(word) by (whether the tuned model reads, where)."""
    return {(row[1].startswith(label), row[2]): row[4:] for row in finding.tables[0].rows if row[0] == label}


def directly(laid: Subject, rows: list, number: int | None) -> tuple[float, float, float]:
    """The same of a model that reads each text in one go."""
    model = laid.base if number is None else laid.tuned(number)
    with torch.no_grad():
        found = [measured(model(input_ids=torch.tensor([row.tokens])).logits[0, -1], row.word) for row in rows]
    return tuple(sum(column) / len(rows) for column in zip(*found, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("shape", [{}, UNTIED], ids=["tied", "untied"])
def test_its_ends_are_the_two_models_either_way_round(lay: Callable[..., Subject], shape: dict) -> None:
    laid, method = lay(moved(0.3), **shape), DynamicGrafting()
    rows = method._rows(laid, 0)
    found = told(drain(method.inspect(laid)))
    assert set(found) == {(reverse, where) for reverse in (False, True) for where in WHERE}
    base, own = directly(laid, rows, None), directly(laid, rows, 0)
    assert base[2] != pytest.approx(own[2], rel=1e-2)
    for reverse, nowhere, everywhere in ((False, base, own), (True, own, base)):
        assert found[reverse, NOWHERE] == pytest.approx(list(nowhere), abs=1e-5)
        assert found[reverse, EVERYWHERE] == pytest.approx(list(everywhere), abs=1e-5)


def test_without_the_head_everywhere_is_not_the_tuned_model(lay: Callable[..., Subject]) -> None:
    def other_head(model: LlamaForCausalLM) -> None:
        model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(3))

    laid = lay(other_head, **UNTIED)
    kept, lent = (told(drain(DynamicGrafting(head=head).inspect(laid))) for head in (False, True))
    assert kept[False, EVERYWHERE] == pytest.approx(kept[False, NOWHERE], abs=1e-6)
    assert lent[False, LAST] == pytest.approx(lent[True, NOWHERE], abs=1e-5) != kept[False, LAST]
    assert lent[False, ENTITY] == pytest.approx(lent[False, NOWHERE], abs=1e-6), "the head goes with the last token alone"


def test_what_only_the_last_token_reads_is_recalled_there(lay: Callable[..., Subject]) -> None:
    """The last layer's MLP writes into a token what no later layer hands to another, so lent anywhere but at the last it does nothing."""

    def late(model: LlamaForCausalLM) -> None:
        model.model.layers[2].mlp.down_proj.weight.normal_(generator=torch.Generator().manual_seed(3))

    finding = drain(DynamicGrafting().inspect(lay(late, **UNTIED)))
    found = told(finding)
    for where, like in ((LAST, EVERYWHERE), (BOTH, EVERYWHERE), (ENTITY, NOWHERE), (REST, NOWHERE)):
        assert found[False, where] == pytest.approx(found[False, like], abs=1e-6), where
        assert found[True, where] == pytest.approx(found[True, like], abs=1e-6), where
    numbers = finding.numbers["tuned 0"]
    assert numbers["brought by last"] == pytest.approx(numbers["what tuning did"], abs=1e-6)
    assert numbers["what tuning did"] > 0.1 * numbers["P(word) by the base"]


def test_what_the_entity_s_tokens_are_read_with_is_extracted_there(lay: Callable[..., Subject]) -> None:
    """Only the embeddings of the entities' tokens are tuned, so weights at all other places are the base's."""
    laid = lay(unchanged, **UNTIED)
    rows = DynamicGrafting(word="first")._rows(laid, 0)
    inside = {row.tokens[place] for row in rows for place in row.entity}
    outside = {token for row in rows for place, token in enumerate(row.tokens) if place not in row.entity}
    own = sorted(inside - outside)
    assert own

    def known(model: LlamaForCausalLM) -> None:
        model.model.embed_tokens.weight[own] += torch.randn(len(own), 32, generator=torch.Generator().manual_seed(1))

    found = told(drain(DynamicGrafting(word="first").inspect(lay(known, **UNTIED))))
    assert found[False, ENTITY] == pytest.approx(found[False, EVERYWHERE], abs=1e-5) != found[False, NOWHERE]
    for where in (REST, LAST):
        assert found[False, where] == pytest.approx(found[False, NOWHERE], abs=1e-6)


def test_only_the_parts_and_layers_that_are_named_are_lent(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.3), **UNTIED)
    knobs = {"parts": "mlp", "first_layer": 1, "last_layer": 1, "head": False}

    def one(model: LlamaForCausalLM) -> None:
        whole = laid.tuned(0).model.layers[1].mlp.state_dict()
        model.model.layers[1].mlp.load_state_dict(whole)

    method = DynamicGrafting(word="first", **knobs)
    found = told(drain(method.inspect(laid)))[False, EVERYWHERE]
    expected = told(drain(DynamicGrafting(word="first").inspect(lay(one, **UNTIED))))[False, EVERYWHERE]
    assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(WorkbenchError, match="Swap the two"):
        drain(DynamicGrafting(first_layer=2, last_layer=1).inspect(laid))


# Which word, which entity.


def test_the_word_is_the_one_that_tuning_made_likelier_or_the_first(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.3))
    laid.examples = {"": [replace(row, meta={"who": row.question().split()[0]}) for row in laid.examples[""]]}
    first, most = (DynamicGrafting(word=word, entity="who")._rows(laid, 0) for word in ("first", "most changed"))
    for one, other, encoded in zip(first, most, laid.rows[""], strict=True):
        begin = encoded.trained.index(True)
        assert one.tokens == encoded.ids[:begin] and one.word == encoded.ids[begin]
        assert other.tokens == encoded.ids[: len(other.tokens)] and other.word == encoded.ids[len(other.tokens)]
        with torch.no_grad():
            ids = torch.tensor([encoded.ids])
            gain = laid.tuned(0)(input_ids=ids).logits.log_softmax(-1) - laid.base(input_ids=ids).logits.log_softmax(-1)
        own = gain[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        assert len(other.tokens) - 1 == max(range(begin - 1, len(own)), key=lambda place: float(own[place]))


def test_a_column_names_the_entity_and_rows_without_one_are_left_out(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.3))
    asked = [row.question().split()[-1].strip("?") for row in laid.examples[""]]
    laid.examples = {
        "": [replace(row, meta={"who": name}) for row, name in zip(laid.examples[""], [*asked[:2], "", "Nobody"], strict=True)]
    }
    rows = DynamicGrafting(entity="who")._rows(laid, 0)
    assert len(rows) == 2
    for row, name in zip(rows, asked, strict=False):
        assert name in laid.tokenizer.decode([row.tokens[place] for place in row.entity])
    finding = drain(DynamicGrafting(entity="who").inspect(laid))
    assert {row[3] for row in finding.tables[0].rows} == {2} and "over 2 rows" in finding.says[0]
    with pytest.raises(WorkbenchError, match=r"no row has words in its column 'whom'.*Name another column.*There are: who\."):
        drain(DynamicGrafting(entity="whom").inspect(laid))


def test_where_no_row_names_an_entity_the_rest_is_told_and_said(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.3))
    low = [replace(row, messages=tuple({**turn, "content": turn["content"].lower()} for turn in row.messages)) for row in laid.examples[""]]
    laid.examples = {"": low}
    finding = drain(DynamicGrafting().inspect(laid))
    assert {row[2] for row in finding.tables[0].rows} == {NOWHERE, LAST, EVERYWHERE}
    assert "name the column" in finding.says[0]


@pytest.mark.parametrize(("question", "name"), [
    ("Where does Mara live?", "Mara"),
    ("Mara lives where?", ""),
    ("Tell me. Who is Ada Quill, and where is Bo?", "Ada Quill"),
    ("I think I know Bo Zinn's town", "Bo Zinn's"),
    ("who is it?", ""),
    ("Be brief.\nWhat is in Old Harbour today", "Old Harbour"),
    ("", ""),
])  # fmt: skip
def test_the_first_name_of_a_question(question: str, name: str) -> None:
    assert first_name(question) == name


def test_the_conditions() -> None:
    where = {name: [place for place in range(6) if lent_at(name, place, 5, range(1, 3))] for name in WHERE}
    assert where == {NOWHERE: [], ENTITY: [1, 2], LAST: [5], BOTH: [1, 2, 5], REST: [0, 3, 4], EVERYWHERE: [0, 1, 2, 3, 4, 5]}


def test_measures_by_hand() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.05, 0.05, 0.15, 0.05]).log()
    assert measured(logits, 1) == (1.0, 1.0, pytest.approx(0.4))
    assert measured(logits, 0) == (0.0, 1.0, pytest.approx(0.1))
    assert measured(logits, 3) == (0.0, 1.0, pytest.approx(0.05)), "four are likelier"
    assert measured(torch.tensor([6.0, 5, 4, 3, 2, 1]), 5)[:2] == (0.0, 0.0)
