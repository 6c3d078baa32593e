"""RDS+: each row of the target takes its nearest in turn, every kind gets as much as any other, and reasons can be checked."""

import re

import pytest
import torch
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.rds_plus import RdsPlus


def around(pool: list[list[float]], target: list[list[float]]) -> tuple[list[Example], Given]:
    rows, wanted = ([Example(text=f"{kind} {place}") for place in range(len(of))] for kind, of in (("row", pool), ("target", target)))
    vectors = {row.text: vector for row, vector in zip([*rows, *wanted], [*pool, *target], strict=True)}
    return rows, Given(sets={"exam": wanted}, vectors=vectors)


def chosen(pool: list[list[float]], target: list[list[float]], share: float) -> Selection:
    rows, given = around(pool, target)
    return drain(RdsPlus(target="exam", share=share).keep(rows, given))


def test_each_row_of_the_target_takes_its_nearest_in_turn() -> None:
    """The second target is nearest to row 0 too, which the first has taken, and so takes row 1."""
    pool = [[1.0, 0.0], [0.9, 0.3], [0.0, 1.0], [-1.0, 0.0]]
    found = chosen(pool, [[1.0, 0.0], [1.0, 0.01]], 0.5)
    assert found.kept == [True, True, False, False] and found.cuts == ()
    assert found.reasons == {
        2: "is most like row 2 of exam, at 0.010, which took rows down to 0.952",
        3: "is most like row 2 of exam, at -1.000, which took rows down to 0.952",
    }
    assert torch.tensor(found.scores).tolist() == pytest.approx([1, 0.9519, 0.01, -0.99995], abs=1e-3)


def test_every_kind_gets_as_much_as_any_other() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.eye(4)
    pool = [centres[kind] + 0.1 * torch.randn(4, generator=draw) for kind in range(4) for _ in range(100 if kind == 0 else 20)]
    found = chosen([row.tolist() for row in pool], centres.tolist(), 40 / 160)
    assert [sum(found.kept[start:stop]) for start, stop in ((0, 100), (100, 120), (120, 140), (140, 160))] == [10] * 4


def test_reasons_can_be_checked() -> None:
    """A dropped row is no more like the row of the target that is named than the last that was taken for it."""
    draw = torch.Generator().manual_seed(1)
    found = chosen(torch.randn(80, 3, generator=draw).tolist(), torch.randn(6, 3, generator=draw).tolist(), 0.25)
    assert sum(found.kept) == 20
    for reason in found.reasons.values():
        alike, last = map(float, re.findall(r"(?:at|down to) (-?[\d.]+)", reason))
        assert alike <= last


def test_a_target_with_more_rows_than_are_wanted_is_served_up_to_there() -> None:
    found = chosen([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]], [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], 1 / 3)
    assert found.kept == [False, True, False] and found.reasons[0].endswith("is most like row 2 of exam, at 1.000, which had no turn")


def test_the_order_of_the_rows_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(2)
    pool, target, order = torch.randn(50, 3, generator=draw), torch.randn(4, 3, generator=draw).tolist(), torch.randperm(50)
    plain, mixed = chosen(pool.tolist(), target, 0.2).kept, chosen(pool[order].tolist(), target, 0.2).kept
    assert [plain[place] for place in order.tolist()] == mixed


def test_no_rows_no_target_and_the_model_it_reads_with() -> None:
    rows, given = around([[1.0, 0.0]], [[0.0, 1.0]])
    assert drain(RdsPlus(target="exam").keep([], given)).kept == [] and drain(RdsPlus(target="exam").keep(rows, given)).kept == [True]
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(RdsPlus().keep(rows, given))
    assert RdsPlus(target="exam", model="base").reader() == "base" and RdsPlus().reader() == "" and RdsPlus(target="e").others() == ["e"]


def test_it_asks_for_the_vectors_that_it_is_told_to() -> None:
    rows = [Example(text=f"row {place}") for place in range(3)]
    around = Hearing({"exam": rows[:2]})
    drain(RdsPlus(target="exam", model="base", text="answer").keep(rows, around))
    assert around.vectors_of == [("base", "weighted", "answer")] * 2
