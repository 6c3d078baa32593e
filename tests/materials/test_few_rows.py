"""Large matrices by another routine: the same numbers, also with another tensor in place, and nothing of it stays."""

import pytest
import torch
from torch import nn

from workbench.materials import few_rows
from workbench.materials.few_rows import LARGE, quicken


@pytest.mark.parametrize("bias", [True, False])
def test_it_says_the_same_and_leaves_small_ones_and_other_numbers_alone(bias: bool) -> None:
    torch.manual_seed(0)
    large, small, half = nn.Linear(512, LARGE // 512, bias=bias), nn.Linear(512, 8), nn.Linear(512, LARGE // 512).bfloat16()
    model = nn.ModuleList([large, small, half])
    shown = torch.randn(7, 2, 512)
    with torch.no_grad():
        before, other = large(shown), torch.randn_like(large.weight)
        after = nn.functional.linear(shown, other, large.bias)
        assert quicken(model) == [large]
        assert torch.allclose(large(shown), before, atol=1e-5) and torch.allclose(large(shown[0]), before[0], atol=1e-5)
        large.weight.data = other
        assert torch.allclose(large(shown), after, atol=1e-4)
    del large.forward
    assert "forward" not in vars(large)


def test_a_torch_without_the_routine_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_rows.torch.ops.mkldnn, "_linear_pointwise", None)
    assert quicken(nn.Linear(1024, 1024)) == []
