"""Mastery levels: quarters of the share of right answers, edges included below; wordings are the prompts."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.asking import Draws
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.mastery import TEMPLATES, Mastery, level


def row(question: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": "yes"}))


RIGHT = (0, 1, 10, 11, 20, 30, 31, 40)
ROWS = [*(row(f"question {right}") for right in RIGHT), Example(text="a plain text")]
AROUND = Given(answers={one.as_text(): (3, 3, right, 40) for one, right in zip(ROWS, RIGHT, strict=False)})


def run(around: Given = AROUND, **knobs: object) -> Selection:
    return drain(Mastery(**knobs).keep(ROWS, around))


@given(st.integers(1, 500).flatmap(lambda draws: st.tuples(st.integers(0, draws), st.just(draws))))
def test_levels_are_quarters_and_none(found: tuple[int, int]) -> None:
    share, own = Fraction(*found), level(*found)
    assert own == 0 if share == 0 else Fraction(own - 1, 4) < share <= Fraction(own, 4)


def test_every_row_is_of_one_level_and_greedy_answers_do_not_count() -> None:
    assert [level(right, 40) for right in RIGHT] == [0, 1, 1, 2, 2, 3, 4, 4]
    kept = [run(levels=f"D{own}").kept for own in range(5)]
    assert [sum(stays) for stays in zip(*kept, strict=True)] == [1] * len(RIGHT) + [5], "what cannot be asked stays"


def test_what_goes_says_its_level_and_lines_lie_between() -> None:
    found = run()
    assert found.kept == [False] + [True] * 8 and found.reasons == {0: "is of level 0: 0 % of 40 drawn answers are right"}
    assert list(found.scores[:8]) == [right / 40 for right in RIGHT] and math.isnan(found.scores[8]) and found.cuts == (1 / 80,)
    middle = run(levels="2 3")
    assert middle.kept == [False] * 3 + [True] * 3 + [False] * 2 + [True] and middle.cuts == pytest.approx((10.5 / 40, 30.5 / 40))
    assert middle.reasons[6] == "is of level 4: 77.5 % of 40 drawn answers are right"
    assert found.what == "share of the drawn answers that are right; 1 row could not be asked and stay"
    gone = run(not_asked="go")
    assert not gone.kept[8] and gone.reasons[8].startswith("could not be asked: ") and "asked" not in gone.what


def test_wordings_are_lines_or_lie_between_bars() -> None:
    assert Mastery().wordings() == TEMPLATES and len(TEMPLATES) == 3
    assert Mastery(templates="{question} | So: {question}\n\n").wordings() == ("{question}", "So: {question}")
    with pytest.raises(WorkbenchError, match="the wording 'Say it' does not say where the question stands"):
        run(templates="{question}|Say it")


def test_the_knobs_say_what_is_asked() -> None:
    around = Hearing()
    drain(Mastery(model="named", samples=2, seed=3).keep(ROWS, around))
    assert around.answers_of == [("named", Draws(2, 0.7, 3))]
    made_up = run(Given(), templates="{question} | So: {question}", samples=2, levels="4")
    assert all("of 4 drawn answers" in reason for reason in made_up.reasons.values()) and made_up.reasons
    assert Mastery(samples=20).passes > Mastery().passes > Mastery(templates="{question}").passes


@pytest.mark.parametrize(("levels", "told"), [("1, 5", "names 5, which is no level"), ("", "names none"), ("12", "names 12")])
def test_a_level_that_there_is_not_is_a_sentence(levels: str, told: str) -> None:
    with pytest.raises(WorkbenchError, match=rf"'levels that stay' {told}.*There are 0 to 4"):
        run(levels=levels)
