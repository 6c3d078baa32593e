"""logit_spread: the reference against a float64 formula on odd shapes, over several tiles of the vocabulary."""

import pytest
import torch
import workbench_kernels.logit_spread as module
from workbench_kernels.logit_spread import logit_spread


@pytest.mark.parametrize("n, d, v", [(1, 3, 7), (5, 16, 1023), (13, 8, 64)])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("moving_head", [False, True])
def test_it_equals_the_formula(n: int, d: int, v: int, softcap: float | None, moving_head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    generator = torch.Generator().manual_seed(n + v)
    h, hd = (torch.randn(n, d, generator=generator) for _ in range(2))
    w, wd = (torch.randn(v, d, generator=generator) for _ in range(2))
    b, bd = (torch.randn(v, generator=generator) for _ in range(2))
    found = logit_spread(h, hd, w, wd if moving_head else None, b, bd if moving_head else None, softcap)

    z = h.double() @ w.double().T + b
    a = hd.double() @ w.double().T + (h.double() @ wd.double().T + bd if moving_head else 0)
    if softcap:
        z, a = softcap * torch.tanh(z / softcap), a * (1 - torch.tanh(z / softcap) ** 2)
    p = z.softmax(-1)
    top = z.argmax(1, keepdim=True)
    expected = {
        "highest": a.max(1).values,
        "lowest": a.min(1).values,
        "width": a.max(1).values - a.min(1).values,
        "at_top": a.gather(1, top)[:, 0],
        "margin": (p.gather(1, top)[:, 0].log() - torch.log1p(-p.gather(1, top)[:, 0])).clamp_min(0),
        "variance": (p * a**2).sum(1) - (p * a).sum(1) ** 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name).double(), value, rtol=2e-4, atol=2e-5, msg=name)
    assert torch.equal(found.rises, a.argmax(1)) and torch.equal(found.falls, a.argmin(1))


def test_a_certain_token_has_no_variance_and_a_large_margin() -> None:
    found = logit_spread(torch.tensor([[60.0, 0.0]]), torch.tensor([[1.0, -1.0]]), torch.eye(2))
    assert found.variance.item() < 1e-6 and 59 < found.margin.item() < 61
