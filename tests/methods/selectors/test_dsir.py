"""DSIR: towards itself all rows weigh the same and are drawn alike, rows of the target lead, and a draw can be drawn again."""

import math
import random
from itertools import pairwise

import pytest
from scipy.stats import chi2
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.dsir import Dsir

DRAW = random.Random(0)


def text(subject: str, count: int = 30) -> Example:
    return Example(text=" ".join(f"{subject}{DRAW.randrange(60)}" for _ in range(count)))


POOL = [text("sea" if place % 5 == 0 else "law") for place in range(200)]
AROUND = Given(sets={"sea": [text("sea") for _ in range(40)], "itself": POOL, "one": [Example(text="a b")]})


def chosen(**knobs: object) -> Selection:
    return drain(Dsir(**knobs).keep(POOL, AROUND))


def test_towards_itself_every_row_weighs_nothing_and_is_drawn_as_often_as_another() -> None:
    """χ² of how often each of 200 rows is drawn in 100 draws of a fifth of them, against the quantile 0.9999."""
    assert set(chosen(target="itself", top=True).scores) == {0.0}
    often = [0] * len(POOL)
    for seed in range(100):
        for row, stays in enumerate(chosen(target="itself", share=0.2, seed=seed).kept):
            often[row] += stays
    spread = sum((count - 20) ** 2 / (20 * 0.8) for count in often)
    assert sum(often) == 100 * 40 and chi2.ppf(0.0001, 199) < spread < chi2.ppf(0.9999, 199)


@pytest.mark.parametrize("knobs", [{}, {"top": True}, {"top": True, "per_word": True}, {"smoothing": 0.5}])
def test_rows_like_the_target_lead(knobs: dict[str, object]) -> None:
    found = chosen(target="sea", share=0.2, **knobs)
    assert [row for row, stays in enumerate(found.kept) if stays] == list(range(0, 200, 5))
    assert len(found.cuts) == 1 and found.reasons[1].endswith("; the 40 highest stay")


def test_a_worked_example() -> None:
    """Two rows, 'a b' and 'c': of the four words and pairs here three are in the target, each a third there and a quarter here."""
    found = drain(Dsir(target="one", top=True, share=1).keep([Example(text="a b"), Example(text="c")], AROUND))
    low = 1e-8
    expected = [3 * (math.log(1 / 3 + low) - math.log(1 / 4 + low)), math.log(low) - math.log(1 / 4 + low)]
    assert list(found.scores) == pytest.approx(expected) and found.cuts == ()
    found = drain(Dsir(target="one", top=True, share=1, per_word=True).keep([Example(text="a b"), Example(text="c")], AROUND))
    assert list(found.scores) == pytest.approx([expected[0] / 3, expected[1]]) and "per word" in found.what


def test_the_draw_is_fixed_by_its_seed() -> None:
    draws = [chosen(target="itself", seed=seed).kept for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2] and sum(draws[0]) == 10
    plain, noisy = (chosen(target="sea", top=top).scores for top in (True, False))
    noise = [far - near for near, far in zip(plain, noisy, strict=True)]
    assert sum(noise) / 200 == pytest.approx(0.577, abs=0.35), "Gumbel's noise has Euler's constant for a mean"


def test_rows_without_words_never_stay() -> None:
    found = drain(Dsir(target="sea", share=1).keep([*POOL, Example(text=""), Example(text=" \n")], AROUND))
    assert found.kept == [True] * 200 + [False] * 2 and math.isnan(found.scores[-1]) and found.reasons[201].endswith("there is none")
    assert drain(Dsir(target="sea").keep([], AROUND)).kept == []


def test_what_is_compared_may_be_the_answer() -> None:
    turns = [({"role": "user", "content": asks.text}, {"role": "assistant", "content": says.text}) for asks, says in pairwise(POOL)]
    rows = [Example(messages) for messages in turns]
    kept = drain(Dsir(target="sea", share=39 / 199, text="answer").keep(rows, AROUND)).kept
    assert [row for row, stays in enumerate(kept) if stays] == list(range(4, 199, 5))


def test_it_names_its_target() -> None:
    assert Dsir(target="sea").others() == ["sea"] and Dsir().others() == []
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(Dsir().keep(POOL, AROUND))
