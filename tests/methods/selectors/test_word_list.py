"""A list of words: whole words in any case, phrases over line breaks, entries that are no words, and a list that is built in."""

import pytest
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.word_list import REFUSALS, WordList

AROUND = Given()


def row(answer: str, question: str = "Tell me.") -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def hits(words: str, *answers: str) -> list[float]:
    return list(drain(WordList(words=words).keep([row(answer) for answer in answers], AROUND)).scores)


def test_words_are_whole_and_case_does_not_count() -> None:
    assert hits("ass, Damn", "ASS!", "class, assess, _ass_", "damn, damn; Damned", "") == [1, 0, 2, 0]
    assert hits("STRASSE", "die Straße") == [1]


def test_phrases_go_over_line_breaks_and_commas() -> None:
    assert hits("I'm sorry but I\nred  rose", "I’m sorry, but\nI must", "a RED\trose", "red, rose", "redrose", "sorry but I") == [
        1,
        1,
        1,
        0,
        0,
    ]


def test_entries_may_be_other_than_words() -> None:
    assert hits("[removed], C++, TODO:", "[removed]", "c++17 and C++", "aTODO: b TODO:c", "was[removed] todo") == [1, 2, 1, 1]
    assert hits("河水", "大河水流", "河流水") == [1, 0], "where words are not spaced, anywhere"


def test_of_two_entries_that_begin_alike_the_longer_counts_once() -> None:
    found = drain(WordList(words="as an AI, as an AI model").keep([row("As an AI model, as an AI")], AROUND))
    assert list(found.scores) == [2] and found.reasons[0] == "the answer holds 'as an ai model', 'as an ai' (2 hits)"


@pytest.mark.parametrize("phrase", REFUSALS.strip().splitlines())
def test_the_list_that_is_built_in_finds_each_of_its_phrases(phrase: str) -> None:
    found = drain(
        WordList().keep([row(f"Well. {phrase.upper()}, then."), row("I can help with that, and the model is a language.")], AROUND)
    )
    assert found.kept == [False, True] and found.cuts == (0.5,) and found.what == "hits of the list in the answer"


def test_nothing_between_commas_is_no_list_of_its_own() -> None:
    assert hits(" ,\n, ", "As an AI language model I pass.", "A plain answer.") == [1, 0]


def test_it_searches_the_text_it_is_told_to_and_allows_what_it_is_told_to() -> None:
    rows = [row("blue blue", "red"), row("blue", "blue")]
    by = {text: drain(WordList(words="blue", text=text).keep(rows, AROUND)).kept for text in ("row", "question", "answer")}
    assert by == {"row": [False, False], "question": [True, False], "answer": [False, False]}
    found = drain(WordList(words="blue", most=1).keep(rows, AROUND))
    assert found.kept == [False, True] and found.cuts == (1.5,) and found.reasons == {0: "the answer holds 'blue' (2 hits)"}


def test_no_rows_and_empty_rows_stay() -> None:
    assert drain(WordList().keep([], AROUND)).kept == []
    found = drain(WordList().keep([row(""), Example(text="")], AROUND))
    assert found.kept == [True, True] and found.cuts == ()
