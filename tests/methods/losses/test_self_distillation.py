"""Self-distillation (arXiv:2309.17134): trust is 1 over the label's rank under the base, and the KL is taken at a temperature."""

import pytest
import torch
from torch import Tensor

from workbench.methods.losses.self_distillation import SelfDistillation


def table(seed: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.double).mul(3).log_softmax(-1)


def ranked(base: Tensor, rank: int) -> Tensor:
    """The label that stands at this rank in each row."""
    return base.argsort(-1, descending=True)[:, rank - 1]


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (3, 1 / 3), (10, 0.1), (11, 0.0), (30, 0.0)])
def test_trust_is_the_reciprocal_rank_up_to_k(rank: int, expected: float) -> None:
    base = table(0, rows=4)
    assert SelfDistillation(top=10).trust(base, ranked(base, rank)).tolist() == pytest.approx([expected] * 4)


def test_what_is_as_likely_as_the_label_does_not_stand_before_it() -> None:
    base = torch.tensor([[0.4, 0.2, 0.2, 0.2]]).log()
    assert all(SelfDistillation().trust(base, torch.tensor([label])).item() == pytest.approx(1 / 2) for label in (1, 2, 3))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_the_term_is_the_kl_between_softened_distributions(temperature: float) -> None:
    base, model = torch.randn(2, 30, dtype=torch.double, generator=torch.Generator().manual_seed(3)) * 3
    label = ranked(base[None], 2)
    soft_base, soft = (base / temperature).softmax(-1), (model / temperature).softmax(-1)
    expected = 0.5 * 1.5 * temperature**2 * (soft_base * (soft_base / soft).log()).sum()
    method = SelfDistillation(temperature=temperature, strength=1.5)
    ours = method.penalty(model.log_softmax(-1)[None], base.log_softmax(-1)[None], label)
    assert ours.item() == pytest.approx(expected.item())


def test_it_teaches_nothing_where_model_and_base_agree_or_the_label_is_far_down() -> None:
    base, model = table(0), table(1)
    assert SelfDistillation().penalty(base, base, ranked(base, 1)).item() == pytest.approx(0, abs=1e-12)
    assert SelfDistillation(top=4).penalty(model, base, ranked(base, 5)).item() == 0
    assert SelfDistillation(top=5).penalty(model, base, ranked(base, 5)).item() > 0


def test_it_pulls_towards_the_base() -> None:
    base, label = table(0), ranked(table(0), 1)
    logits = table(1).clone().requires_grad_()
    apart = []
    for _ in range(20):
        distance = SelfDistillation(temperature=1.0).penalty(logits.log_softmax(-1), base, label).sum()
        apart.append(distance.item())
        (gradient,) = torch.autograd.grad(distance, logits)
        logits = (logits - 0.5 * gradient).detach().requires_grad_()
    assert apart == sorted(apart, reverse=True) and apart[-1] < apart[0] / 2


def test_the_anchor_adds_its_own_term() -> None:
    base, model, label = table(0), table(1), ranked(table(0), 2)
    plain, alone, both = (
        SelfDistillation(**knobs).penalty(model, base, label) for knobs in ({}, {"strength": 0.0, "anchor": 0.3}, {"anchor": 0.3})
    )
    assert alone.item() == pytest.approx(0.3 * (base.exp() * (base - model)).sum().item())
    assert both.item() == pytest.approx((plain + alone).item())


def test_without_strength_the_base_is_read_only_for_the_anchor() -> None:
    assert SelfDistillation().needs_base() and "of the base" in SelfDistillation().costs()
    off, anchored = SelfDistillation(strength=0.0), SelfDistillation(strength=0.0, anchor=0.1)
    assert not off.needs_base() and off.costs() == ""
    assert anchored.needs_base() and "anchor" in anchored.costs()
