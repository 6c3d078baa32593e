"""Neuron contributions: a neuron that was silenced has no part any more, and the change is told by layer, group and neuron."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.materials.firing import contributions, neurons_of
from workbench.materials.subject import Subject
from workbench.methods.decoders.neuron_strength import NeuronStrength
from workbench.methods.inspections import h_neurons
from workbench.methods.inspections.h_neurons import RANKS, HNeurons, by_rank


def test_a_silenced_neuron_has_no_part_any_more(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def silence(model: LlamaForCausalLM) -> None:
        model.model.layers[2].mlp.up_proj.weight[7] = 0

    finding = drain(HNeurons().inspect(subject(tmp_path, pico_tokenizer, [silence], count=6)))
    tables = {table.name: table for table in finding.tables}
    silenced = next(row for row in tables["neurons that changed most"].rows if row[1:3] == [2, 7])
    assert silenced[3] > 0 and silenced[4] == 0 and silenced[5] == -silenced[3]
    changes = [row[2] for row in tables["by layer"].rows]
    assert changes[:2] == [0, 0] and changes[2] > 0 and "most in layer 2" in finding.says[0]
    assert [row[3] for row in tables["groups"].rows[:8]] == [None] * 8
    assert sum(row[3] for row in tables["groups"].rows[8:]) == pytest.approx(1)


def test_the_parts_of_a_layer_add_up_to_1_or_more_and_only_answers_are_read(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged, moved(0.05)], count=6)
    parts = drain(HNeurons()._parts(laid, laid.base, "base"))
    assert all(float(own.sum(1).min()) >= 1 for own in parts)
    row = laid.rows[""][0]
    laid.rows = {"": [row]}
    one = drain(HNeurons()._parts(laid, laid.base, "base"))
    laid.rows = {"": [type(row)([*row.ids, 7, 8, 9], [*row.trained, False, False, False], 0)]}
    for before, after in zip(one, drain(HNeurons()._parts(laid, laid.base, "base")), strict=True):
        torch.testing.assert_close(after, before)


def test_groups_are_by_what_neurons_contributed_before() -> None:
    before = torch.arange(200, 0, -1, dtype=torch.float64)
    change = torch.zeros(200, dtype=torch.float64)
    change[0], change[1], change[2], change[150] = 1, 1, 4, 2
    assert [share for _, share in by_rank(change, before)] == [0.25, 0.5, 0, 0.25]
    assert [name for name, _ in by_rank(change, before)] == list(RANKS)
    assert {share for _, share in by_rank(0 * change, before)} == {None}


def test_more_of_a_change_is_more(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding = drain(HNeurons().inspect(subject(tmp_path, pico_tokenizer, [moved(0.002), moved(0.02), unchanged], count=6)))
    near, far, none = (finding.numbers[f"tuned {number}"]["change"] for number in range(3))
    assert 0 == none < near < far
    assert "has the part" in finding.says[2]


def test_a_layer_that_says_nothing_has_no_change_to_tell(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def silence(model: LlamaForCausalLM) -> None:
        model.model.layers[0].mlp.up_proj.weight.zero_()

    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], count=3)
    with torch.no_grad():
        silence(laid.base)
    finding = drain(HNeurons().inspect(laid))
    assert finding.tables[0].rows[0][2] is None and finding.numbers["tuned 0"]["change"] > 0


def told(laid: Subject, answers: list[object]) -> None:
    """The rows say which of their answers are right."""
    laid.examples = {"": [replace(example, meta={"correct": value}) for example, value in zip(laid.examples[""], answers, strict=True)]}


def test_a_neuron_that_speaks_in_false_answers_alone_foretells_them(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """It is planted where it is asked: the contributions of one neuron are made larger in the false rows' answers."""
    laid = subject(tmp_path, pico_tokenizer, [unchanged], count=40)
    right = [place % 2 == 0 for place in range(40)]
    told(laid, right)
    plain = HNeurons._parts

    def planted(self: HNeurons, laid: Subject, model: object, label: str, answers: bool = True) -> Iterator[Progress]:
        layers = yield from plain(self, laid, model, label, answers)
        layers[1][:, 9] = torch.where(torch.tensor(right) | (not answers), 0.0, 5.0)
        return layers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HNeurons, "_parts", planted)
        finding = drain(HNeurons().inspect(laid))
    table = next(table for table in finding.tables if table.name == "H-neurons")
    assert table.rows[0][:3] == ["base", 1, 9] and table.rows[0][4:] == [5.0, 0.0]
    assert all(row[3] > 0 for row in table.rows)
    assert finding.numbers["tuned 0"]["H-neurons"] >= 1 and finding.numbers["tuned 0"]["false answers foretold (AUROC)"] == 1.0
    assert any("picked to foretell" in sentence for sentence in finding.says)
    names = next(sentence for sentence in finding.says if "of base were picked" in sentence).rpartition("these: ")[2].removesuffix(".")
    assert names.startswith("1:9")
    assert NeuronStrength(neurons=names).named()[1][0] == 9, "the decoder takes them as they stand there"


def test_a_false_answers_tokens_are_one_kind_and_all_others_the_other(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged], count=12)
    told(laid, [place % 2 for place in range(12)])
    seen = list[tuple[torch.Tensor, torch.Tensor]]()

    def look(features: torch.Tensor, positive: torch.Tensor, strength: float = 1.0) -> tuple[torch.Tensor, float]:
        seen.append((features, positive))
        return torch.zeros(features.shape[1], dtype=torch.float64), 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h_neurons, "sparse_logistic", look)
        drain(HNeurons().inspect(laid))
    features, positive = seen[0]
    assert features.shape == (24, 3 * 64) and positive.tolist() == [place % 2 == 0 for place in range(12)] + [False] * 12
    row = laid.rows[""][0]
    every = neurons_of(laid.base, "base")
    batch = {"input_ids": torch.tensor([row.ids]), "attention_mask": torch.ones(1, len(row.ids), dtype=torch.long)}
    asked = contributions(laid.base, every, batch, ~torch.tensor([row.trained]))
    torch.testing.assert_close(features[12], torch.cat(asked, 1)[0])


def test_a_column_is_read_as_people_write_it_and_what_cannot_be_read_is_an_error(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged], count=10)
    assert HNeurons()._false(laid) is None
    told(laid, [True, "no", 1, 0.0, " Wrong", "CORRECT", *["0", "yes"] * 2])
    assert HNeurons()._false(laid).tolist() == [False, True, False, True, True, False, *[True, False] * 2]
    told(laid, [True, False] * 4 + [True] * 2)
    with pytest.raises(WorkbenchError, match=r"Read more rows"):
        drain(HNeurons().inspect(laid))
    told(laid, [True, "no", 1, 0.0, "perhaps", None, *[True] * 4])
    with pytest.raises(WorkbenchError, match=r"'perhaps'.*Name another column"):
        drain(HNeurons().inspect(laid))
