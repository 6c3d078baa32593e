"""Masked Thought (arXiv:2403.02178): how much is hidden when, and by what."""

import pytest
import torch
from torch import Tensor, nn

from workbench.methods.contracts import Showing
from workbench.methods.noises.masked_thought import MaskedThought

SPECIAL = [0, 3, 17]
VOCABULARY = 20


def showing(share: float, seed: int = 0) -> Showing:
    return Showing(share, nn.Embedding(VOCABULARY, 4), SPECIAL, torch.Generator().manual_seed(seed))


def rows() -> dict[str, Tensor]:
    """(8, 500) tokens, each a special one, which is never put in: so whatever was hidden can be told. The first 100 are a prompt."""
    ids = torch.full((8, 500), SPECIAL[1])
    labels = ids.clone()
    labels[:, :100] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "rows": torch.arange(8)[:, None].expand(8, 500)}


def hidden(method: MaskedThought, share: float) -> float:
    """The share of the answers' tokens that are hidden."""
    given = rows()
    shown = method.disturb(given, showing(share))["input_ids"]
    return (shown != given["input_ids"])[:, 100:].float().mean().item()


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.0), (0.1, 0.06), (1 / 3, 0.2), (2 / 3, 0.4), (0.9, 0.4), (1.0, 0.4)], ids=lambda value: f"{value:.2f}"
)
def test_hiding_rises_in_the_first_two_thirds_and_stays(share: float, expected: float) -> None:
    sigma = (expected * (1 - expected) / 3200) ** 0.5
    assert abs(hidden(MaskedThought(), share) - expected) <= 3 * sigma


def test_the_schedule_has_its_knobs() -> None:
    assert hidden(MaskedThought(most=1.0, warmup=0.25), 0.25) == 1
    assert 0.47 < hidden(MaskedThought(most=1.0, warmup=1.0), 0.5) < 0.53


def test_any_token_but_a_special_one_is_put_in() -> None:
    shown = MaskedThought(most=1.0).disturb(rows(), showing(1.0))["input_ids"][:, 100:]
    counts = torch.bincount(shown.flatten(), minlength=VOCABULARY)
    assert counts[SPECIAL].sum() == 0
    usable = [token for token in range(VOCABULARY) if token not in SPECIAL]
    expected = 3200 / len(usable)
    assert ((counts[usable] - expected).abs() < 4 * expected**0.5).all()


def test_each_step_hides_others() -> None:
    method, given = MaskedThought(), rows()
    first, second = (method.disturb(given, showing(1.0, seed))["input_ids"] for seed in (1, 2))
    agree = ((first != given["input_ids"]) == (second != given["input_ids"]))[:, 100:].float().mean().item()
    assert agree == pytest.approx(0.4**2 + 0.6**2, abs=0.03), "as often as chance would have it"
