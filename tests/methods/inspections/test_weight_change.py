"""Weight change: norms, ranks and counts of changes whose singular values are written by hand, and how alike two changes are."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model
from subjects import Change, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.methods.inspections.weight_change import WeightChange

NAME = "model.layers.1.mlp.up_proj.weight"
SHAPE = (64, 32)


def added(change: torch.Tensor) -> Change:
    """One matrix of the base with something added."""

    def add(model: LlamaForCausalLM) -> None:
        model.get_parameter(NAME).add_(change)

    return add


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def find(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Any:
    return lambda *tuned, **knobs: drain(WeightChange(**knobs).inspect(subject(tmp_path, pico_tokenizer, tuned)))


def row(finding: Finding, model: int = 0, name: str = NAME) -> dict[str, Any]:
    table = finding.tables[0]
    return next(dict(zip(table.columns, own, strict=True)) for own in table.rows if own[:2] == [f"tuned {model}", name])


def test_a_change_with_singular_values_3_and_4(find: Any) -> None:
    change = torch.zeros(SHAPE)
    change[0, 0], change[5, 7] = 3, -4
    found = row(find(added(change)))
    assert found["norm of the change"] == pytest.approx(5, rel=1e-6) and found["spectral norm"] == pytest.approx(4, rel=1e-6)
    assert found["stable rank"] == pytest.approx(25 / 16, rel=1e-5)
    entropy = -sum(share * math.log(share) for share in (9 / 25, 16 / 25))
    assert found["effective rank"] == pytest.approx(math.exp(entropy), rel=1e-5)
    assert found["relative change"] == pytest.approx(5 / float(make_model().get_parameter(NAME).detach().norm()), rel=1e-6)
    assert found["numbers changed"] == 2 / (64 * 32) and found["largest change"] == pytest.approx(4, rel=1e-6)


def test_a_change_of_rank_two_has_ranks_of_at_most_two_and_of_equal_directions_as_many_as_there_are(find: Any) -> None:
    of_two = row(find(added(random(64, 2) @ random(2, 32, seed=1))))
    assert 1 < of_two["stable rank"] <= of_two["effective rank"] <= 2 + 1e-5
    turned = torch.linalg.qr(random(64, 32)).Q
    all_alike = row(find(added(turned)))
    assert all_alike["stable rank"] == pytest.approx(32, rel=1e-4) and all_alike["effective rank"] == pytest.approx(32, rel=1e-4)


def test_twice_the_change_has_twice_the_norms_and_the_same_ranks(find: Any) -> None:
    change = random(*SHAPE)
    finding = find(added(change), added(2 * change))
    once, twice = row(finding), row(finding, 1)
    for name in ("relative change", "norm of the change", "spectral norm", "largest change"):
        assert twice[name] == pytest.approx(2 * once[name], rel=1e-5)
    for name in ("stable rank", "effective rank"):
        assert twice[name] == pytest.approx(once[name], rel=1e-5)


@pytest.mark.parametrize(
    ("other", "cosine", "sign"), [(lambda own: 3 * own, 1.0, 1.0), (lambda own: -own, -1.0, 0.0), (lambda own: own.flip(0), None, None)]
)
def test_how_alike_two_changes_are(find: Any, other: Any, cosine: float | None, sign: float | None) -> None:
    change = torch.cat([random(32, 32), torch.zeros(32, 32)])  # upside down it moves none of the same numbers
    table = find(added(change), added(other(change))).tables[1]
    found = next(dict(zip(table.columns, own, strict=True)) for own in table.rows if own[0] == NAME)
    assert found["cosine"] == pytest.approx(cosine or 0.0, abs=1e-5)
    assert found["same sign"] == (sign if sign is None else pytest.approx(sign, abs=2e-3))  # rounding takes the smallest ones


def test_a_change_below_the_last_digit_is_none_and_what_did_not_move_has_no_rank(find: Any) -> None:
    def lost(model: LlamaForCausalLM) -> None:
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-9)

    finding = find(lost, unchanged)
    assert finding.numbers["tuned 0"] == {"relative change": 0.0, "numbers changed": 0.0}
    assert "number for number" in finding.says[0]
    found = row(finding)
    assert found["stable rank"] is found["effective rank"] is None and found["largest change"] == 0
    assert finding.tables[1].rows[0][5] is None, "no direction, no angle"


def test_of_the_whole_model_it_is_the_change_over_all_its_numbers(find: Any) -> None:
    change = random(*SHAPE)
    finding = find(added(change))
    every = list(make_model().parameters())
    size = math.sqrt(sum(float(parameter.detach().square().sum()) for parameter in every))
    found = finding.numbers["tuned 0"]
    assert found["relative change"] == pytest.approx(float(change.norm()) / size, rel=1e-5)
    assert found["numbers changed"] == pytest.approx(change.numel() / sum(parameter.numel() for parameter in every), rel=1e-3)
    assert [own[1] for own in finding.tables[0].rows if own[5]] == [NAME] and NAME in finding.says[0]


def test_ranks_are_left_out_where_they_are_not_wanted_or_the_matrix_is_too_wide(find: Any) -> None:
    change = random(*SHAPE)
    for knobs in ({"ranks": False}, {"widest": 31}):
        found = row(find(added(change), **knobs))
        assert found["stable rank"] is None and found["norm of the change"] > 0
    assert row(find(added(change), widest=32))["stable rank"] > 1
