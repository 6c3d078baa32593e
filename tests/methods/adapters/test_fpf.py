"""FPF (arXiv:2304.04158): the kinds of matrices that an earlier run moved most move again, whole, and nothing else does."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import Factors, Lora
from workbench.methods.adapters.fpf import FPF, FPFAttachment, drift
from workbench.methods.updates.adamw import AdamW

IDS = torch.arange(20).reshape(2, 10)


def change(size: float, out: int, into: int) -> Factors:
    """Of which each number is that large."""
    return Factors(torch.full((out, 1), size).double(), torch.ones(1, into).double() * (-1) ** torch.arange(into))


def earlier(**sizes: float) -> Lora:
    """Changes of one mean size for each kind, in two blocks: half as large in the first and half again as large in the other."""
    shapes = {"q_proj": (32, 32), "k_proj": (16, 32), "o_proj": (32, 32)}
    return Lora(
        {
            f"model.layers.{layer}.{'self_attn' if kind in shapes else 'mlp'}.{kind}.weight": change(
                size * (0.5 + layer), *shapes.get(kind, (64, 32) if kind == "up_proj" else (32, 64))
            )
            for kind, size in sizes.items()
            for layer in (0, 1)
        },
        {},
    )


def told(lora: Lora, **knobs: int) -> FPFAttachment:
    attachment = FPF(earlier_run="run:0001", **knobs).attach(make_model(), seed=0)
    attachment.heed(lora)
    return attachment


def kinds(attachment: FPFAttachment) -> set[str]:
    return {name.split(".")[-2] for name, _ in attachment.trained()}


def test_drift_is_the_mean_size_of_a_numbers_change_whatever_the_size_of_the_matrix() -> None:
    found = drift(earlier(q_proj=0.1, k_proj=0.4, down_proj=0.2))
    assert list(found) == ["k_proj", "down_proj", "q_proj"]
    assert found == {"k_proj": pytest.approx(0.4), "down_proj": pytest.approx(0.2), "q_proj": pytest.approx(0.1)}


def test_what_drifted_most_moves_in_all_blocks_and_nothing_else() -> None:
    lora = earlier(q_proj=0.1, k_proj=0.4, down_proj=0.2)
    assert kinds(told(lora, kinds=1)) == {"k_proj"} and kinds(told(lora)) == {"k_proj", "down_proj"}
    assert {name for name, _ in told(lora, kinds=1).trained()} == {f"model.layers.{layer}.self_attn.k_proj.weight" for layer in range(3)}
    assert kinds(told(lora, kinds=9)) == {"k_proj", "down_proj", "q_proj"}, "kinds that were not adapted have not drifted"


def test_it_is_trained_given_back_taken_up_and_saved_as_those_alone(tmp_path: Path) -> None:
    attachment = told(earlier(k_proj=0.4, o_proj=0.1), kinds=1)
    stepper = AdamW(lr=1e-2).begin(attachment.groups())
    attachment.model(IDS, labels=IDS).loss.backward()
    stepper.step(1.0, lambda: None)
    before, after = make_model().state_dict(), {name: own.clone() for name, own in attachment.model.state_dict().items()}
    assert {name.split(".")[-2] for name in after if not torch.equal(after[name], before[name])} == {"k_proj"}
    assert {name.split(".")[-2] for name in attachment.state()} == {"k_proj"}
    with attachment.base():
        assert all(torch.equal(own, before[name]) for name, own in attachment.model.state_dict().items())
    other = told(earlier(k_proj=0.4, o_proj=0.1), kinds=1)
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    attachment.save(tmp_path)
    for model in (other.model, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)):
        assert torch.equal(said(model), said(attachment.model))


@torch.no_grad()
def said(model: torch.nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def test_until_it_is_told_the_largest_move_and_the_cost_is_theirs() -> None:
    assert kinds(FPF().attach(make_model(), seed=0)) == {"down_proj", "gate_proj"}, "as large as up_proj, and first by name"
    most = FPF(kinds=2).cost(make_model()).trained
    assert most == 2 * 3 * 32 * 64
    for lora in (earlier(q_proj=1.0, o_proj=1.0), earlier(up_proj=1.0, down_proj=1.0)):
        assert sum(own.numel() for _, own in told(lora).trained()) <= most


def test_it_says_what_it_lacks() -> None:
    with pytest.raises(WorkbenchError, match="name that run"):
        FPF().earlier()
    with pytest.raises(WorkbenchError, match="Name a LoRA run"):
        told(Lora({}, {}))
