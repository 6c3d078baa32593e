"""logit_spread: the reference against a float64 formula on odd shapes, over several tiles of the rows and of the vocabulary."""

import pytest
import torch
import workbench_kernels.logit_spread as module
from workbench_kernels.logit_spread import logit_spread


@pytest.mark.parametrize("n, d, v", [(1, 3, 7), (5, 16, 1023), (13, 8, 64)])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("moving_head", [False, True])
def test_it_equals_the_formula(n: int, d: int, v: int, softcap: float | None, moving_head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "ROWS", 4)
    monkeypatch.setattr(module, "BLOCK", 150)
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


@pytest.mark.parametrize("chunk", [4, 7, 100])
def test_a_token_that_is_forbidden_has_no_weight(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias of −∞ on the first four, a whole tile among others: the rest is as if they were not there, but for the extremes of a."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    draw = torch.Generator().manual_seed(0)
    h, h_dot, w = (torch.randn(count, 3, generator=draw) for count in (2, 2, 9))
    bias = torch.tensor([-torch.inf] * 4 + [0.0] * 5)
    found, alone = logit_spread(h, h_dot, w, bias=bias), logit_spread(h, h_dot, w[4:])
    for name in ("at_top", "margin", "variance"):
        torch.testing.assert_close(getattr(found, name), getattr(alone, name), msg=name)
    assert torch.equal(found.rises, (h_dot @ w.T).argmax(1)) and torch.equal(found.falls, (h_dot @ w.T).argmin(1))


@pytest.mark.parametrize("chunk", [40, 1000])
@pytest.mark.parametrize("place", [0, 70, 199])
def test_a_nearly_certain_token_keeps_its_digits_in_whatever_tile(place: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 − p is far below the digits of float32. The formula in float64, where e^−50 is nothing beside 1 but not beside 1e−30."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    draw = torch.Generator().manual_seed(place)
    h, h_dot, w = (torch.randn(count, 3, generator=draw) for count in (4, 4, 200))
    bias = torch.zeros(200)
    bias[place] = 50.0
    found = logit_spread(h, h_dot, w, bias=bias)
    z, a = h.double() @ w.double().T + bias, h_dot.double() @ w.double().T
    odds, its = (z - z[:, [place]]).exp(), a - a[:, [place]]
    odds[:, place] = 0
    torch.testing.assert_close(found.margin.double(), -odds.sum(1).log(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.variance.double(), (odds * its**2).sum(1), rtol=1e-4, atol=0)


def test_a_head_in_half_precision_is_multiplied_in_float32() -> None:
    """As exact as the numbers that it holds."""
    draw = torch.Generator().manual_seed(1)
    h, h_dot, w, w_dot = (torch.randn(count, 8, generator=draw) for count in (3, 3, 50, 50))
    half = w.bfloat16()
    found, same = logit_spread(h, h_dot, half, w_dot), logit_spread(h, h_dot, half.float(), w_dot)
    assert found.width.dtype == torch.float32 and torch.equal(found.width, same.width) and torch.equal(found.variance, same.variance)
