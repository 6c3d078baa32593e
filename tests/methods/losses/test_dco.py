"""DCO (arXiv:2502.07154): its factor is the gradient of −log(1 − (1 − p̂)^N), over whole answers."""

import math

import pytest
import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.dco import DCO


def factor(logp: float, tries: int) -> float:
    return DCO(tries=tries).weights(TokenStats(torch.tensor([[logp]], dtype=torch.double), torch.ones(1, 1))).item()


@pytest.mark.parametrize(("tries", "expected"), [(4, 0.924749), (64, 0.132700)])
def test_values_worked_out_beforehand(tries: int, expected: float) -> None:
    assert factor(-3.0, tries) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tries", [1, 2, 7, 64])
def test_it_is_the_gradient_of_the_papers_loss(tries: int) -> None:
    for value in (-0.05, -0.7, -3.0, -9.0):
        logp = torch.tensor(value, dtype=torch.double, requires_grad=True)
        (-torch.log(1 - (1 - logp.exp()) ** tries)).backward()
        assert factor(value, tries) == pytest.approx(-logp.grad.item(), rel=1e-6)


@pytest.mark.parametrize(("times", "expected"), [(1, 0.58), (2, 0.31)])
def test_what_n_tries_find_anyway_counts_less(times: int, expected: float) -> None:
    assert factor(math.log(times / 1000), 1000) == pytest.approx(expected, abs=0.005)


def test_it_falls_as_the_answer_grows_likelier_and_bears_the_extremes() -> None:
    factors = [factor(value, 16) for value in (-1e4, -50.0, -9.0, -3.0, -1.0, -0.1, -1e-9, 0.0)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == pytest.approx(1) and factors[-1] == pytest.approx(0, abs=1e-6)


def test_an_answer_is_judged_as_a_whole_packed_or_not() -> None:
    logp = torch.tensor([[-1.0, -2.0, -50.0], [-0.1, -0.2, -0.3]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    padded = DCO(tries=8).weights(TokenStats(logp, mask))
    assert padded[0, 0] == padded[0, 1] == pytest.approx(factor(-3.0, 8), rel=1e-6)
    assert padded[1, 0] == pytest.approx(factor(-0.6, 8), rel=1e-6)
    learnt = mask.bool()
    flat = DCO(tries=8).weights(TokenStats(logp[learnt], torch.ones(5), row=torch.tensor([4, 4, 9, 9, 9])))
    assert torch.allclose(flat, padded[learnt])
