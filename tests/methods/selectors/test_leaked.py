"""Leaked evaluation rows: a row goes exactly where decontamination would drop the row that holds it, copies of it go too, others stay."""

import math
import random

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.decontamination import Decontamination
from workbench.methods.selectors.leaked import Leaked

DRAW = random.Random(0)
WORDS = [f"word{number}" for number in range(3000)]


def row(question: str, answer: str = "Yes.") -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def tale(count: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=count))


EXAM = [row(tale(count), tale(20)) for count in (20, 40, 6, 13, 3, 30)]
ASKED = [one.question() for one in EXAM]
CLEAN = [row(tale(60), tale(60)) for _ in range(10)]


def around(*learnt: Example) -> Given:
    return Given(sets={"learnt": [*CLEAN, *learnt], "exam": EXAM})


def test_the_rows_that_stand_in_the_other_set_go_and_say_where() -> None:
    found = drain(Leaked(learnt="learnt").keep(EXAM, around(row("Now.", f"So: {ASKED[1].upper()}!"), row(tale(9), ASKED[2]))))
    assert found.kept == [True, False, False, True, True, True]
    assert found.reasons == {
        1: "100% of its question stands in row 11 of learnt", 2: "100% of its question stands in row 12 of learnt",
    }  # fmt: skip
    assert found.scores[:4] == [0.0, 1.0, 1.0, 0.0] and math.isnan(found.scores[4]) and found.cuts == (0.5,), (
        "three words are not looked for"
    )


@pytest.mark.parametrize("least", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("compare", ["question", "answer", "row"])
def test_it_drops_what_decontamination_would_find(compare: str, least: float) -> None:
    """An evaluation row goes where, alone as the evaluation set, it would cost a row of the training set its place."""
    parts = [row(" ".join(ASKED[place].split()[:stop]), EXAM[place].answer()) for place, stop in ((0, 15), (1, 30), (5, 30), (5, 14))]
    given = around(*parts)
    found = drain(Leaked(learnt="learnt", compare=compare, least=least).keep(EXAM, given))
    for place, kept in enumerate(found.kept):
        if not math.isnan(found.scores[place]):
            alone = Given(sets={"exam": [EXAM[place]]})
            step = Decontamination(against="exam", compare=compare, least=least)
            assert kept == all(drain(step.keep(given.sets["learnt"], alone)).kept)  # type: ignore[index]
    assert not all(found.kept)


def test_copies_within_the_evaluation_set_go_together() -> None:
    rows = [EXAM[0], EXAM[1], row(ASKED[1].upper()), EXAM[5]]
    found = drain(Leaked(learnt="learnt").keep(rows, around(row(ASKED[1]))))
    assert found.kept == [True, False, False, True] and found.scores[1] == found.scores[2] == 1


def test_a_template_that_both_sets_use_drops_nothing() -> None:
    asks = "Here is an instruction that describes a task. Write a response that completes the request in a fitting way."
    exam = [row(f"{asks} {tale(15)}") for _ in range(12)]
    found = drain(Leaked(learnt="learnt").keep(exam, Given(sets={"learnt": [row(f"{asks} {tale(15)}"), exam[7]]})))
    assert [place for place, kept in enumerate(found.kept) if not kept] == [7]


def test_without_another_set_it_says_what_to_do_and_without_rows_nothing_happens() -> None:
    with pytest.raises(WorkbenchError, match="Leaked evaluation rows needs a second data set"):
        drain(Leaked().keep(EXAM, around()))
    assert drain(Leaked(learnt="learnt").keep([], around())).kept == []
    found = drain(Leaked(learnt="learnt").keep([row("Why so?"), row("")], around()))
    assert found.kept == [True, True] and all(map(math.isnan, found.scores)) and found.cuts == ()
    assert Leaked(learnt="learnt").others() == ["learnt"] and Leaked().others() == []
