"""SliCK: the four categories part the set, what stays is what was named, and the others go or say that they do not know."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.asking import Draws
from workbench.materials.rows import Changed, Example, Selection
from workbench.methods.selectors.slick import LEVELS, SliCK, level


def row(question: str, answer: str = "yes", **more: object) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}))


COUNTS = {"always": (3, 3, 12, 12), "often": (2, 3, 9, 12), "once": (1, 3, 0, 12), "luck": (0, 3, 3, 12), "never": (0, 3, 0, 12)}
ROWS = [*map(row, COUNTS), Example(text="a plain text")]
AROUND = Given(answers={one.as_text(): COUNTS[one.question()] for one in ROWS[:5]})
ALL = ", ".join(LEVELS)


def run(rows: list[Example] = ROWS, around: Given = AROUND, **knobs: object) -> Selection:
    return drain(SliCK(**knobs).keep(rows, around))


ASKED = st.integers(1, 10).flatmap(lambda asked: st.tuples(st.integers(0, asked), st.just(asked)))
DRAWN = st.integers(1, 160).flatmap(lambda draws: st.tuples(st.integers(0, draws), st.just(draws)))


@given(st.lists(st.tuples(ASKED, DRAWN), min_size=1, max_size=12))
def test_the_categories_part_the_set(found: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    rows = [row(f"question {place}") for place in range(len(found))]
    around = Given(answers={one.as_text(): (*asked, *drawn) for one, (asked, drawn) in zip(rows, found, strict=True)})
    kept = [run(rows, around, keeps=name).kept for name in LEVELS]
    assert [sum(stays) for stays in zip(*kept, strict=True)] == [1] * len(rows)
    assert run(rows, around, keeps=ALL).kept == [True] * len(rows)


@given(ASKED, DRAWN)
def test_one_more_right_answer_never_lowers_the_category(asked: tuple[int, int], drawn: tuple[int, int]) -> None:
    own = level(*asked, *drawn)
    assert asked[0] == asked[1] or level(asked[0] + 1, asked[1], *drawn) >= own
    assert drawn[0] == drawn[1] or level(*asked, drawn[0] + 1, drawn[1]) >= own


def test_each_category_has_its_number_and_every_row_that_goes_its_counts() -> None:
    found = run()
    assert found.scores[:5] == [3.5, 2.375, 2.0, 1.125, 0.0] and math.isnan(found.scores[5])
    assert found.kept == [True] * 4 + [False, True] and found.cuts == (1.125 / 2,)
    assert found.reasons == {4: "is unknown: 0 of 3 greedy answers and 0 of 12 drawn ones are right"}
    assert found.what == "what the model knows, 0 unknown to 3 highly known; 1 row could not be asked and stay" and not found.changed
    best = run(keeps="Maybe highly")
    assert best.kept == [True] * 3 + [False] * 2 + [True] and best.cuts == ((1.125 + 2) / 2,)
    assert best.reasons[3] == "is weakly known: 0 of 3 greedy answers and 3 of 12 drawn ones are right"


def test_the_others_get_the_answer_that_says_so() -> None:
    rows = [row("never", "x", reasoning_content="hm", train=True), *ROWS[:4]]
    found = run(rows, Given(answers={one.as_text(): COUNTS[one.question()] for one in rows}), do="relabel", says="No idea.")
    assert found.kept == [True] * 5 and not found.reasons and found.cuts == () and set(found.changed) == {0}
    assert next(iter(Changed(rows, found.changed))).messages[-1] == {"role": "assistant", "content": "No idea.", "train": True}
    assert found.changed[0].messages[0] == rows[0].messages[0] and "unknown to it" not in found.what
    assert set(run(do="relabel", keeps="highly").changed) == {1, 2, 3, 4}


def test_rows_that_cannot_be_asked_go_only_when_told_to() -> None:
    found = run(not_asked="go")
    assert found.kept == [True] * 4 + [False] * 2 and "could not be asked" not in found.what
    assert found.reasons[5] == "could not be asked: it is not one question with an answer of at most 32 tokens"
    everything = run([Example(text="a"), Example(text="b")])
    assert everything.kept == [True, True] and all(map(math.isnan, everything.scores)) and everything.cuts == ()


def test_a_set_of_unknown_rows_says_that_training_should_stop_early() -> None:
    def told(*asked: str) -> bool:
        rows = [row(f"{name} {place}") for place, name in enumerate(asked)]
        around = Given(answers={one.as_text(): COUNTS[one.question().split()[0]] for one in rows})
        return "of the questions that stay are unknown to it: stop early" in run(rows, around, keeps=ALL).what

    assert told("never", "always", "luck") and told("never") and not told("never", "always", "always", "always") and not told("always")
    assert "33 %" in run([*ROWS[2:], *ROWS[5:] * 9], keeps=ALL).what
    assert "unknown to it" not in run(ROWS[2:5], do="relabel").what + run(ROWS[2:5]).what


@pytest.mark.parametrize(("keeps", "told"), [("highly, sure", "names sure, which is no category"), (" , ", "names no category")])
def test_a_category_that_there_is_not_is_a_sentence(keeps: str, told: str) -> None:
    with pytest.raises(WorkbenchError, match=rf"{told}.*There are: unknown, weakly, maybe, highly\.$"):
        run(keeps=keeps)


def test_the_knobs_say_what_is_asked() -> None:
    around = Hearing()
    drain(SliCK(model="named", prompts=5, samples=7, temperature=0.9, seed=3).keep(ROWS, around))
    assert around.answers_of == [("named", Draws(7, 0.9, 3))]
    assert run(ROWS, Given(), prompts=5, samples=7, keeps="highly").reasons[0].startswith("is maybe known: 1 of 5 greedy answers and ")
    assert SliCK().reader() == "" and SliCK(model="pocket").reader() == "pocket"


def test_more_answers_cost_more() -> None:
    plain = SliCK().passes
    assert SliCK(prompts=6).passes > plain < SliCK(samples=16).passes and SliCK(shots=0).passes < plain
