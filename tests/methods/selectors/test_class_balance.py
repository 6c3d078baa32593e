"""Class balance: no class above its limit, small classes whole, the draw is the seed's, rows without a class stay."""

from collections import Counter

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.class_balance import ClassBalance

AROUND = Given()
SIZES = {"code": 40, "sums": 7, "tales": 12}
ROWS = [
    Example(text=f"{name} {number}", source=f"{name}.csv", meta={"kind": name}) for name, size in SIZES.items() for number in range(size)
]


def left(method: ClassBalance, rows: list[Example]) -> Counter[str]:
    return Counter(row.meta.get("kind") for row, stays in zip(rows, drain(method.keep(rows, AROUND)).kept, strict=True) if stays)


@pytest.mark.parametrize("most", [1, 1.5, 2, 3, 1000])
@pytest.mark.parametrize("column", ["kind", ""])
def test_every_class_is_cut_to_so_many_times_the_smallest(most: float, column: str) -> None:
    assert left(ClassBalance(column=column, most=most), ROWS) == {name: min(size, int(most * 7)) for name, size in SIZES.items()}


def test_the_seed_draws_and_every_row_has_its_chance() -> None:
    first, again, other = (drain(ClassBalance(seed=seed).keep(ROWS, AROUND)).kept for seed in (0, 0, 1))
    assert first == again != other
    drawn = [sum(column) for column in zip(*(drain(ClassBalance(seed=seed).keep(ROWS, AROUND)).kept for seed in range(60)), strict=True)]
    assert min(drawn[:40]) > 5 and max(drawn[:40]) < 40, "of 60 draws 21 on average"
    assert set(drawn[40:47]) == {60} and set(drawn[47:]) == {60}


def test_the_reason_tells_the_sizes() -> None:
    reasons = drain(ClassBalance(column="kind").keep(ROWS, AROUND)).reasons
    assert len(reasons) == 26
    assert set(reasons.values()) == {"is of 'code', which has 40 rows; 14 of them are drawn, 2 times the smallest class, 'sums' with 7"}


def test_a_row_without_a_class_stays_and_is_not_counted() -> None:
    bare = [Example(text="?"), Example(text="!", meta={"kind": None}), Example(text=".", meta={"kind": " "})] * 4
    kept = drain(ClassBalance(column="kind", most=1).keep([*ROWS, *bare], AROUND)).kept
    assert kept[-12:] == [True] * 12 and sum(kept) == 3 * 7 + 12


def test_a_column_that_no_row_has_is_named() -> None:
    with pytest.raises(WorkbenchError, match=r"goes by the column 'sort', and no row has one\. .* There are: kind\.$"):
        drain(ClassBalance(column="sort").keep(ROWS, AROUND))
    assert drain(ClassBalance(column="sort").keep([], AROUND)).kept == []
    assert drain(ClassBalance().keep([Example(text="no file")], AROUND)).kept == [True]


def test_a_number_is_a_class_too() -> None:
    rows = [Example(text=str(number), meta={"label": number % 3 == 0}) for number in range(9)]
    assert sum(drain(ClassBalance(column="label", most=1).keep(rows, AROUND)).kept) == 6
