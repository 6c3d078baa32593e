"""CLAIR: the merged factors are the formula's dense change, with outsiders and without, and what it cannot weigh is said."""

import pytest
import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import Factors
from workbench.materials.subspace import shared
from workbench.methods.contracts import Slot
from workbench.methods.merges.clair import Clair

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
OUT, INTO, RANK = 24, 16, 2
NOTHING = Factors(torch.zeros(OUT, 0).double(), torch.zeros(0, INTO).double())


def group(count: int, strangers: tuple[int, ...] = ()) -> tuple[list[Factors], Tensor]:
    """Adapters that write into one subspace, but for the strangers, and the projector on it."""
    torch.manual_seed(3)
    basis = torch.linalg.qr(torch.randn(OUT, RANK).double()).Q
    inside = [basis @ torch.randn(RANK, RANK).double() for _ in range(count)]
    lefts = [torch.randn(OUT, RANK).double() if place in strangers else left for place, left in enumerate(inside)]
    return [Factors(left, torch.randn(RANK, INTO).double()) for left in lefts], basis @ basis.T


def dense(change: Factors) -> Tensor:
    return change.left @ change.right


def mean(changes: list[Factors], weights: list[float]) -> Tensor:
    total = sum(weights)
    return sum((weight / total * dense(change) for change, weight in zip(changes, weights, strict=True)), torch.zeros(OUT, INTO).double())


def merged(changes: list[Factors], weights: list[float], **knobs: object) -> tuple[Tensor, dict[str, float]]:
    change, told = Clair(**knobs).factors(SLOT, changes, weights)
    return dense(change), told


@pytest.mark.parametrize("refine", [True, False])
def test_where_nobody_is_outside_it_is_the_weighted_mean(refine: bool) -> None:
    changes, _ = group(5)
    weights = [1.0, 2.0, 0.5, 1.0, 3.0]
    found, told = merged(changes, weights, refine=refine)
    assert torch.allclose(found, mean(changes, weights), atol=1e-12) and told["flagged"] == 0
    assert max(value for name, value in told.items() if name != "flagged") < 1e-5


def test_of_copies_it_is_the_copy() -> None:
    changes, _ = group(1)
    found, told = merged(changes * 4, [1.0, 2.0, 3.0, 4.0])
    assert torch.allclose(found, dense(changes[0]), atol=1e-12) and max(told.values()) < 1e-7


def test_an_outsider_keeps_its_part_inside_and_takes_the_rest_from_the_others() -> None:
    changes, onto = group(7, (2,))
    weights = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]
    found, told = merged(changes, weights)
    others = mean([*changes[:2], *changes[3:]], [*weights[:2], *weights[3:]])
    refined = [dense(change) for change in changes]
    refined[2] = onto @ refined[2] + (torch.eye(OUT).double() - onto) @ others
    expected = sum((weight / sum(weights) * change for weight, change in zip(weights, refined, strict=True)), torch.zeros_like(others))
    assert torch.allclose(found, expected, atol=1e-5) and told["flagged"] == 1 and told["outside 3"] > 0.9
    assert torch.linalg.matrix_rank(found, rtol=1e-6) == RANK, "what the stranger wrote elsewhere is gone"
    assert float((found - mean(changes, weights)).norm()) > 0.1


def test_members_keep_what_they_have_outside() -> None:
    """The formula, with a basis found in noisy members: the outsider's rest is replaced, the members' rests are averaged as they are."""
    changes, _ = group(7, (2,))
    torch.manual_seed(9)
    changes = [Factors(change.left + 0.05 * torch.randn(OUT, RANK).double(), change.right) for change in changes]
    weights = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]
    basis = shared(changes).basis
    onto = basis @ basis.T
    found, told = merged(changes, weights)
    inside = [weight for place, weight in enumerate(weights) if place != 2]
    members = [change for place, change in enumerate(changes) if place != 2]
    expected = onto @ mean(changes, weights) + mean(members, inside) - onto @ mean(members, inside)
    assert torch.allclose(found, expected, atol=1e-12) and told["flagged"] == 1
    assert float((found - onto @ found).norm()) > 0.01


