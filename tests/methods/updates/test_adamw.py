"""AdamW (arXiv:1711.05101): one step by hand, decay on matrices only, clipping before it."""

import inspect

import torch

from workbench.methods.updates.adamw import AdamW


def one_step(knobs: AdamW, value: torch.Tensor, gradient: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    parameter = torch.nn.Parameter(value.clone())
    stepper = knobs.begin([{"params": [parameter]}])
    parameter.grad = gradient.clone()
    assert stepper.step(rate, lambda: None) == {"lr": knobs.lr * rate}
    assert parameter.grad is None
    return parameter.detach()


def test_the_first_step_is_the_learning_rate_in_the_direction_of_the_sign() -> None:
    value, gradient = torch.zeros(2, 2), torch.tensor([[3.0, -2.0], [0.5, -0.1]])
    moved = one_step(AdamW(lr=0.1, clip=0), value, gradient)
    assert torch.allclose(moved, -0.1 * gradient.sign(), atol=1e-6)
    assert torch.allclose(one_step(AdamW(lr=0.1, clip=0), value, gradient, rate=0.25), moved / 4, atol=1e-6)


def test_matrices_decay_and_vectors_do_not() -> None:
    knobs = AdamW(lr=0.1, weight_decay=0.5, clip=0)
    assert torch.allclose(one_step(knobs, torch.ones(2, 2), torch.zeros(2, 2)), torch.full((2, 2), 1 - 0.1 * 0.5))
    assert torch.allclose(one_step(knobs, torch.ones(2), torch.zeros(2)), torch.ones(2))


def test_clipping_bounds_the_gradient_that_the_moments_see() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    stepper = AdamW(clip=1.0).begin([{"params": [parameter]}])
    parameter.grad = torch.full((4,), 50.0)
    stepper.step(1.0, lambda: None)
    assert torch.allclose(stepper.state()["0.exp_avg"].norm(), torch.tensor(0.1), atol=1e-4)  # (1 − β₁) · 1


def test_two_steps_are_those_of_the_formula_with_its_own_knobs() -> None:
    """m ← β₁m + (1 − β₁)g and v ← β₂v + (1 − β₂)g², each over 1 − βᵗ; the step is m̂ / (√v̂ + ε)."""
    beta1, beta2, eps, first, second = 0.5, 0.2, 0.3, 1.0, 4.0
    parameter = torch.nn.Parameter(torch.zeros(1, 1))
    stepper = AdamW(lr=0.1, beta1=beta1, beta2=beta2, eps=eps, clip=0).begin([{"params": [parameter]}])
    for gradient in (first, second):
        parameter.grad = torch.tensor([[gradient]])
        stepper.step(1.0, lambda: None)
    mean = (beta1 * (1 - beta1) * first + (1 - beta1) * second) / (1 - beta1**2)
    square = (beta2 * (1 - beta2) * first**2 + (1 - beta2) * second**2) / (1 - beta2**2)
    moved = -0.1 * (first / (first + eps) + mean / (square**0.5 + eps))
    assert torch.allclose(parameter, torch.tensor([[moved]]), rtol=1e-5)


def test_without_a_word_it_is_torchs_own_with_a_norm_of_one_at_most() -> None:
    usual, knobs = inspect.signature(torch.optim.AdamW).parameters, AdamW()
    assert (knobs.beta1, knobs.beta2) == usual["betas"].default and knobs.eps == usual["eps"].default
    assert knobs.clip == 1 and knobs.weight_decay == 0
