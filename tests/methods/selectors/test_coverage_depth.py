"""Coverage and depth: every cell keeps its deepest rows, and the map is covered at least as well as by the deepest rows alone."""

import math
from collections import Counter

import pytest
import torch
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.materials.terrain import cells, coverage, flat, quotas
from workbench.methods.selectors.coverage_depth import CoverageDepth

DRAW = torch.Generator().manual_seed(0)
ROWS = [Example(({"role": "user", "content": "Tell me."}, {"role": "assistant", "content": f"row {number}"})) for number in range(120)]
VECTORS = torch.nn.functional.normalize(torch.randn(120, 6, generator=DRAW).exp(), dim=-1)
DEPTHS = torch.rand(120, generator=DRAW).mul(50).add(1).tolist()


def around(depths: list[float], alone: float = 1000.0) -> Given:
    names = [row.as_text() for row in ROWS]
    surprise = {name: [depth, 0.0 if math.isnan(depth) else 4.0] for name, depth in zip(names, depths, strict=True)}
    return Given(vectors=dict(zip(names, VECTORS.tolist(), strict=True)), surprise=surprise, alone={name: [alone, 4.0] for name in names})


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_each_cell_keeps_its_deepest(alpha: float) -> None:
    found, where = drain(CoverageDepth(share=0.3, alpha=alpha).keep(ROWS, around(DEPTHS))), cells(flat(VECTORS), 3)
    assert sum(found.kept) == 36 and list(found.scores) == pytest.approx(DEPTHS, rel=1e-6)
    for cell in where.unique():
        depths = [(DEPTHS[row], found.kept[row]) for row in range(120) if where[row] == cell]
        kept = [depth for depth, stays in depths if stays]
        assert kept and min(kept) > max((depth for depth, stays in depths if not stays), default=0)
    assert coverage(torch.tensor(found.kept), where) == 1
    sizes = where.bincount().tolist()
    assert where[found.kept].bincount().tolist() == quotas(sizes, 36, alpha) and quotas(sizes, 36, 0) != quotas(sizes, 36, 1)


def test_it_covers_at_least_what_the_deepest_rows_cover() -> None:
    for grid, share in ((3, 0.05), (6, 0.1), (10, 0.2)):
        where = cells(flat(VECTORS), grid)
        kept = torch.tensor(drain(CoverageDepth(share=share, grid=grid).keep(ROWS, around(DEPTHS))).kept)
        deepest = torch.zeros(120, dtype=torch.bool).index_fill(0, torch.tensor(DEPTHS).topk(int(kept.sum())).indices, True)
        assert coverage(kept, where) >= coverage(deepest, where)
        assert coverage(kept, where) == min(1, int(kept.sum()) / len(where.unique()))


def test_equal_depths_at_alpha_0_keep_as_many_of_each_cell_and_the_first_of_equals() -> None:
    found, where = drain(CoverageDepth(share=0.2, alpha=0, grid=2).keep(ROWS, around([3.0] * 120))), cells(flat(VECTORS), 2).tolist()
    assert Counter(cell for cell, stays in zip(where, found.kept, strict=True) if stays) == dict.fromkeys(range(4), 6)
    first = sorted(row for cell in range(4) for row in [row for row in range(120) if where[row] == cell][:6])
    assert [row for row, stays in enumerate(found.kept) if stays] == first


def test_to_deepen_a_row_never_drops_it() -> None:
    kept = drain(CoverageDepth(share=0.1).keep(ROWS, around(DEPTHS))).kept
    for row in [row for row in range(120) if kept[row]][:5]:
        deeper = [depth + 9 * (place == row) for place, depth in enumerate(DEPTHS)]
        assert drain(CoverageDepth(share=0.1).keep(ROWS, around(deeper))).kept[row]


def test_a_question_that_does_not_help_leaves_no_depth() -> None:
    found = drain(CoverageDepth(share=0.1).keep(ROWS, around(DEPTHS, alone=25.0)))
    assert [score == 0 for score in found.scores] == [torch.tensor(depth) >= 25 for depth in DEPTHS]
    whole = drain(CoverageDepth(share=0.1, aligned=False).keep(ROWS, around(DEPTHS, alone=25.0)))
    assert whole.scores == drain(CoverageDepth(share=0.1).keep(ROWS, around(DEPTHS))).scores
    plain = [Example(text=f"plain {number}") for number in range(9)]
    told = {row.text: [30.0, 4.0] for row in plain}
    assert set(drain(CoverageDepth().keep(plain, Given(surprise=told, alone=told))).scores) == {30.0}, "it asks nothing"
    asked = {row.as_text(): [30.0, 4.0] for row in ROWS}
    assert set(drain(CoverageDepth().keep(ROWS, Given(surprise=asked, alone=asked))).scores) == {0.0}, "it helps as little as none"


def test_a_row_of_which_nothing_is_learnt_never_stays_and_every_reason_tells() -> None:
    depths = [math.nan if row % 2 else depth for row, depth in enumerate(DEPTHS)]
    found = drain(CoverageDepth(share=0.9, grid=4).keep(ROWS, around(depths)))
    assert found.kept == [row % 2 == 0 for row in range(120)]
    assert found.reasons[1] == "depth in nats: there is none, because nothing of it is learnt" and math.isnan(found.scores[1])
    found, where = drain(CoverageDepth(share=0.02, grid=2).keep(ROWS, around(DEPTHS))), cells(flat(VECTORS), 2).tolist()
    assert sum(found.kept) == 2
    for row, reason in found.reasons.items():
        left = sum(stays for stays, cell in zip(found.kept, where, strict=True) if cell == where[row])
        assert (
            reason == f"depth in nats: {DEPTHS[row]:.3g}; its place on the map keeps the deepest {left} of {where.count(where[row])} rows"
        )


def test_a_row_that_is_cut_has_no_depth_and_never_leads() -> None:
    given = around([1000.0, *DEPTHS[1:]])
    given.surprises[True][ROWS[0].as_text()] = [900.0, 9.0]  # type: ignore[index]
    found = drain(CoverageDepth(share=0.9).keep(ROWS, given))
    assert math.isnan(found.scores[0]) and not found.kept[0] and sum(map(math.isnan, found.scores)) == 1
    assert found.reasons[0] == "depth in nats: there is none, because its answer is not read to the end together with its question"
    assert drain(CoverageDepth(share=0.9, aligned=False).keep(ROWS, given)).kept[0], "without an IFD it is as deep as it is"


def test_it_reads_each_row_three_times() -> None:
    assert CoverageDepth.passes == 3 and CoverageDepth(model="pocket").reader() == "pocket"
