"""IFD: the highest below 1 stay, what does not help goes first, and what has no number says why."""

import math

import pytest
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.ifd import IFD


def row(number: int, question: str = "How many?") -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": str(number)}))


ROWS = [row(number) for number in range(8)]
ASKED = [1, 3, 5, 4, 2, 6, 9, 4]  # nats over four tokens; alone always 4: rows 0, 1 and 4 are helped by their question
AROUND = Given(
    surprise={one.as_text(): [nats, 4.0] for one, nats in zip(ROWS, ASKED, strict=True)},
    alone={one.as_text(): [4.0, 4.0] for one in ROWS},
)


@pytest.mark.parametrize("ratio", ["perplexities", "losses"])
def test_the_highest_below_1_stay(ratio: str) -> None:
    found = drain(IFD(share=0.25, ratio=ratio).keep(ROWS, AROUND))
    assert [place for place, kept in enumerate(found.kept) if kept] == [1, 4]
    expected = [nats / 4 if ratio == "losses" else math.exp(nats / 4 - 1) for nats in ASKED]
    assert all(map(math.isclose, found.scores, expected)) and found.what == "IFD"
    assert found.reasons[6] == f"IFD: {expected[6]:.3g}; its question does not help"
    assert found.reasons[7] == "IFD: 1; its question does not help", "at 1 it helps as little as none"
    assert found.reasons[0] == f"IFD: {expected[0]:.3g}; the 2 highest stay"
    assert found.cuts == ((expected[4] + expected[0]) / 2, 1.0)


def test_the_misaligned_may_stay() -> None:
    found = drain(IFD(share=0.25, misaligned=False).keep(ROWS, AROUND))
    assert [place for place, kept in enumerate(found.kept) if kept] == [5, 6] and len(found.cuts) == 1


def test_the_share_is_one_of_all_rows_and_a_ceiling_where_few_are_helped() -> None:
    assert [sum(drain(IFD(share=share).keep(ROWS, AROUND)).kept) for share in (0.01, 0.25, 1)] == [1, 2, 3]


def test_what_has_no_number_goes_and_says_why() -> None:
    rows = [row(1, " "), Example(text="plain"), row(2), row(3), row(4), row(5, "")]
    surprise = {one.as_text(): [1.0, 4.0] for one in rows} | {rows[2].as_text(): [math.nan, 0.0], rows[3].as_text(): [1.0, 1.0]}
    found = drain(IFD(share=1).keep(rows, Given(surprise=surprise, alone={one.as_text(): [4.0, 4.0] for one in rows})))
    assert found.kept == [False] * 4 + [True, False] and [math.isnan(score) for score in found.scores] == [True] * 4 + [False, True]
    assert [found.reasons[place].removeprefix("IFD: there is none, because ") for place in (0, 1, 2, 3)] == [
        "it asks nothing",
        "it asks nothing",
        "nothing of it is learnt",
        "its answer is not read to the end together with its question",
    ]


def test_it_reads_each_row_twice() -> None:
    assert IFD.passes == 2 and IFD().reader() == "" and IFD(model="pocket").reader() == "pocket"
