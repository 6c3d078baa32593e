"""Languages of a set: a second one is told where enough rows are surely in it, and nothing is told of what may be doubted."""

from workbench.core.job import drain
from workbench.jobs.tongues import Mixed, counted, mixed, spaced
from workbench.materials.rows import Example

ENGLISH = "The ship left the harbour before the sun had risen, and nobody was there to see number {}."
GERMAN = "Das Schiff verließ den Hafen, bevor die Sonne aufging, und niemand war da, um Nummer {} zu sehen."


def row(question: str, answer: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def test_a_second_language_counts_from_a_hundredth_of_the_rows_and_three_of_them_on() -> None:
    names = ["English"] * 390 + ["German"] * 5 + ["French"] * 3 + [""] * 2
    assert counted("answer", range(400), names) == Mixed("answer", "English", {"German": 5}, [390, 391, 392, 393, 394], 400)
    assert counted("answer", range(10, 20), ["English"] * 8 + ["German"] * 2) is None
    found = counted("row", range(10, 20), ["English"] * 3 + ["German"] * 7)
    assert found is not None and found.main == "German" and found.rows == [10, 11, 12] and found.meant and found.codes == "de"


def test_one_language_and_what_is_doubted_are_no_mixture() -> None:
    assert counted("answer", range(9), ["English"] * 9) is None and counted("answer", range(9), [""] * 9) is None
    assert counted("answer", [], []) is None


def test_answers_are_looked_at_and_whole_rows_where_most_answers_do_not_tell() -> None:
    answers = [row("Translate.", (GERMAN if place < 4 else ENGLISH).format(place)) for place in range(40)]
    found = drain(mixed(list(enumerate(answers))))
    assert found is not None and (found.part, found.main, found.others, found.rows) == ("answer", "English", {"German": 4}, [0, 1, 2, 3])
    classes = [row((GERMAN if place < 4 else ENGLISH).format(place), "positive") for place in range(40)]
    found = drain(mixed(list(enumerate(classes))))
    assert found is not None and (found.part, found.rows, found.meant) == ("row", [0, 1, 2, 3], False)


def test_a_set_that_translates_is_not_mixed() -> None:
    """By its answers it is in one language, and where these are short its rows are in two each, of which none is sure."""
    long = [row(f"Translate: {ENGLISH.format(place)}", GERMAN.format(place)) for place in range(40)]
    assert drain(mixed(list(enumerate(long)))) is None
    short = [row("Say in German: where is the station and what is the time?", "Wo ist der Bahnhof?") for _ in range(40)]
    assert drain(mixed(list(enumerate(short)))) is None


def test_of_many_rows_some_are_read() -> None:
    assert [spaced(count) for count in (0, 1, 2000, 3999, 4000, 1_000_000)] == [1, 1, 1, 1, 2, 500]
