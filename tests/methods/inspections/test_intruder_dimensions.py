"""Intruder dimensions: planted ones are counted, and what turns, stretches or blurs a matrix is none."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Change, subject
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.methods.inspections.intruder_dimensions import IntruderDimensions, by_chance

NAME = "model.layers.1.mlp.up_proj.weight"
WIDE = 256
SHAPE = {"hidden_size": 64, "intermediate_size": WIDE, "num_hidden_layers": 2}  # up_proj has 256 rows and 64 columns


def unit(length: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(length, generator=torch.Generator().manual_seed(seed)), dim=0)


def added(make: Any) -> Change:
    """One matrix W of the base as W + make(W)."""

    def add(model: LlamaForCausalLM) -> None:
        own = model.get_parameter(NAME)
        own.add_(make(own.detach().clone()))

    return add


def strongest(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def planted(share: float, seed: int = 0) -> Change:
    """A random direction with that share of the strongest singular value."""
    return added(lambda own: share * strongest(own) * torch.outer(unit(own.shape[0], seed), unit(own.shape[1], seed + 1)))


@pytest.fixture
def find(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Any:
    return lambda *tuned, **knobs: drain(IntruderDimensions(**knobs).inspect(subject(tmp_path, pico_tokenizer, tuned, **SHAPE)))


def matrix(finding: Finding, name: str = NAME) -> dict[str, Any]:
    table = finding.tables[0]
    return next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[1] == name)


@pytest.mark.parametrize(("share", "intruders"), [(1.5, 1), (0.1, 0)])
def test_a_planted_direction_counts_when_it_is_strong(find: Any, share: float, intruders: int) -> None:
    finding = find(planted(share))
    assert finding.numbers["tuned 0"]["intruders"] == intruders == matrix(finding)["intruders"]
    assert finding.numbers["tuned 0"]["matrices with intruders"] == intruders / 14
    if intruders:
        first = finding.tables[1].rows[0]  # the strangest comes first
        assert first[1] == NAME and first[4] == 1 and first[6] < 0.5 and NAME in finding.says[0]


def test_noise_and_what_stretches_or_turns_the_base_by_itself_are_none(find: Any) -> None:
    def noise(own: Tensor) -> Tensor:
        return 1e-3 * strongest(own) * torch.randn(own.shape, generator=torch.Generator().manual_seed(3)) / math.sqrt(max(own.shape))

    def along(own: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(own, full_matrices=False)
        return 1.5 * strongest(own) * torch.outer(left[:, 0], right[0])

    finding = find(added(noise), added(along), added(lambda own: 2 * own))
    assert [own["intruders"] for own in finding.numbers.values()] == [0, 0, 0]
    assert finding.numbers["tuned 1"]["lowest match"] == pytest.approx(1, abs=1e-5)


def test_several_planted_ones_are_all_counted_but_no_more_than_are_looked_at(find: Any) -> None:
    def several(own: Tensor) -> Tensor:
        left = torch.linalg.qr(torch.stack([unit(own.shape[0], seed) for seed in range(4)], 1)).Q
        right = torch.linalg.qr(torch.stack([unit(own.shape[1], seed) for seed in range(10, 14)], 1)).Q
        return strongest(own) * (left * torch.tensor([3.0, 4.0, 5.0, 6.0])) @ right.T

    assert find(added(several)).numbers["tuned 0"]["intruders"] == 4
    assert find(added(several), strongest=3).numbers["tuned 0"]["intruders"] == 3


def test_the_match_is_the_line(find: Any) -> None:
    found = matrix(find(planted(1.5)))["lowest match"]
    assert find(planted(1.5), match=found + 1e-3).numbers["tuned 0"]["intruders"] >= 1
    assert find(planted(1.5), match=found - 1e-3).numbers["tuned 0"]["intruders"] == 0


def test_of_a_tall_matrix_the_span_tells_an_intruder_from_a_mixture(find: Any) -> None:
    def mixture(own: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(own, full_matrices=False)
        return 1.5 * strongest(own) * torch.outer(left.mean(1) * math.sqrt(left.shape[1]), right[-1])

    table = find(added(mixture), planted(1.5)).tables[1]
    mixed, new = (next(row for row in table.rows if row[0] == f"tuned {model}" and row[1] == NAME) for model in (0, 1))
    assert mixed[6] < 0.5 and new[6] < 0.5, "both look new"
    assert mixed[7] == pytest.approx(1, abs=1e-4) and new[7] < 0.8


def test_the_table_agrees_with_a_full_decomposition(find: Any, tmp_path: Path) -> None:
    find(planted(0.8))
    base, own = (LlamaForCausalLM.from_pretrained(tmp_path / f"model-{place}").get_parameter(NAME).detach() for place in (0, 1))
    finding = find(planted(0.8))
    left, other = torch.linalg.svd(own.double(), full_matrices=False), torch.linalg.svd(base.double(), full_matrices=False)
    matches = (left.U[:, :10].T @ other.U).abs().amax(1)
    rows = sorted((row for row in finding.tables[1].rows if row[1] == NAME), key=lambda row: row[4])
    assert [row[5] for row in rows] == pytest.approx(left.S[:10].tolist(), rel=1e-5)
    assert [row[6] for row in rows] == pytest.approx(matches.tolist(), abs=1e-4)


def test_few_rows_and_wide_matrices_are_said(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    small = drain(IntruderDimensions().inspect(subject(tmp_path, pico_tokenizer, [planted(1.0)])))
    assert any("random direction" in sentence and "16 rows" in sentence for sentence in small.says)
    none = drain(IntruderDimensions(widest=8).inspect(subject(tmp_path, pico_tokenizer, [planted(1.0)])))
    assert any("widest" in sentence for sentence in none.says) and none.numbers["tuned 0"] == {} and not none.tables[0].rows


@pytest.mark.parametrize("rows", [16, 64, 128, 256, 512])
def test_chance_is_near_what_random_directions_match(rows: int) -> None:
    """Among orthonormal directions, which may as well be the axes: the largest coordinate of a random unit vector."""
    draws = torch.randn(400, rows, generator=torch.Generator().manual_seed(0))
    found = float(torch.nn.functional.normalize(draws, dim=1).abs().amax(1).mean())
    assert found < by_chance(rows) < 1.2 * found


def test_only_matrices_inside_blocks_are_looked_at(find: Any) -> None:
    finding = find(planted(1.5))
    names = {row[1] for row in finding.tables[0].rows}
    assert len(names) == 14 and all(".layers." in name for name in names)
