"""k-center: one row of each far place, no row left farther than the line, and the reason names the nearest that stays."""

import math

import torch
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.k_center import KCenter

ROWS = [Example(text=f"row {number}", source="rows.csv", line=100 + number) for number in range(30)]
NOISE = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
VECTORS = torch.nn.functional.normalize(torch.eye(3)[torch.tensor([0] * 20 + [1] * 9 + [2])] + 0.05 * NOISE, dim=-1)
AROUND = Given(vectors={row.text: vector.tolist() for row, vector in zip(ROWS, VECTORS, strict=True)})


def test_each_far_place_has_a_row_that_stays() -> None:
    found = drain(KCenter(share=0.1).keep(ROWS, AROUND))
    places = [0 if row < 20 else 1 if row < 29 else 2 for row, stays in enumerate(found.kept) if stays]
    assert places == [0, 1, 2], "one of the many, one of the few, and the odd one"


def test_the_line_parts_what_stays_from_what_goes() -> None:
    found = drain(KCenter(share=0.3).keep(ROWS, AROUND))
    kept = [row for row, stays in enumerate(found.kept) if stays]
    assert len(kept) == 9 and sorted(found.reasons) == [row for row in range(30) if row not in kept]
    assert sum(map(math.isnan, found.scores)) == 1, "the first that stays has none before it"
    for row, score in enumerate(found.scores):
        assert math.isnan(score) or (score > found.cuts[0]) == found.kept[row]
    last, first = (
        min(found.scores[row] for row in kept if not math.isnan(found.scores[row])),
        max(found.scores[row] for row in found.reasons),
    )
    assert math.isclose(found.cuts[0], (last + first) / 2) and last > first, "half-way between the two"
    for row in found.reasons:
        nearest = max(kept, key=lambda other: VECTORS[row] @ VECTORS[other])
        assert math.isclose(found.scores[row], 1 - VECTORS[row] @ VECTORS[nearest], abs_tol=1e-6)
        assert found.reasons[row].endswith(f"from line {100 + nearest} of rows.csv, which stays (1 − cosine); the 9 farthest stay")


def test_one_row_and_all_rows() -> None:
    assert drain(KCenter().keep(ROWS[:1], AROUND)).kept == [True]
    found = drain(KCenter(share=1).keep(ROWS, AROUND))
    assert all(found.kept) and found.cuts == () and not found.reasons
