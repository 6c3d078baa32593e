"""Decontamination: an evaluation row is found however it is written, twelve words are not thirteen, and the reason names the row."""

import random

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.decontamination import Decontamination

DRAW = random.Random(0)
WORDS = [f"word{number}" for number in range(3000)]


def row(question: str, answer: str = "Yes.") -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def tale(count: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=count))


EVALUATION = [row(tale(count), tale(20)) for count in (20, 40, 6, 13, 3)]
QUESTIONS = [one.question() for one in EVALUATION]
AROUND = Given(sets={"exam": EVALUATION})
CLEAN = [row(tale(60), tale(60)) for _ in range(10)]


@pytest.mark.parametrize("written", [str, str.upper, lambda text: text.replace(" ", " -- ").title(), lambda text: text.replace("o", "ó")])
def test_an_evaluation_row_is_found_however_it_is_written(written: object) -> None:
    planted = [row("Now.", f"{tale(30)}, {written(question)}; {tale(30)}") for question in QUESTIONS[:4]]  # type: ignore[operator]
    found = drain(Decontamination(against="exam").keep([*CLEAN, *planted], AROUND))
    assert found.kept == [True] * 10 + [False] * 4 and list(found.scores) == [0.0] * 10 + [1.0] * 4 and found.cuts == (0.5,)
    assert [found.reasons[10 + place].partition(", as in")[0] for place in range(4)] == [
        f"holds 100% of the question of row {place + 1} of exam" for place in range(4)
    ]


def test_twelve_words_are_not_thirteen() -> None:
    said = QUESTIONS[1].split()
    rows = [row(" ".join(said[5:17])), row(" ".join(said[5:18]))]
    found = drain(Decontamination(against="exam").keep(rows, AROUND))
    assert found.kept == [True, False] and found.scores[1] == 1 / 28
    assert found.reasons[1] == f"holds 4% of the question of row 2 of exam, as in '{' '.join(said[5:18])}'"
    assert drain(Decontamination(against="exam", group=12).keep(rows, AROUND)).kept == [False, False]


def test_a_share_that_would_be_none_is_told_in_groups() -> None:
    long = tale(1412)  # 1,400 groups
    rows = [row(" ".join(long.split()[9:stop])) for stop in (22, 34, 35)]
    found = drain(Decontamination(against="exam").keep(rows, Given(sets={"exam": [row(long)]})))
    assert [found.reasons[place].partition(" of the")[0] for place in range(3)] == [
        "holds a part (1 of 1,400 groups)", "holds a part (13 of 1,400 groups)", "holds 1%",
    ]  # fmt: skip


def test_a_share_may_be_asked_for() -> None:
    said = QUESTIONS[1].split()  # 28 groups of thirteen
    rows = [row(" ".join(said[: 12 + groups])) for groups in (7, 14, 28)]
    found = drain(Decontamination(against="exam", least=0.5).keep(rows, AROUND))
    assert found.kept == [True, False, False] and list(found.scores) == [0.25, 0.5, 1] and found.cuts == (0.375,)


def test_what_is_looked_for_may_be_the_answer() -> None:
    rows = [row(QUESTIONS[0]), row("Now.", EVALUATION[0].answer())]
    by = {part: drain(Decontamination(against="exam", compare=part).keep(rows, AROUND)).kept for part in ("question", "answer", "row")}
    assert by == {"question": [False, True], "answer": [True, False], "row": [False, False]}


def test_a_template_that_both_sets_use_drops_nothing() -> None:
    asks = "Here is an instruction that describes a task. Write a response that completes the request in a fitting way."
    around = Given(sets={"exam": [row(f"{asks} {tale(15)}") for _ in range(11)]})
    rows = [row(f"{asks} {tale(15)}"), around.sets["exam"][7]]
    assert drain(Decontamination(against="exam").keep(rows, around)).kept == [True, False]
    around = Given(sets={"exam": [*around.sets["exam"], *(row(tale(15)) for _ in range(22))]})
    assert drain(Decontamination(against="exam").keep(rows, around)).kept == [True, False]
    assert drain(Decontamination(against="exam", common=11).keep(rows, around)).kept == [False, False]


@pytest.mark.parametrize("compare", ["question", "row"])
def test_a_system_turn_that_few_rows_share_drops_nothing(compare: str) -> None:
    system = {"role": "system", "content": tale(40)}
    exam = [Example((system, *row(tale(20)).messages)) for _ in range(5)]
    pool = [Example((system, *row(tale(20)).messages)) for _ in range(5)]
    found = drain(Decontamination(against="exam", compare=compare).keep([*pool, exam[3]], Given(sets={"exam": exam})))
    assert found.kept == [True] * 5 + [False]
    two = drain(Decontamination(against="exam").keep([*pool, exam[0], exam[1]], Given(sets={"exam": exam[:2]})))
    assert two.kept == [True] * 5 + [False] * 2, "two rows are too few to show a template, but a question has no system turn"


