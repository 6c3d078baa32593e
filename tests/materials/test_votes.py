"""The shared arithmetic of task vectors: trimming by cuts, the vote, what becomes of those who agree, and lengths given back."""

import pytest
import torch

from workbench.materials.votes import changes, combined, elected, lengths, restoring, told, trimmed, weighted

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0])
STACK = torch.tensor([[4.0, 1.0, -1.0, 2.0, 0.0], [2.0, -3.0, 1.0, 0.0, 0.0], [3.0, -1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
"""Three models at five numbers: all for +, two against one, a draw, one alone, nobody."""


def test_changes_are_exact_and_leave_the_models_alone() -> None:
    tiny = torch.tensor([1.0 + 2**-23, 1.0, 1.0, 1.0, 3.0])
    held = tiny.clone()
    stack = changes(BASE, [tiny, BASE])
    assert stack.dtype == torch.float64 and stack.tolist() == [[2**-23, 0, 0, 0, 2], [0.0] * 5]
    trimmed(BASE, [tiny], [(9.0,)])
    assert torch.equal(tiny, held)


def test_what_is_smaller_than_its_models_cut_is_gone() -> None:
    one, two = BASE + torch.tensor([4.0, 1.0, -2.0, 0.5, 0.0]), BASE + torch.tensor([4.0, 1.0, -2.0, 0.5, 0.0])
    assert trimmed(BASE, [one, two], [(2.0,), (1.0, 9.0)]).tolist() == [[4, 0, -2, 0, 0], [4, 1, -2, 0, 0]]
    for none in (None, ()):
        assert torch.equal(trimmed(BASE, [one, two], none), changes(BASE, [one, two]))


def test_the_size_that_was_ranked_stays_even_where_float32_rounded_it() -> None:
    base, model = torch.tensor([1e-8]), torch.tensor([1.0])
    ranked = (model - base).abs()
    assert float(ranked) != float(model.double() - base.double())
    assert float(trimmed(base, [model], [(float(ranked),)])) == pytest.approx(1.0)


def test_the_vote_by_hand() -> None:
    agree = elected(STACK)
    assert agree.tolist() == [[1, 0, 0, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], "a draw goes to +, and who dropped out does not vote"
    assert elected(weighted(STACK, [4, 1, 1]))[:, 1].tolist() == [1, 0, 0], "4 against −3 − 1 is a draw"
    assert elected(weighted(STACK, [-1, -1, -1]))[:, 0].tolist() == [1, 1, 1]


def test_what_becomes_of_those_who_agree_by_hand() -> None:
    def found(weights: list[float], how: str) -> list[float]:
        stack = weighted(STACK, weights)
        return combined(stack, elected(stack), weights, how).tolist()  # type: ignore[arg-type]

    assert found([1, 1, 1], "sum") == [9, -4, 1, 2, 0]
    assert found([1, 1, 1], "mean") == [3, -2, 1, 2, 0]
    assert found([1, 1, 1], "largest") == [4, -3, 1, 2, 0]
    assert found([2, 1, 1], "mean") == [13 / 4, -2, -1, 2, 0], "the mean is over the weights of those who agree, here −2 + 1 < 0"
    assert found([-1, -1, -1], "mean") == [3, -2, -1, 2, 0], "negative weights fall out of a mean, but a draw goes to the other side"


def test_a_mean_of_weights_that_cancel_is_nothing() -> None:
    stack = weighted(torch.tensor([[1.0], [-1.0]]).double(), [1, -1])
    assert combined(stack, elected(stack), [1, -1], "mean").tolist() == [0.0]


def test_what_is_told_by_hand() -> None:
    assert told(STACK, elected(STACK)) == pytest.approx({"kept": 0.8, "agree": 0.6})
    assert told(0 * STACK, elected(0 * STACK)) == {"kept": 0.0, "agree": 1.0}


def test_lengths_add_up_and_are_given_back() -> None:
    left = STACK * torch.tensor([[1.0, 0, 1, 0, 1], [1, 1, 0, 1, 1], [0, 0, 1, 1, 1]])
    whole = lengths(STACK, left)
    assert whole.tolist() == [[8, 6, 4], [5, 5, 0]]
    parts = [lengths(STACK[:, part], left[:, part]) for part in (slice(0, 2), slice(2, 5))]
    assert torch.equal(sum(parts), whole)
    factors = restoring(whole)
    assert factors.tolist() == pytest.approx([1.6, 1.2, 1.0], rel=1e-7), "nothing is left of the third, and nothing is divided by zero"
    later = whole * torch.tensor([[1 + 2**-50], [1.0]], dtype=torch.float64)
    assert not torch.equal(later, whole) and torch.equal(restoring(later), factors), "the last digits of a sum are not seen"
    assert restoring(torch.zeros(2, 1)).tolist() == [1.0]
    assert lengths(torch.tensor([2.0, -3.0]), torch.zeros(2)).tolist() == [[2, 3], [0, 0]], "a stack of single numbers"
