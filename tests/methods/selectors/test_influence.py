"""First-order influence: mean inner products with their sign, and rows that would make the target worse go first."""

import math

import pytest
import torch
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.influence import Influence


def chosen(pool: list[list[float]], target: list[list[float]], **knobs: object) -> Selection:
    rows, wanted = ([Example(text=f"{kind} {place}") for place in range(len(of))] for kind, of in (("row", pool), ("target", target)))
    given = {row.text: gradient for row, gradient in zip([*rows, *wanted], [*pool, *target], strict=True)}
    return drain(Influence(target="exam", **knobs).keep(rows, Given(sets={"exam": wanted}, gradients=given)))


def test_influence_is_the_mean_inner_product() -> None:
    draw = torch.Generator().manual_seed(0)
    pool, target = torch.randn(20, 6, generator=draw), torch.randn(5, 6, generator=draw)
    found = chosen(pool.tolist(), target.tolist(), share=0.1)
    expected = (pool @ target.T).mean(1)
    assert torch.allclose(torch.tensor(found.scores), expected, atol=1e-5)
    assert [place for place, kept in enumerate(found.kept) if kept] == sorted(expected.topk(2).indices.tolist())


def test_a_row_of_the_target_has_influence_on_itself() -> None:
    draw = torch.Generator().manual_seed(1)
    for row in torch.randn(10, 6, generator=draw).tolist():
        assert chosen([row], [row]).scores[0] == pytest.approx(sum(number**2 for number in row), rel=1e-4)


POOL = [[3.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [1.0, 0.0], [-4.0, 0.0]]


def test_what_harms_goes_even_if_fewer_stay() -> None:
    found = chosen(POOL, [[1.0, 0.0]], share=1)
    assert found.kept == [True, False, True, True, False], "what neither helps nor harms is no harm"
    assert found.reasons == {row: f"influence on exam: {score}; a step on it makes exam worse" for row, score in ((1, -1), (4, -4))}
    assert found.scores == [3, -1, 0, 1, -4] and found.cuts == (0.0,)
    few = chosen(POOL, [[1.0, 0.0]], share=0.2)
    assert few.kept == [True] + [False] * 4 and few.cuts == (2.0, 0.0) and few.reasons[3] == "influence on exam: 1; the 1 highest stay"


def test_what_harms_may_stay_and_is_last() -> None:
    found = chosen(POOL, [[1.0, 0.0]], share=0.8, harmful=False)
    assert found.kept == [True, True, True, True, False] and found.cuts == (-2.5,)
    assert all(chosen(POOL, [[1.0, 0.0]], share=1, harmful=False).kept)


def test_rows_without_a_gradient_go_and_those_of_the_target_do_not_count() -> None:
    none = [math.nan, math.nan]
    found = chosen([[1.0, 1.0], none], [none, [2.0, 0.0]], share=1)
    assert found.scores[0] == 2 and found.kept == [True, False] and found.reasons == {1: "influence on exam: there is none"}
    with pytest.raises(WorkbenchError, match=r"^Nothing is learnt of any row of the target"):
        chosen([[1.0, 0.0]], [none])


def test_it_asks_for_plain_gradients_without_a_warm_up() -> None:
    rows = [Example(text=f"row {place}") for place in range(50)]
    around = Hearing({"exam": rows[:2]})
    drain(Influence(target="exam", model="base", seed=3).keep(rows, around))
    assert around.gradients_of == [("base", 0, False, 3)] * 2


def test_no_rows_one_row_and_no_target() -> None:
    assert chosen([], [[1.0]]).kept == [] and chosen([[2.0]], [[1.0]]).kept == [True] and chosen([[-2.0]], [[1.0]]).kept == [False]
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(Influence().keep([Example(text="a")], Given(sets={})))
    assert Influence(model="base").reader() == "base" and Influence(target="e").others() == ["e"] and Influence().others() == []
