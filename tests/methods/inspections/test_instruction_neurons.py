"""Instruction neurons: sets by a threshold, what kinds share, and what tuning exchanged."""

from pathlib import Path

import pytest
import torch
from subjects import moved, subject
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.firing import firing, neurons_of
from workbench.materials.subject import Subject
from workbench.methods.inspections.instruction_neurons import InstructionNeurons, generality, jaccard


def sets(*layers: str) -> list[torch.Tensor]:
    return [torch.tensor([letter == "x" for letter in layer]) for layer in layers]


def told(method: InstructionNeurons, laid: Subject) -> tuple[Finding, dict[str, Table]]:
    finding = drain(method.inspect(laid))
    return finding, {table.name: table for table in finding.tables}


def test_what_sets_share() -> None:
    one, other = sets("xx..", ".xx.")
    assert jaccard(one, other) == pytest.approx(1 / 3) and jaccard(one, one) == 1 and jaccard(one & other & ~one, one & ~one) == 1
    assert generality({"a": sets("xx", ".x"), "b": sets("x.", ".x")}) == pytest.approx(2 / 3)
    assert generality({"a": sets("xx")}) is None and generality({"a": sets(".."), "b": sets("..")}) is None


def test_a_neuron_that_is_turned_round_leaves_the_set(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """The last layer's gates change their sign, so where one fired on most tokens it fires on few; the layers before stay."""

    def turn(model: LlamaForCausalLM) -> None:
        model.model.layers[2].mlp.gate_proj.weight.neg_()

    laid = subject(tmp_path, pico_tokenizer, [turn], count=8)
    finding, tables = told(InstructionNeurons(threshold=0.6), laid)
    found = {(row[0], row[2]): row for row in tables["by layer"].rows}
    assert [found["tuned 0", layer][4] for layer in range(3)] == [1.0, 1.0, 0.0]
    assert found["base", 2][3] > 0.1 and {found["base", layer][4] for layer in range(3)} == {1.0}
    assert 0 < finding.numbers["tuned 0"]["Jaccard with the base"] < 1


def test_the_threshold_takes_all_or_few(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], count=8)
    shares = []
    for threshold in (1e-6, 0.5, 1.0):
        _, tables = told(InstructionNeurons(threshold=threshold), laid)
        shares.append(sum(row[3] for row in tables["by layer"].rows if row[0] == "base") / 3)
    assert shares[0] > 0.95 and shares[0] > shares[1] > shares[2]


def test_kinds_are_the_data_sets_that_are_named(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    method = InstructionNeurons(rows="code, letters,code", threshold=0.6)
    assert method.looks_at() == ["code", "letters"] and InstructionNeurons().looks_at() == [""]
    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], rows=method.looks_at(), count=8)
    finding, tables = told(method, laid)
    assert finding.numbers["tuned 0"]["generality"] == 1.0, "the same rows"
    assert {row[1]: row[3] for row in tables["kinds"].rows} == {"code": 0, "letters": 0}
    laid.rows = {"code": laid.rows["code"][:4], "letters": laid.rows["letters"][4:]}
    finding, tables = told(method, laid)
    rows = {row[1]: row for row in tables["kinds"].rows if row[0] == "tuned 0"}
    common = rows["code"][2] - rows["code"][3]
    assert common == rows["letters"][2] - rows["letters"][3]
    every = common + rows["code"][3] + rows["letters"][3]
    assert finding.numbers["tuned 0"]["generality"] == pytest.approx(common / every)


def test_each_row_counts_the_same_however_long_its_instruction_is(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], count=11)
    *others, last = laid.rows[""]
    laid.rows = {"": [*others, type(last)(last.ids * 3, [False] * (3 * len(last.ids) - 1) + [True], 0)]}
    every = neurons_of(laid.base, "base")
    alone = torch.stack([firing(laid.base, every, batch)[1][0] for batch in laid.evidence.prompts("", 1)])
    for threshold in (0.45, 0.6):
        _, tables = told(InstructionNeurons(threshold=threshold), laid)
        found = next(row[3] for row in tables["by layer"].rows if row[:3] == ["base", "held back", 1])
        assert found == float((alone.mean(0) >= threshold).double().mean())
