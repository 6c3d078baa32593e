"""Asymmetry (arXiv:2402.16842): A is orthonormal and never moves, B alone learns."""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence
from workbench.materials.low_rank import LowRankAttachment
from workbench.methods.adapters.asymmetry import Asymmetry
from workbench.methods.updates.adamw import AdamW

IDS = torch.arange(5, 45).reshape(4, 10)


def attached(seed: int = 0, **knobs: object) -> LowRankAttachment:
    adapter, model = Asymmetry(rank=4, **knobs), make_model()
    return adapter.attach(model, seed, drain(adapter.study(model, Evidence({}, 0, torch.device("cpu")))))


def readers(attachment: LowRankAttachment) -> dict[str, Tensor]:
    return {name: layer.lora_A["default"].weight.detach().clone() for name, layer in low_rank.layers(attachment.model)}


def learn(attachment: LowRankAttachment) -> None:
    stepper = AdamW(lr=2e-2, weight_decay=0.1).begin(attachment.groups())
    for _ in range(3):
        attachment.model(IDS, labels=IDS).loss.backward()
        stepper.step(1.0, lambda: None)


@pytest.mark.parametrize("reads", ["random", "strongest", "weakest"])
def test_what_reads_is_orthonormal(reads: str) -> None:
    assert all(torch.allclose(a @ a.T, torch.eye(4), atol=1e-5) for a in readers(attached(reads=reads)).values())


def test_a_never_moves_also_after_the_base_was_asked() -> None:
    attachment = attached()
    before = readers(attachment)
    learn(attachment)
    with attachment.base():
        attachment.model(IDS)
    learn(attachment)
    after = readers(attachment)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(".lora_B." in name for name, _ in attachment.trained())
    assert all(layer.lora_B["default"].weight.any() for _, layer in low_rank.layers(attachment.model))


def test_it_costs_the_outputs_times_the_rank() -> None:
    assert Asymmetry(rank=4, targets="attention").cost(make_model()).trained == 3 * 4 * (32 + 16 + 16 + 32)  # q, k, v, o


def test_it_can_read_what_the_matrix_reads_most_or_least() -> None:
    def heard(layer: LoraLayer) -> Tensor:
        return (layer.base_layer.weight @ layer.lora_A["default"].weight.T).norm(dim=0)

    for reads, chosen in (("strongest", slice(0, 4)), ("weakest", slice(-4, None))):
        for _, layer in low_rank.layers(attached(reads=reads).model):
            assert torch.allclose(heard(layer), torch.linalg.svdvals(layer.base_layer.weight)[chosen], atol=1e-5)


def test_a_seed_fixes_what_is_read_and_each_matrix_reads_something_else() -> None:
    one, same, other = (readers(attached(seed)) for seed in (0, 0, 1))
    first, second = list(one)[:2]
    assert all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one[first][:, :16], one[second][:, :16])
    model = make_model()
    state = torch.get_rng_state()
    Asymmetry(rank=4).attach(model, 3, {})
    assert torch.equal(torch.get_rng_state(), state)


def test_more_rank_than_a_matrix_has_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="Set rank to 16"):
        Asymmetry(rank=17).cost(make_model())
