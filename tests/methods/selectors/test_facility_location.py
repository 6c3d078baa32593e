"""Facility location: the largest groups come first, the line parts what stays from what goes, and large sets are counted on a sample."""

import math

import pytest
import torch
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors import facility_location
from workbench.methods.selectors.facility_location import FacilityLocation

ROWS = [Example(text=f"row {number}") for number in range(30)]
NOISE = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
VECTORS = torch.nn.functional.normalize(torch.eye(4)[torch.tensor([0] * 12 + [1] * 10 + [2] * 7 + [3])] + 0.05 * NOISE, dim=-1)
AROUND = Given(vectors={row.text: vector.tolist() for row, vector in zip(ROWS, VECTORS, strict=True)})


def places(kept: list[bool]) -> list[int]:
    return [0 if row < 12 else 1 if row < 22 else 2 if row < 29 else 3 for row, stays in enumerate(kept) if stays]


def test_the_largest_groups_have_a_row_that_stays() -> None:
    found = [places(drain(FacilityLocation(share=share).keep(ROWS, AROUND)).kept) for share in (0.03, 0.07, 0.1, 0.13)]
    assert found == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_the_line_parts_what_stays_from_what_goes() -> None:
    found = drain(FacilityLocation(share=0.2).keep(ROWS, AROUND))
    assert sum(found.kept) == 6 and [score > found.cuts[0] for score in found.scores] == found.kept and found.what.startswith("rows of 30 ")
    cover = ((1 + VECTORS @ VECTORS[found.kept].T) / 2).amax(1).sum().item()
    assert math.isclose(sum(score for score, stays in zip(found.scores, found.kept, strict=True) if stays), cover, rel_tol=1e-5)
    least = min(score for score, stays in zip(found.scores, found.kept, strict=True) if stays)
    row = next(iter(found.reasons))
    told = f"{found.scores[row]:.3g} rows more; the 6 that stay brought {least:.3g} or more"
    assert found.reasons[row] == f"would stand for at most {told}"


def test_a_large_set_is_counted_on_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facility_location, "GROUND", 8)
    found = [drain(FacilityLocation(share=0.1, seed=seed).keep(ROWS, AROUND)) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0].scores != found[2].scores
    assert all(sum(one.kept) == 3 and one.what == "rows of 8 that it stands for anew" for one in found)


def test_one_row_and_all_rows() -> None:
    assert drain(FacilityLocation().keep(ROWS[:1], AROUND)).kept == [True]
    found = drain(FacilityLocation(share=1).keep(ROWS, AROUND))
    assert all(found.kept) and found.cuts == () and not found.reasons
