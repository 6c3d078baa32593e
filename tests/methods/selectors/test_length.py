"""Length: bounds are inclusive, and each dropped row says which bound it broke."""

from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.length import Length

AROUND = Given()


def answer(text: str) -> Example:
    return Example(({"role": "user", "content": "?"}, {"role": "assistant", "content": text}))  # as text: "user: ?\nassistant: …"


ROWS = [answer("x" * 4), answer("x" * 5), answer("x" * 9), answer("x" * 10), Example(text="x" * 9)]


def test_the_bounds_are_inclusive() -> None:
    assert drain(Length(fewest_answer=5, most_answer=9).keep(ROWS, AROUND)).kept == [False, True, True, False, True]
    whole = len(ROWS[1].as_text())
    assert drain(Length(fewest=whole, most=whole).keep(ROWS, AROUND)).kept == [False, True, False, False, False]


def test_the_default_keeps_what_is_not_empty() -> None:
    assert all(drain(Length().keep(ROWS, AROUND)).kept)
    assert drain(Length().keep([answer("")], AROUND)).reasons == {0: "the answer has 0 characters, fewer than 1"}


def test_the_reason_names_the_bound() -> None:
    reasons = drain(Length(fewest_answer=5, most_answer=9).keep(ROWS, AROUND)).reasons
    assert reasons == {0: "the answer has 4 characters, fewer than 5", 3: "the answer has 10 characters, more than 9"}
    assert drain(Length(most=8).keep(ROWS[4:], AROUND)).reasons == {0: "the row has 9 characters, more than 8"}
