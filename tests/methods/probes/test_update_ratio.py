"""Update over weight: a step of known length on known weights, by block and in all."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.methods.adapters.full import Full
from workbench.methods.contracts import Attachment, Moment
from workbench.methods.probes.update_ratio import UpdateRatio


def after_a_share(share: float, of_layer: int) -> tuple[Attachment, dict[str, Tensor]]:
    """Full tuning in which the weights of one block are `share` longer than before, and all others stand still."""
    attachment = Full().attach(make_model(), seed=0)
    layer = f"layers.{of_layer}."
    return attachment, {name: p.detach() * (share if layer in name else 0.0) for name, p in attachment.trained()}


def test_a_block_that_moved_by_a_hundredth_reads_a_hundredth(pico_batch: dict) -> None:
    attachment, displacement = after_a_share(0.01, of_layer=1)
    values = UpdateRatio(layers=True).read(Moment(1, attachment, pico_batch, displacement)).values
    assert values["update_ratio/layer 01"] == pytest.approx(0.01)
    assert values["update_ratio/layer 00"] == values["update_ratio/outside"] == 0.0
    whole = torch.cat([p.detach().flatten() for _, p in attachment.trained()]).norm().item()
    block = torch.cat([p.detach().flatten() for name, p in attachment.trained() if "layers.1." in name]).norm().item()
    assert values["update_ratio"] == pytest.approx(0.01 * block / whole, rel=1e-5)


def test_blocks_are_read_only_when_asked_for(pico_batch: dict) -> None:
    attachment, displacement = after_a_share(0.01, of_layer=0)
    assert set(UpdateRatio().read(Moment(1, attachment, pico_batch, displacement)).values) == {"update_ratio"}
