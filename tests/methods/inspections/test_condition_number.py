"""Condition numbers: of matrices whose singular values are known, and which come out as the lowest."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.methods.inspections.condition_number import ConditionNumber, condition

NAME = "model.layers.1.mlp.up_proj.weight"


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_values(values: list[float], rows: int = 12, columns: int = 9) -> Tensor:
    left, right = torch.linalg.qr(random(rows, len(values))).Q, torch.linalg.qr(random(columns, len(values), seed=1)).Q
    return ((left.double() * torch.tensor(values, dtype=torch.float64)) @ right.double().T).float()


def put(name: str, make: Any) -> Change:
    def change(model: LlamaForCausalLM) -> None:
        own = model.get_parameter(name)
        own.copy_(make(own.detach().clone()))

    return change


@pytest.fixture
def find(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Any:
    return lambda *tuned, **knobs: drain(ConditionNumber(**knobs).inspect(subject(tmp_path, pico_tokenizer, tuned)))


def cells(finding: Any, model: str, name: str = NAME) -> dict[str, Any]:
    table = finding.tables[0]
    return next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[:2] == [model, name])


def test_a_rotation_has_one_and_a_diagonal_its_largest_over_its_smallest() -> None:
    assert condition(torch.linalg.qr(random(20, 20)).Q) == pytest.approx(1, rel=1e-5)
    assert condition(torch.diag(torch.tensor([3.0, 0.5, -12.0, 1.0]))) == pytest.approx(24)


@pytest.mark.parametrize("values", [[4, 3, 2, 1] + [1.0] * 5, [1e3, 1] + [1.0] * 7, [1.0] * 8 + [2e-7]])
def test_it_is_found_for_tall_and_wide_matrices_and_far_apart_values(values: list[float]) -> None:
    matrix = with_values(values)
    exact = torch.linalg.svdvals(matrix.double())
    for own in (matrix, matrix.T, 2.0**13 * matrix):
        assert condition(own) == pytest.approx(float(exact[0] / exact[-1]), rel=1e-4), "a factor changes nothing"


@pytest.mark.parametrize("matrix", [torch.zeros(4, 3), torch.outer(torch.arange(4.0), torch.ones(5)), with_values([5.0, 4, 3, 2, 1])])
def test_a_lost_direction_is_infinite(matrix: Tensor) -> None:
    assert condition(matrix) == math.inf


def test_what_is_told_of_a_model(find: Any) -> None:
    values = torch.linspace(7, 1, 32)

    def spread(own: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(own, full_matrices=False)
        return left * values @ right

    finding = find(put(NAME, spread), put(NAME, lambda own: 3 * own))
    base, own, scaled = (cells(finding, model) for model in ("the base", "tuned 0", "tuned 1"))
    assert own["condition number"] == pytest.approx(7, rel=1e-4) and own["decades"] == pytest.approx(math.log10(7), rel=1e-4)
    assert own["times the base's"] == pytest.approx(7 / base["condition number"], rel=1e-4) and base["times the base's"] is None
    assert scaled["times the base's"] == pytest.approx(1, rel=1e-4)
    others = [row for row in finding.tables[0].rows if row[0] == "tuned 0" and row[1] != NAME]
    assert all(row[6] == 1 for row in others) and len(others) == 20
    expected = math.exp(math.log(7 / base["condition number"]) / 21)
    assert finding.numbers["tuned 0"]["times the base's"] == pytest.approx(expected, rel=1e-4) and NAME in finding.says[0]


def test_the_lowest_come_first_and_one_that_lost_a_direction_never(find: Any) -> None:
    finding = find(put(NAME, lambda own: own * 0 + own[:, :1]), put(NAME, lambda own: torch.linalg.qr(own).Q))
    flat, turned = ([row for row in finding.tables[1].rows if row[0] == f"tuned {model}"] for model in (0, 1))
    assert turned[0][1:3] == [1, NAME] and turned[0][3] == pytest.approx(1, rel=1e-5)
    assert len(turned) == 21 and len(flat) == 20 and NAME not in {row[2] for row in flat}
    for rows in (flat, turned):
        assert [row[3] for row in rows] == sorted(row[3] for row in rows) and [row[1] for row in rows] == list(range(1, len(rows) + 1))
    assert cells(finding, "tuned 0")["condition number"] is cells(finding, "tuned 0")["times the base's"] is None
    assert any("1 matrix of tuned 0" in sentence for sentence in finding.says) and not any("of tuned 1 w" in told for told in finding.says)


def test_wide_matrices_can_be_left_out(find: Any) -> None:
    finding = find(moved(0.01), widest=32)  # the MLP's have a side of 64
    assert {row[3] for row in finding.tables[0].rows} == {"q_proj", "k_proj", "v_proj", "o_proj"} and "widest" in finding.says[-1]
    none = find(unchanged, widest=2)
    assert none.numbers["tuned 0"] == {} and not none.tables[1].rows
