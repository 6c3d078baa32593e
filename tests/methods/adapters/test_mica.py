"""MiCA (arXiv:2604.01694): the output changes only along the directions that the matrix writes most weakly."""

import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence
from workbench.materials.low_rank import LowRankAttachment
from workbench.methods.adapters.mica import MiCA
from workbench.methods.updates.adamw import AdamW

IDS = torch.arange(5, 45).reshape(4, 10)


def attached(model: LlamaForCausalLM) -> LowRankAttachment:
    adapter = MiCA(rank=4, dropout=0.0)
    return adapter.attach(model, 0, drain(adapter.study(model, Evidence({}, 0, torch.device("cpu")))))


def learnt(steps: int = 3) -> LowRankAttachment:
    attachment = attached(make_model())
    stepper = AdamW(lr=2e-2, weight_decay=0.1).begin(attachment.groups())
    for _ in range(steps):
        attachment.model(IDS, labels=IDS).loss.backward()
        stepper.step(1.0, lambda: None)
        with attachment.base():
            attachment.model(IDS)
    return attachment


def writers(attachment: LowRankAttachment) -> dict[str, Tensor]:
    return {name: layer.lora_B["default"].weight.detach() for name, layer in low_rank.layers(attachment.model)}


def test_what_it_learns_is_written_only_where_the_matrix_writes_least() -> None:
    for _, layer in low_rank.layers(learnt().model):
        u = torch.linalg.svd(layer.base_layer.weight.detach(), full_matrices=False).U
        change = layer.get_delta_weight("default").detach()
        assert change.any() and torch.allclose(u[:, :-4].T @ change, torch.zeros(u.shape[1] - 4, change.shape[1]), atol=1e-6)


def test_b_never_moves_and_a_begins_at_zero() -> None:
    before, after = writers(learnt(0)), writers(learnt(3))
    assert all(torch.equal(before[name], after[name]) for name in before)
    attachment = learnt(0)
    assert all(".lora_A." in name and not parameter.any() for name, parameter in attachment.trained())


def test_no_more_of_a_decomposition_is_kept_than_is_used() -> None:
    found = drain(MiCA(rank=4).study(make_model(), Evidence({}, 0, torch.device("cpu"))))
    assert len(found) == 21 and all(b.untyped_storage().nbytes() == 4 * b.numel() for b in found.values())


def test_it_costs_the_inputs_times_the_rank() -> None:
    assert MiCA(rank=4, targets="attention").cost(make_model()).trained == 3 * 4 * (32 + 32 + 32 + 32)  # q, k, v, o


def test_in_half_precision_what_writes_is_still_orthonormal() -> None:
    written = writers(attached(make_model().bfloat16())).values()
    assert all(b.dtype == torch.float32 and torch.allclose(b.T @ b, torch.eye(4), atol=1e-5) for b in written)
