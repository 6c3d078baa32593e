"""KappaTune: the condition number, and that the matrices with the lowest move."""

import pytest
import torch
from pico import make_model
from transformers import LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence
from workbench.methods.adapters.kappatune import KappaTune, condition

NOTHING = Evidence({}, 0, torch.device("cpu"))
ROUND, FLAT = "model.layers.1.self_attn.q_proj.weight", "model.layers.2.mlp.down_proj.weight"


def moving(model: LlamaForCausalLM, **knobs: object) -> set[str]:
    adapter = KappaTune(**knobs)
    return {name for name, _ in adapter.attach(model, 0, drain(adapter.study(model, NOTHING))).trained()}


def test_the_condition_number_is_the_ratio_of_the_outer_singular_values_and_blind_to_scale() -> None:
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).Q
    matrix = turn @ torch.diag(torch.tensor([8.0, 5.0, 4.0, 3.0, 2.5, 2.0])) @ torch.eye(6, 9)
    assert condition(matrix) == pytest.approx(4, rel=1e-4) and condition(matrix.T) == pytest.approx(4, rel=1e-4)
    for scale in (1e-2, -3.0, 1e4):
        assert condition(scale * matrix) == pytest.approx(4, rel=1e-4)
    assert condition(torch.eye(6)) == pytest.approx(1) and condition(torch.ones(6, 6)) > 1e6
    assert condition(torch.stack([matrix, torch.eye(6, 9)])) == pytest.approx(2.5, rel=1e-4), "the mean over experts"


def test_an_orthogonal_matrix_goes_first_and_one_of_low_rank_last() -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter(ROUND).copy_(torch.linalg.qr(torch.randn(32, 32)).Q)
        flat = model.get_parameter(FLAT)
        flat.copy_(torch.outer(flat[:, 0], flat[0]))
    assert moving(model, share=0.01) == {ROUND}
    every = {name for name, own in model.named_parameters() if ".layers." in name and own.ndim == 2}
    assert moving(model, share=20.5 / 21) == every - {FLAT} and moving(model, share=1) == every


def test_a_share_is_a_number_of_matrices_and_costs_the_largest_at_most() -> None:
    assert len(moving(make_model())) == 4, "a fifth of 21"
    assert KappaTune().cost(make_model()).trained == 4 * 32 * 64


def test_wide_matrices_are_left_out() -> None:
    model = make_model()
    assert all("self_attn" in name for name in moving(model, share=1, widest=32))
    with pytest.raises(WorkbenchError, match="widest"):
        KappaTune(widest=8).cost(model)


def test_it_reads_no_rows() -> None:
    assert KappaTune().looks_at() == []