def test_without_refining_an_outsider_is_left_out() -> None:
    changes, _ = group(7, (2, 5))
    found, told = merged(changes, [1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 2.0], refine=False)
    kept = [change for place, change in enumerate(changes) if place not in (2, 5)]
    assert torch.allclose(found, mean(kept, [1.0, 1.0, 1.0, 1.0, 2.0]), atol=1e-12) and told["flagged"] == 2


def test_the_numbers_stand_in_the_order_of_the_models() -> None:
    changes, _ = group(7, (2,))
    _, told = merged(changes, [1.0] * 7)
    assert list(told) == [*(f"outside {number}" for number in range(1, 8)), "flagged"]
    assert [name for name, value in told.items() if value > 0.5] == ["outside 3", "flagged"]


def test_the_threshold_says_who_is_outside() -> None:
    changes, _ = group(7, (2,))
    changes[4] = Factors(torch.cat([changes[4].left, 0.4 * changes[2].left], 1), torch.cat([changes[4].right, changes[2].right]))
    score = merged(changes, [1.0] * 7)[1]["outside 5"]
    assert 0.05 < score < 0.95
    counts = [merged(changes, [1.0] * 7, threshold=threshold)[1]["flagged"] for threshold in (score - 1e-3, score + 1e-3, 1.0)]
    assert counts == [2, 1, 0]
    assert torch.allclose(merged(changes, [1.0] * 7, threshold=1.0)[0], mean(changes, [1.0] * 7), atol=1e-12)


def test_where_as_many_are_outside_as_inside_it_is_the_plain_mean() -> None:
    changes, _ = group(4, (0, 1))
    weights = [1.0, 2.0, 3.0, 4.0]
    _, *scores = sorted(merged(changes, weights)[1][f"outside {number}"] for number in range(1, 5))
    for low, high, plain in ((scores[0], scores[1], True), (scores[1], scores[2], False)):
        for tuned, given in ((changes, weights), ([*changes, NOTHING], [*weights, 1.0])):  # who leaves the matrix alone has no say here
            found, told = merged(tuned, given, threshold=(low + high) / 2)
            assert told["flagged"] == (2 if plain else 1)
            assert torch.allclose(found, mean(tuned, given), atol=1e-9) == plain


def test_of_two_that_change_a_matrix_it_is_the_mean_in_which_the_others_count() -> None:
    changes, _ = group(2, (0,))
    found, told = merged([changes[0], NOTHING, changes[1], NOTHING], [1.0, 2.0, 3.0, 4.0])
    assert torch.allclose(found, 0.1 * dense(changes[0]) + 0.3 * dense(changes[1]), atol=1e-12) and set(told.values()) == {0.0}


def test_who_leaves_the_matrix_alone_is_inside_and_counts_in_the_mean_of_the_others() -> None:
    changes, onto = group(5, (2,))
    found, told = merged([*changes, NOTHING], [1.0] * 6)
    members = sum((dense(changes[place]) for place in (0, 1, 3, 4)), torch.zeros(OUT, INTO).double())
    expected = onto @ (members + dense(changes[2])) / 6 + (torch.eye(OUT).double() - onto) @ members / 5
    assert torch.allclose(found, expected, atol=1e-5) and told["outside 6"] == 0 and told["flagged"] == 1


def test_what_it_cannot_take_is_said() -> None:
    assert Clair().mistakes([1.0, 1.0]) == [
        "CLAIR needs at least 3 tuned models, and the spec names 2. Add models, or choose another method."
    ]
    for weights in ([1.0, 0.0, 1.0], [1.0, -1.0, 2.0]):
        assert Clair().mistakes(weights) == [
            "CLAIR takes a mean over a group, so every weight must be above zero. Raise the others, or leave models out."
        ]
    assert Clair().mistakes([1.0, 0.5, 2.0]) == []
    changes, _ = group(5, (2,))
    with pytest.raises(WorkbenchError, match="the adapters that share the group's subspace have no weight here"):
        merged(changes, [0.0, 0.0, 1.0, 0.0, 0.0])
