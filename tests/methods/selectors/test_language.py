"""Language: what is wanted stays, what is too short to tell stays unless told otherwise, and a language that there is not is named."""

import math

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.language import Language

AROUND = Given()

TEXTS = {
    "en": "The ship left the harbour before the sun had risen over the hills.",
    "de": "Das Schiff verließ den Hafen, bevor die Sonne über den Hügeln aufging.",
    "fr": "Le navire a quitté le port avant que le soleil ne se lève sur les collines.",
    "es": "El barco salió del puerto antes de que el sol saliera sobre las colinas.",
    "ja": "太陽が丘の上に昇る前に、船は港を出て行きました。それは静かな朝のことでした。",
}


def row(answer: str) -> Example:
    return Example(({"role": "user", "content": "Tell me."}, {"role": "assistant", "content": answer}))


ROWS = [*map(row, TEXTS.values()), row("ok"), row("12 + 7 = 19")]


@pytest.mark.parametrize("code", TEXTS)
def test_each_language_is_told(code: str) -> None:
    found = drain(Language(languages=code).keep(ROWS, AROUND))
    assert [found.kept[place] for place in range(len(TEXTS))] == [other == code for other in TEXTS]
    assert found.scores[list(TEXTS).index(code)] > 0.9 and sum(score == 0 for score in found.scores) == len(TEXTS) - 1


def test_several_languages_may_stay() -> None:
    found = drain(Language(languages="DE, fr").keep(ROWS, AROUND))
    assert found.kept == [False, True, True, False, False, True, True]
    assert found.reasons[0].startswith("the answer is en with a probability of ")


def test_what_is_too_short_has_no_language() -> None:
    assert drain(Language().keep(ROWS[5:], AROUND)).kept == [True, True]
    found = drain(Language(short="drop").keep(ROWS[5:], AROUND))
    assert found.kept == [False, False] and all(map(math.isnan, found.scores))
    assert found.reasons[0] == "the answer is too short to tell its language"


def test_a_language_that_there_is_not_is_named() -> None:
    for given, named in (("en, klingon", "klingon"), (" ", "none")):
        with pytest.raises(WorkbenchError, match=rf"^languages names {named}, which cannot be told\. There are: ace, af, am, .*, zxx\.$"):
            drain(Language(languages=given).keep(ROWS, AROUND))


def test_with_doubt_kept_only_what_is_sure_to_be_another_language_goes() -> None:
    """Code, lists and short rows are told wrong with great confidence; they stay where rows are only to go that nobody doubts."""
    code = row("const el = document.getElementById('los');\nlas.pero = el.value;")
    rows = [*ROWS[:5], *map(row, ("Spaghetti carbonara, risotto alla milanese, lasagne", "Ja, gern.")), code]
    found = drain(Language.mending("en", "answer").keep(rows, AROUND))
    assert found.kept[0] and found.kept[5:] == [True] * 3
    assert not found.kept[4] and found.reasons[4] == "the answer is in Japanese"
    assert drain(Language.mending("ja de", "answer").keep(rows, AROUND)).kept[4]
    with pytest.raises(WorkbenchError, match="klingon"):
        drain(Language.mending("klingon").keep(rows, AROUND))