def talk(*said: str, **more: object) -> Example:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return Example(tuple({"role": roles[one[0]], "content": one[2:]} for one in said), **more)  # type: ignore[arg-type]


def turns(*rows: Example, least: float = 0.0) -> list[object]:
    """Of each row what became of it: True where it stays as it is, False where it goes, else what its turns say."""
    step = Decontamination(against="exam", drops="turns", least=least)
    found = drain(step.keep(rows, AROUND))
    assert set(found.reasons) == {row for row, kept in enumerate(found.kept) if not kept} and not set(found.reasons) & set(found.changed)
    left = [found.changed.get(row, example) for row, example in enumerate(rows) if found.kept[row]]
    assert all(drain(step.keep(left, AROUND)).kept) and not drain(step.keep(left, AROUND)).changed, "what is kept holds nothing"
    return [
        [turn["content"] for turn in found.changed[row].messages] if row in found.changed else found.kept[row] for row in range(len(rows))
    ]


def test_the_turns_that_hold_it_may_go_instead_of_the_row() -> None:
    asks = f"u:{QUESTIONS[1]}"
    rows = [
        talk("s:Be brief.", "u:One?", "a:1", asks, "a:x", "a:y", "u:Two?", "a:2", meta={"n": 1}),
        talk("u:One?", "a:1", "u:Two?", f"a:It was {QUESTIONS[0]}."),
        talk("u:One?", "a:1"),
        talk(f"s:{QUESTIONS[1]}", "u:One?", "a:1"),
    ]
    assert turns(*rows) == [["Be brief.", "One?", "1", "Two?", "2"], ["One?", "1"], True, ["One?", "1"]]
    changed = drain(Decontamination(against="exam", drops="turns").keep(rows, AROUND)).changed[0]
    assert changed.meta == {"n": 1} and drain(Decontamination(against="exam").keep(rows, AROUND)).kept == [False, False, True, False]


def test_the_row_goes_where_nothing_of_it_can_be_learnt_without_them() -> None:
    said, half = QUESTIONS[1], len(QUESTIONS[1].split()) // 2
    words = said.split()
    over = talk(f"u:{' '.join(words[:4])}", f"a:{' '.join(words[4:8])}", f"u:{' '.join(words[8:20])}", "a:ok")
    plain = Example(text=f"A tale. {said}")
    pair = talk("u:One?", "a:1", f"u:{said}", "a:x", worse=({"role": "assistant", "content": "y"},))
    early = talk(f"u:{said}", "a:x", "u:One?", "a:1", worse=({"role": "assistant", "content": "y"},))
    assert turns(talk(f"u:{said}", "a:x"), talk(f"u:{said}", "a:x", "u:Two?"), over, plain, pair, early) == [False] * 5 + [["One?", "1"]]
    part = talk("u:" + " ".join(words[:half]), "a:x", "u:One?", "a:1")
    assert turns(part, least=0.9) == [True] and turns(part) == [["One?", "1"]]


def test_the_line_is_the_same_whatever_goes() -> None:
    rows = [*CLEAN, talk("u:One?", "a:1", f"u:{QUESTIONS[1]}", "a:x")]
    both = [drain(Decontamination(against="exam", drops=what).keep(rows, AROUND)) for what in ("row", "turns")]
    assert both[0].cuts == both[1].cuts == (0.5,) and both[0].scores == both[1].scores


def test_it_says_what_is_missing() -> None:
    with pytest.raises(WorkbenchError, match="Decontamination needs a second data set"):
        drain(Decontamination().keep(CLEAN, AROUND))
    with pytest.raises(WorkbenchError, match="No row of the evaluation set has a question of 5 words or more"):
        drain(Decontamination(against="exam").keep(CLEAN, Given(sets={"exam": [row("Why so?", "yes")]})))


def test_no_rows_and_empty_rows_stay() -> None:
    assert drain(Decontamination(against="exam").keep([], AROUND)).kept == []
    found = drain(Decontamination(against="exam").keep([row("", ""), Example(text="")], AROUND))
    assert found.kept == [True, True] and found.cuts == () and list(found.scores) == [0, 0]
    assert Decontamination(against="exam").others() == ["exam"] and Decontamination().others() == []
