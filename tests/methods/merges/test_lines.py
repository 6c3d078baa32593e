"""LiNeS (arXiv:2410.17146): the scale of every depth, its limits, and what it stands on."""

import re

import pytest
import torch

from workbench.methods.contracts import Slot
from workbench.methods.merges.lines import LiNeS

LAYERS = 5
BLOCKS = [Slot(f"model.layers.{layer}.mlp.up_proj.weight", layer / (LAYERS - 1), layer, LAYERS) for layer in range(LAYERS)]
OUTSIDE = [Slot(name, None, None, LAYERS) for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")]
torch.manual_seed(0)
BASE, A, B = torch.randn(3, 6, 4)


def scale(merge: LiNeS, slot: Slot) -> float:
    """λ as measured on the result."""
    return float(((merge.tensor(slot, BASE, [A], [1]) - BASE) / (A - BASE)).mean())


def test_the_scale_grows_linearly_with_depth() -> None:
    merge = LiNeS(alpha=0.1, beta=0.6)
    assert [scale(merge, slot) for slot in BLOCKS] == pytest.approx([0.1, 0.25, 0.4, 0.55, 0.7], abs=1e-5)
    assert [merge.explain(slot, BASE, [A], [1])["scale"] for slot in BLOCKS] == pytest.approx([0.1, 0.25, 0.4, 0.55, 0.7])


def test_what_lies_outside_the_blocks_gets_alpha_or_by_choice_the_last_scale() -> None:
    assert [LiNeS().explain(slot, BASE, [A], [1])["scale"] for slot in OUTSIDE] == [0.2, 0.2, 0.2]
    last = LiNeS(head_rule="last")
    assert [last.explain(slot, BASE, [A], [1])["scale"] for slot in OUTSIDE] == [0.2, 1.0, 1.0]
    for name in ("transformer.ln_f.weight", "model.final_layer_norm.bias", "embed_out.weight", "norm.weight"):
        assert last.explain(Slot(name, None, None, 5), BASE, [A], [1])["scale"] == 1.0
    assert last.explain(Slot("model.embed_norm.weight", None, None, 5), BASE, [A], [1])["scale"] == 0.2
    assert scale(last, BLOCKS[0]) == pytest.approx(0.2, abs=1e-5), "the rule is not for blocks"


def test_its_limits() -> None:
    everything, shallow = LiNeS(alpha=1, beta=0), LiNeS(alpha=0, beta=1)
    for slot in BLOCKS + OUTSIDE:
        assert torch.equal(everything.tensor(slot, BASE, [A], [1]), A)
        assert torch.equal(LiNeS().tensor(slot, BASE, [BASE, BASE], [1, 0.3]), BASE)
    assert all(torch.equal(shallow.tensor(slot, BASE, [A], [1]), BASE) for slot in [BLOCKS[0], *OUTSIDE])
    assert torch.equal(shallow.tensor(BLOCKS[-1], BASE, [A], [1]), A)


def test_several_models_are_summed_before_they_are_scaled() -> None:
    merge = LiNeS(alpha=0.1, beta=0.6)
    for slot, factor in zip(BLOCKS, [0.1, 0.25, 0.4, 0.55, 0.7], strict=True):
        expected = BASE.double() + factor * (0.5 * (A.double() - BASE.double()) - 2 * (B.double() - BASE.double()))
        assert torch.allclose(merge.tensor(slot, BASE, [A, B], [0.5, -2]), expected.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("weight", [1.0, 0.5, -2.0])
def test_the_norms_make_the_first_scale_the_authors_ratio(weight: float) -> None:
    """α = (‖Σ τᵢ‖₁ / ‖τ_merged‖₁) / M, here computed from the vectors; β goes on top as ever."""
    merge, models = LiNeS(alpha_rule="norms", alpha=0.9, beta=0.6), torch.randn(3, 6, 4)
    tasks = [model.double() - BASE.double() for model in models]
    merged = sum(weight * task for task in tasks)
    alpha = float(sum(tasks).norm(p=1) / merged.norm(p=1)) / len(models)
    for slot, more in [*zip(BLOCKS, [0, 0.15, 0.3, 0.45, 0.6], strict=True), (OUTSIDE[0], 0)]:
        told = merge.explain(slot, BASE, list(models), [weight] * 3)["scale"]
        assert told == pytest.approx(alpha + more)
        expected = BASE.double() + told * merged
        assert torch.allclose(merge.tensor(slot, BASE, list(models), [weight] * 3), expected.float(), rtol=1e-6, atol=1e-6)


def test_norms_that_would_have_to_be_read_are_refused() -> None:
    for weights in ([1.0, 0.5], [0.0, 0.0]):
        assert "Set all weights to 1" in LiNeS(alpha_rule="norms").mistakes(weights)[0] and LiNeS().mistakes(weights) == []
    assert LiNeS(alpha_rule="norms").mistakes([0.5, 0.5]) == []


def test_it_is_linear_in_the_task_vector_and_scales_its_norm() -> None:
    merge = LiNeS()
    for slot in BLOCKS + OUTSIDE:
        told = merge.explain(slot, BASE, [A], [1])
        moved = merge.tensor(slot, BASE, [A], [1]) - BASE
        assert told["norm"] == pytest.approx(float((A - BASE).norm()), rel=1e-6)
        assert float(moved.norm()) == pytest.approx(told["scale"] * told["norm"], rel=1e-5)
        assert told["relative"] == pytest.approx(told["norm"] / float(BASE.norm()), rel=1e-6)
        twice = merge.tensor(slot, BASE, [BASE + 2 * (A - BASE)], [1]) - BASE
        assert torch.allclose(twice, 2 * moved, atol=1e-5)


def test_the_docstring_says_where_its_claims_come_from() -> None:
    assert {"[R]", "[P]", "[D]", "[O]"} == set(re.findall(r"\[[RPDO]\]", LiNeS.doc()))
