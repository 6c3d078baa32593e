"""EVA (arXiv:2410.07170): A reads the principal directions of the inputs, and the ranks go where they explain most."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, inputs
from workbench.materials.lora import read_lora
from workbench.materials.low_rank import LowRankAttachment
from workbench.materials.templates import Encoded
from workbench.methods.adapters.eva import EVA, counts
from workbench.methods.adapters.lora import LoRA

UP, DOWN = "model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"
ROWS = [Encoded(list(range(start, start + 25)), [True] * 25, 0) for start in range(2, 200, 9)]
EVIDENCE = Evidence({"": ROWS}, 0, torch.device("cpu"))
SMALL = {"rank": 4, "alpha": 6.0, "dropout": 0.0}


def told(**knobs: object) -> tuple[LowRankAttachment, dict[str, Tensor]]:
    adapter, model = EVA(**{**SMALL, **knobs}), make_model()
    learnt = drain(adapter.study(model, EVIDENCE))
    return adapter.attach(model, 0, learnt), learnt


def explained(name: str) -> tuple[Tensor, Tensor]:
    """Right singular vectors of what a matrix reads less its mean, and the share of the variance that each explains."""
    found: list[Tensor] = []
    drain(inputs(make_model(), [name], EVIDENCE.batches(), lambda _, x: found.append(x)))
    x = torch.cat(found).double()
    taken = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return taken.Vh, taken.S.square() / taken.S.square().sum()


def test_a_reads_the_principal_directions_of_the_inputs_and_b_is_zero() -> None:
    attachment, _ = told(spread=1.0)
    for name in (UP, DOWN):
        layer, (directions, _) = attachment.model.get_submodule(name), explained(name)
        a = layer.lora_A["default"].weight.detach().double()
        assert torch.allclose((a @ directions[:4].T).abs(), torch.eye(4).double(), atol=1e-3)
        assert not layer.lora_B["default"].weight.any()


def test_with_a_spread_of_1_every_matrix_gets_the_rank() -> None:
    attachment, learnt = told(spread=1.0)
    assert {len(directions) for directions in learnt.values()} == {4} and len(learnt) == 21
    cost = EVA(**SMALL, spread=1.0).cost(make_model())
    assert replace(cost, studied=0) == LoRA(**SMALL).cost(make_model()) and cost.studied > 0
    assert sum(parameter.numel() for _, parameter in attachment.trained()) == LoRA(**SMALL).cost(make_model()).trained


def test_the_ranks_go_to_the_largest_shares_within_budget_and_bound() -> None:
    _, learnt = told(spread=1.5)
    ranks = {name: len(learnt.get(name, ())) for name, _ in low_rank.matrices(make_model(), "all linear")}
    assert sum(ranks.values()) == 4 * 21 and max(ranks.values()) <= 6 and min(ranks.values()) < 4
    shares = {name: explained(name)[1] for name in ranks}
    taken = min(float(shares[name][rank - 1]) for name, rank in ranks.items() if rank)
    left = max(float(shares[name][rank]) for name, rank in ranks.items() if rank < 6)
    assert taken >= left - 1e-6


def test_a_worked_example_of_the_sharing_out() -> None:
    shares = {"a": torch.tensor([0.5, 0.3, 0.1]), "b": torch.tensor([0.4, 0.05, 0.04]), "c": torch.tensor([0.02, 0.01, 0.0])}
    assert counts(shares, 4) == {"a": 3, "b": 1, "c": 0}


def test_a_matrix_that_got_nothing_has_no_adapter_and_the_scale_is_the_same_for_all(tmp_path: Path) -> None:
    adapter, learnt = EVA(**SMALL), {UP: torch.eye(32)[:6], DOWN: torch.eye(64)[:1]}
    attachment = adapter.attach(make_model(), 0, learnt)
    for _, layer in low_rank.layers(attachment.model):
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    assert [name for name, _ in low_rank.layers(attachment.model)] == [UP, DOWN]
    attachment.save(tmp_path)
    factors = {name: (pair.right.shape[0], pair.scale) for name, pair in read_lora(tmp_path, "ours").factors.items()}
    assert factors == {f"{UP}.weight": (6, 1.5), f"{DOWN}.weight": (1, 1.5)}
    ids = torch.arange(5, 45).reshape(4, 10)
    with torch.no_grad():
        opened = PeftModel.from_pretrained(make_model(), tmp_path)(ids).logits
        assert torch.allclose(opened, attachment.model(ids).logits, atol=1e-5)


def test_a_rank_that_a_matrix_has_no_directions_for_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="Set rank to 16"):
        EVA(rank=17).cost(make_model())
