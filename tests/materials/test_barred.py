"""A LoRA behind bars: whatever an optimizer does, it does not read what it may not, and is free elsewhere."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.barred import BarredAttachment
from workbench.methods.adapters.lora import LoRA
from workbench.methods.updates.adamw import AdamW
from workbench.methods.updates.muon import Muon

UP, QUERY = "model.layers.1.mlp.up_proj", "model.layers.0.self_attn.q_proj"
IDS = torch.arange(20).reshape(2, 10)


def columns(count: int) -> Tensor:
    return torch.linalg.qr(torch.randn(32, count, generator=torch.Generator().manual_seed(0))).Q


def trained(update: AdamW | Muon, directions: dict[str, Tensor], steps: int = 30) -> BarredAttachment:
    knobs = Ranked(rank=4, dropout=0.0)
    attachment = BarredAttachment(low_rank.wrapped(make_model(), knobs, seed=0), directions)
    stepper = update.begin(attachment.groups())
    for step in range(1, steps + 1):
        attachment.model(IDS).logits.logsumexp(-1).sum().backward()
        stepper.step(1.0, lambda: None)
        attachment.after_step(step)
    return attachment


@pytest.mark.parametrize("update", [AdamW(lr=1e-2, weight_decay=0.1), Muon(lr=1e-2)])
def test_the_change_reads_none_of_what_it_may_not_and_learns_all_the_same(update: AdamW | Muon) -> None:
    directions = {UP: columns(5), QUERY: columns(28)}
    attachment = trained(update, directions)
    for name, own in directions.items():
        change = attachment.model.get_submodule(name).get_delta_weight("default")
        assert change.norm() > 1e-3 and (change @ own).norm() < 1e-5 * change.norm()


def test_one_that_is_not_named_is_free() -> None:
    barred, free = trained(AdamW(lr=1e-2), {UP: columns(5)}, 1), trained(AdamW(lr=1e-2), {}, 1)
    for name in (QUERY, UP):
        one, other = (own.model.get_submodule(name).lora_A["default"].weight for own in (barred, free))
        assert torch.equal(one, other) == (name == QUERY)


def test_nothing_changes_before_the_first_step() -> None:
    attachment = trained(AdamW(), {UP: columns(5)}, 0)
    with torch.no_grad():
        assert torch.equal(attachment.model.eval()(IDS).logits, make_model()(IDS).logits)
        read = attachment.model.get_submodule(UP).lora_A["default"].weight
        assert (read @ columns(5)).abs().max() < 1e-6 < read.abs().max(), "A is behind its bars already"


def test_the_bars_hold_before_the_first_step() -> None:
    wrapper = low_rank.wrapped(make_model(), LoRA(rank=4), 0)
    bare = BarredAttachment(wrapper, {})
    name, layer = next(iter(low_rank.layers(bare.model)))
    factor = layer.lora_A["default"].weight
    directions = torch.linalg.qr(torch.randn(factor.shape[1], 3, generator=torch.Generator().manual_seed(0))).Q
    bare.bar({name: directions, "not.adapted": directions})
    assert len(bare.barred) == 1 and (factor @ directions).abs().max() < 1e-6
