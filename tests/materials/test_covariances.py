"""What matrices read: the same numbers as over all tokens at once, in however many passes, and without padding."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.job import drain
from workbench.materials import covariances
from workbench.materials.covariances import Inputs, observed, portions
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded

DOWN, UP = "model.layers.1.mlp.down_proj", "model.layers.0.mlp.up_proj"
SIZES = {DOWN: 64, UP: 32}
ROWS = [Encoded(list(range(3, 3 + length)), [True] * length, 0) for length in (6, 9, 4)]


def read() -> dict[str, Tensor]:
    """Row by row, so that there is no padding."""
    model, found = make_model(), {name: [] for name in SIZES}
    for name, given in found.items():
        model.get_submodule(name).register_forward_pre_hook(lambda module, x, given=given: given.append(x[0][0]))
    with torch.no_grad():
        for row in ROWS:
            model(torch.tensor([row.ids]))
    return {name: torch.cat(given).double() for name, given in found.items()}


@pytest.mark.parametrize("room", [1, 4 * 64 * 64, 1 << 20])
def test_it_is_what_all_tokens_together_give(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covariances, "ROOM", room)
    found: dict[str, Inputs] = {}
    drain(observed(make_model(), SIZES, Evidence({"": ROWS}, 0, torch.device("cpu")).batches(), found.__setitem__))
    assert list(found) == [DOWN, UP]
    for name, x in read().items():
        assert found[name].count == len(x) == 19, "padding is not read"
        assert torch.allclose(found[name].second().double(), x.T @ x / len(x), atol=1e-6)
        assert torch.allclose(found[name].covariance().double(), x.T.cov(correction=0), atol=1e-6)


def test_portions_keep_the_order_and_the_room() -> None:
    sizes = {"a": 3, "b": 2, "c": 9, "d": 1, "e": 1}
    assert portions(sizes, 5) == [["a", "b"], ["c"], ["d", "e"]]
    assert portions(sizes, 100) == [list(sizes)] and portions(sizes, 1) == [[name] for name in sizes] and portions({}, 1) == []
