"""The odds of what is learnt are those of the table, for every family, with their gradients; and no table is made."""

import pytest
import torch
from pico import make_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from workbench_kernels import linear_cross_entropy

from workbench.materials.models import label_table
from workbench.materials.odds import label_odds

BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
    "labels": torch.tensor([[-100, -100, 7, 8, -100, 10], [-100, 12, 13, -100, -100, -100]]),
}
LABELS = torch.tensor([7, 8, 10, 12, 13])


class Sizes(TorchDispatchMode):
    """The most numbers that a tensor of this thread has."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.most = max(
            [self.most, *(one.numel() for one in (made if isinstance(made, tuple) else (made,)) if isinstance(one, torch.Tensor))]
        )
        return made


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("frozen", [True, False])
def test_they_are_those_of_the_table_and_so_are_their_gradients(frozen: bool, softcap: float | None) -> None:
    model = make_model()
    model.config.final_logit_softcapping = softcap
    if frozen:
        model.requires_grad_(False)
        model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    upstream = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    table = label_table(model, BATCH)
    expected = table.gather(1, LABELS[:, None])[:, 0]
    odds = label_odds(model, BATCH, entropy=True)
    torch.testing.assert_close(odds.logp, expected)
    torch.testing.assert_close(odds.entropy, -(table.exp() * table).sum(-1))
    wanted, found = (torch.autograd.grad((one * upstream).sum(), moving) for one in (expected, odds.logp))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_no_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_cross_entropy, "FEW", 4 * 5 * 20_000 - 1)  # bytes; what is kept of a head that learns is one too many here
    model = make_model().requires_grad_(False)
    model.lm_head = nn.Linear(32, 20_000)
    for read, held in ((label_odds, False), (label_table, True)):
        with Sizes() as sizes:
            read(model, BATCH)
        assert (sizes.most >= 5 * 20_000) is held


def test_a_head_that_is_more_than_a_matrix_is_asked_itself() -> None:
    model = make_model().requires_grad_(False)
    plain = label_odds(model, BATCH, entropy=True)
    model.lm_head = nn.Sequential(model.lm_head)
    for one, other in zip(label_odds(model, BATCH, entropy=True), plain, strict=True):
        torch.testing.assert_close(one, other)
