"""GOT-D: planted rows of the target's kind are found, rows help or hurt around 0, and the order of rows does not matter."""

import pytest
import torch
from surroundings import Given, Hearing
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors import got_d
from workbench.methods.selectors.got_d import GotD

DRAW = torch.Generator().manual_seed(0)
TARGET = torch.randn(100, 64, generator=DRAW)
NEAR, FAR = torch.randn(40, 64, generator=DRAW), torch.randn(360, 64, generator=DRAW) + 1.5
POOL = torch.cat([NEAR, FAR])


def chosen(pool: Tensor, target: Tensor, **knobs: object) -> Selection:
    rows, wanted = ([Example(text=f"{kind} {place}") for place in range(len(of))] for kind, of in (("row", pool), ("target", target)))
    vectors = {row.text: vector.tolist() for row, vector in zip([*rows, *wanted], [*pool, *target], strict=True)}
    return drain(GotD(target="exam", **knobs).keep(rows, Given(sets={"exam": wanted}, vectors=vectors)))


def test_rows_of_the_targets_kind_are_found() -> None:
    found = chosen(POOL, TARGET, share=0.1)
    assert found.kept == [True] * 40 + [False] * 360
    assert found.reasons[399].startswith("cost that its weight adds: ") and found.reasons[399].endswith("; the 40 lowest stay")


def test_rows_help_on_one_side_of_0_and_hurt_on_the_other() -> None:
    found = chosen(POOL, TARGET, share=0.1)
    line, zero = found.cuts
    scores = torch.tensor(found.scores)
    assert zero == 0 and line < 0 and abs(float(scores.mean())) < 1e-4
    assert (scores[:40] < 0).all() and (scores[40:] > 0).float().mean() > 0.8
    assert all(stays == (score < line) for stays, score in zip(found.kept, found.scores, strict=True))


def test_what_the_set_lacks_of_the_target_goes_first() -> None:
    """Two kinds in the target alike, 90 rows of one here and 10 of the other: those are taken, though both are as near."""
    one, other = torch.eye(8)[:2]
    pool, target = (
        torch.cat([one + 0.2 * torch.randn(first, 8, generator=DRAW), other + 0.2 * torch.randn(second, 8, generator=DRAW)])
        for first, second in ((90, 10), (20, 20))
    )
    assert chosen(pool, target, share=0.1).kept == [False] * 90 + [True] * 10


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = torch.randperm(400, generator=DRAW)
    plain, mixed = torch.tensor(chosen(POOL, TARGET).scores), torch.tensor(chosen(POOL[order], TARGET).scores)
    assert torch.allclose(plain[order], mixed, atol=1e-5)


def test_of_a_large_target_some_rows_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(got_d, "TARGETS", 20)
    few = [chosen(POOL, TARGET, seed=seed).scores for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    drawn = GotD(seed=5)._drawn([Example(text=str(place)) for place in range(100)])
    places = [int(row.text) for row in drawn]
    assert len(set(places)) == 20 and places == sorted(places) != list(range(20))
    assert len(GotD()._drawn([Example(text="")] * 20)) == 20


def test_no_rows_one_row_and_no_target() -> None:
    assert chosen(POOL[:0], TARGET).kept == []
    found = chosen(POOL[:1], TARGET)
    assert found.kept == [True] and found.cuts == (0.0,)
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(GotD().keep([Example(text="a")], Given(sets={})))
    assert GotD(target="exam", model="base").reader() == "base" and GotD(target="exam").others() == ["exam"] and GotD().others() == []


def test_it_asks_for_the_vectors_that_it_is_told_to() -> None:
    rows = [Example(text=f"row {place}") for place in range(3)]
    around = Hearing({"exam": rows[:2]})
    drain(GotD(target="exam", model="base", text="answer").keep(rows, around))
    assert around.vectors_of == [("base", "mean", "answer")] * 2
