"""NeuroAda: exactly k entries of every row, the largest ones."""

import pytest
import torch
from pico import make_model

from workbench.methods.adapters.neuroada import NeuroAda


@pytest.mark.parametrize("entries", [1, 3, 1000])
def test_each_row_moves_through_its_largest_weights(entries: int) -> None:
    model = make_model()
    attachment = NeuroAda(entries=entries).attach(model, seed=0)
    assert NeuroAda(entries=entries).cost(model).trained == sum(values.numel() for _, values in attachment.trained())
    for name, values in attachment.trained():
        weight = model.get_parameter(name).detach()
        count = min(entries, weight.shape[1])
        chosen = attachment.state()[f"{name}/index"]
        assert torch.equal(torch.bincount(chosen // weight.shape[1]), torch.full((len(weight),), count))
        assert chosen.tolist() == sorted(chosen.tolist())
        least = torch.full_like(weight, torch.inf).flatten()
        least[chosen] = weight.abs().flatten()[chosen]
        rest = weight.abs().flatten().clone()
        rest[chosen] = -1
        assert (least.view_as(weight).amin(1) >= rest.view_as(weight).amax(1)).all() and values.numel() == len(weight) * count
