"""LESS: directions count and lengths do not, each kind of the target finds its own, and both sides are asked for as they must be."""

import math

import pytest
import torch
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.less import Less


def chosen(pool: list[list[float]], target: list[list[float]], kinds: list[object] = (), **knobs: object) -> Selection:
    rows = [Example(text=f"row {place}") for place in range(len(pool))]
    kinds = kinds or [None] * len(target)
    wanted = [Example(text=f"target {place}", meta={"kind": kind}) for place, kind in enumerate(kinds)]
    given = {row.text: gradient for row, gradient in zip([*rows, *wanted], [*pool, *target], strict=True)}
    return drain(Less(target="exam", **knobs).keep(rows, Given(sets={"exam": wanted}, gradients=given)))


def test_a_score_is_the_mean_cosine_with_the_targets_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    pool, target = torch.randn(20, 6, generator=draw), torch.randn(5, 6, generator=draw)
    found = chosen(pool.tolist(), target.tolist(), share=0.25)
    expected = torch.nn.functional.cosine_similarity(pool[:, None], target[None], dim=2).mean(1)
    assert torch.allclose(torch.tensor(found.scores), expected, atol=1e-5)
    assert [place for place, kept in enumerate(found.kept) if kept] == sorted(expected.topk(5).indices.tolist())
    assert all(reason.startswith("agreement with exam: ") and reason.endswith("; the 5 highest stay") for reason in found.reasons.values())
    assert found.what == "agreement with exam" and len(found.cuts) == 1


def test_how_long_a_gradient_is_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(1)
    pool, target = torch.randn(20, 6, generator=draw), torch.randn(5, 6, generator=draw)
    scales, more = torch.rand(20, 1, generator=draw) * 50 + 0.01, torch.rand(5, 1, generator=draw) * 50 + 0.01
    plain, scaled = chosen(pool.tolist(), target.tolist()), chosen((scales * pool).tolist(), (more * target).tolist())
    assert torch.allclose(torch.tensor(plain.scores), torch.tensor(scaled.scores), atol=1e-5) and plain.kept == scaled.kept


def test_each_kind_finds_its_own() -> None:
    """Nine rows of the target of one kind and one of another: together the first kind decides, by kinds both are served."""
    target = [[1.0, 0.1 * place, 0.0] for place in range(9)] + [[0.0, 0.0, 1.0]]
    pool = [[1.0, 0.4, 0.0], [1.0, 0.5, 0.1], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert chosen(pool, target, share=0.5).kept == [True, True, False, False]
    found = chosen(pool, target, ["sums"] * 9 + ["rhymes"], share=0.5, column="kind")
    assert found.kept == [True, False, True, False] and found.scores[2] == pytest.approx(1)
    assert found.reasons[1].endswith("; the 2 highest stay; most with 'sums'") and found.reasons[3].endswith("most with 'sums'")
    alone = chosen(pool, target[:9], share=0.5)
    assert found.scores[0] == pytest.approx(alone.scores[0]), "the score of a kind is that of the kind alone"


def test_rows_without_a_kind_are_one_of_their_own_and_an_unknown_column_is_a_sentence() -> None:
    pool, target = [[1.0, 0.0], [0.0, 1.0], [0.7, -0.7]], [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
    found = chosen(pool, target, ["a", None, " "], share=0.67, column="kind")
    assert found.kept == [True, True, False] and found.scores[:2] == pytest.approx([1, 0.9])
    assert chosen(pool, target, [0, 1, 1], column="kind").scores == chosen(pool, target, ["0", "1", "1"], column="kind").scores
    assert chosen(pool, target, [0, None, 0], column="kind").scores == chosen(pool, target, ["a", "", "a"], column="kind").scores
    with pytest.raises(WorkbenchError, match=r"^No row of the target has a column 'sort'.* There are: kind\.$"):
        chosen([[1.0]], [[1.0]], ["a"], column="sort")


def test_rows_without_a_gradient_go_and_those_of_the_target_do_not_count() -> None:
    none = [math.nan, math.nan]
    found = chosen([[0.0, 1.0], none, [0.0, 0.0], [1.0, 0.0]], [none, [1.0, 0.0]], ["a", "b"], share=1, column="kind")
    assert found.kept == [True, False, True, True] and found.scores[3] == pytest.approx(1) and found.scores[2] == 0
    assert found.reasons == {1: "agreement with exam: there is none"}
    with pytest.raises(WorkbenchError, match=r"^Nothing is learnt of any row of the target"):
        chosen([[1.0, 0.0]], [none])


def test_pool_and_target_are_read_after_the_same_warm_up_and_the_pool_as_adam_steps() -> None:
    rows = [Example(text=f"row {place}") for place in range(50)]
    around = Hearing({"exam": rows[:2]})
    drain(Less(target="exam", model="base", seed=3).keep(rows, around))
    assert around.gradients_of == [("base", 32, False, 3), ("base", 32, True, 3)]


def test_no_rows_one_row_and_no_target() -> None:
    assert chosen([], [[1.0]]).kept == [] and chosen([[-1.0]], [[1.0]]).kept == [True]
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(Less().keep([Example(text="a")], Given(sets={})))
    assert Less(model="base").reader() == "base" and Less(target="e").others() == ["e"] and Less().others() == []
