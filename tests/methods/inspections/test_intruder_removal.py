"""Intruder dimensions made weaker: a planted one that is taken out leaves the base, and nothing is touched where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from subjects import Change, moved, subject
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.materials.grafted import mean_loss
from workbench.materials.subject import Subject
from workbench.methods.inspections.intruder_removal import STRENGTHS, IntruderRemoval

NAME = "model.layers.1.mlp.up_proj.weight"
SHAPE = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}


def planted(strength: float) -> Change:
    """Along directions at right angles to all of the matrix, so that they are singular directions of the sum as they are."""

    def plant(model: LlamaForCausalLM) -> None:
        own = model.get_parameter(NAME)
        left, _, right = torch.linalg.svd(own.detach().double())
        outside = left[:, own.shape[1]]  # no column of the matrix has anything of it
        own.sub_((own.double() @ torch.outer(right[-1], right[-1])).to(own))
        own.add_((strength * torch.outer(outside, right[-1])).to(own))

    return plant


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, rows=("",): subject(tmp_path, pico_tokenizer, tuned, rows, **SHAPE)


def test_without_the_planted_direction_the_loss_is_what_it_was_before_it_came(lay: Callable[..., Subject]) -> None:
    laid = lay(planted(0.0), planted(20.0))
    before, with_it = (mean_loss(laid.tuned(model), laid.evidence.batches()) for model in (0, 1))
    finding = drain(IntruderRemoval().inspect(laid))
    assert abs(with_it - before) > 1e-3
    found = finding.numbers["tuned 1"]
    assert found["intruders"] == 1 and found["loss"] == with_it
    assert found["loss"] + found["loss added without them"] == pytest.approx(before, abs=1e-5)
    assert "1 intruder dimension" in finding.says[1]


def test_halfway_it_is_half_as_strong(lay: Callable[..., Subject]) -> None:
    half = drain(IntruderRemoval().inspect(lay(planted(20.0)))).tables[0].rows
    laid = lay(planted(10.0))
    assert dict(zip([row[2] for row in half], [row[3] for row in half], strict=True))[0.5] == pytest.approx(
        mean_loss(laid.tuned(0), laid.evidence.batches()), abs=1e-5
    )


def test_where_nothing_intrudes_nothing_changes(lay: Callable[..., Subject]) -> None:
    finding = drain(IntruderRemoval(match=0.01).inspect(lay(moved(0.002))))
    assert finding.numbers["tuned 0"]["intruders"] == 0 and "nothing to make weaker" in finding.says[0]
    assert len({row[3] for row in finding.tables[0].rows}) == 1


def test_what_was_known_is_read_too_where_a_data_set_is_named(lay: Callable[..., Subject]) -> None:
    method = IntruderRemoval(known="old")
    assert method.looks_at() == ["", "old"] and IntruderRemoval(rows="old", known="old").looks_at() == ["old"]
    finding = drain(method.inspect(lay(planted(20.0), rows=("", "old"))))
    found = finding.numbers["tuned 0"]
    assert found["loss of what was known"] == found["loss"] and found["added to it without them"] == found["loss added without them"]
    curves = {row[1] for row in finding.tables[0].rows}
    assert curves == {"tuned 0 on what was held back", "tuned 0 on old"} and len(finding.tables[0].rows) == 2 * len(STRENGTHS)
    assert "what was known" in finding.says[0]
