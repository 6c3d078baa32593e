"""Diverse: from the best score down, nothing too like what is kept, until the share is full."""

import math
from collections.abc import Sequence

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.diverse import Diverse

LENGTHS = [3, 9, 8, 5, 7, 9]
ANGLES = [0, 40, 45, 90, 170, 42]  # rows 1, 2 and 5 are alike: the cosine of 5 degrees is 0.996
MARKS = [1, "0.5", 9, "none", 3, -2]
ROWS = [
    Example(
        ({"role": "user", "content": f"{place}?"}, {"role": "assistant", "content": "x" * length}),
        meta={"quality": mark},
        line=9 + place,
        source="a.csv",
    )
    for place, (length, mark) in enumerate(zip(LENGTHS, MARKS, strict=True))
]


def around(nats: Sequence[float] | None = None) -> Given:
    turned = [[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in ANGLES]
    names = [row.as_text() for row in ROWS]
    rows = enumerate(zip(names, nats or [], strict=False), 1)
    surprise = {name: [each * (7 - row), 0.0 if math.isnan(each) else 7.0 - row] for row, (name, each) in rows}
    return Given(vectors=dict(zip(names, turned, strict=True)), surprise=surprise)


@pytest.mark.parametrize(("share", "kept"), [(0.01, [1]), (0.33, [1, 4]), (0.5, [1, 3, 4]), (1, [0, 1, 3, 4])])
def test_the_best_that_are_not_alike_stay(share: float, kept: list[int]) -> None:
    found = drain(Diverse(share=share).keep(ROWS, around()))
    assert [place for place, stays in enumerate(found.kept) if stays] == kept and list(found.scores) == LENGTHS


def test_the_reason_says_whether_it_was_too_like_or_too_late() -> None:
    found = drain(Diverse(share=0.33).keep(ROWS, around()))
    assert found.reasons[5] == "too like line 10 of a.csv, which is kept and scores no less; the cosine of their vectors is 0.999"
    assert found.reasons[3] == "length of the answer, in characters: 5; the share was full before it"
    assert found.cuts == (6.0,), "half-way between 7, the last that stays, and 5, the first that was not looked at"
    assert drain(Diverse(share=1).keep(ROWS, around())).cuts == ()


def test_more_alike_may_stay() -> None:
    assert [sum(drain(Diverse(share=1, alike=alike).keep(ROWS, around())).kept) for alike in (0.5, 0.9, 0.997, 1)] == [2, 4, 5, 6]


def test_a_column_may_hold_the_score() -> None:
    found = drain(Diverse(share=0.5, score="column", column="quality").keep(ROWS, around()))
    assert found.kept == [True, False, True, False, True, False] and [score for score in found.scores if score == score] == [
        1,
        0.5,
        9,
        3,
        -2,
    ]
    assert found.reasons[3] == "quality: there is none" and found.what == "quality"
    for column in ("", "merit"):
        with pytest.raises(WorkbenchError, match=rf"no row has a number in one called '{column}'\. .* There are: quality\.$"):
            drain(Diverse(score="column", column=column).keep(ROWS, around()))


def test_surprise_may_be_the_score() -> None:
    found = drain(Diverse(share=0.5, score="surprise", alike=1).keep(ROWS, around([4, 1, 2, math.nan, 3, 1])))
    assert found.kept == [True, False, True, False, True, False]
    assert found.reasons[3] == "surprise per learnt token, in nats: there is none"
    assert [score for score in found.scores if score == score] == [4, 1, 2, 3, 1], "the mean over its tokens, not the sum"
