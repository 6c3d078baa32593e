"""Exact duplicates: the first stays, a second pass finds nothing, and the knobs say what counts as the same."""

import pytest
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.exact_duplicates import ExactDuplicates

AROUND = Given()


def pair(question: str, answer: str, line: int = 0) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), source="rows.csv", line=line)


ROWS = [
    pair("Capital of France?", "Paris.", 1),
    pair("capital of  France?", "paris.", 2),
    pair("Capital of France?", "It is Paris.", 3),
    pair("Capital of Italy?", "Paris.", 4),
    Example(text="Cafe\u0301"),
    Example(text="Caf\u00e9"),
]


@pytest.mark.parametrize(
    ("knobs", "dropped"),
    [
        ({}, [1, 5]),
        ({"ignore_case": False}, [5]),
        ({"ignore_spaces": False}, [5]),
        ({"compare": "question"}, [1, 2]),
        ({"compare": "answer"}, [1, 3, 5]),
    ],
)
def test_what_counts_as_the_same(knobs: dict, dropped: list[int]) -> None:
    selection = drain(ExactDuplicates(**knobs).keep(ROWS, AROUND))
    assert [index for index, kept in enumerate(selection.kept) if not kept] == dropped == sorted(selection.reasons)


def test_the_reason_names_the_row_that_stays() -> None:
    assert drain(ExactDuplicates().keep(ROWS, AROUND)).reasons[1] == "says the same as line 1 of rows.csv"
    assert drain(ExactDuplicates(compare="answer").keep(ROWS, AROUND)).reasons[3] == "has the same answer as line 1 of rows.csv"


def test_a_second_pass_drops_nothing() -> None:
    rows = ROWS * 3
    kept = [row for row, stays in zip(rows, drain(ExactDuplicates().keep(rows, AROUND)).kept, strict=True) if stays]
    assert kept == [ROWS[0], *ROWS[2:5]] and all(drain(ExactDuplicates().keep(kept, AROUND)).kept)
