"""Letters of a wrong encoding and HTML are put right; what is meant as it stands stays letter by letter."""

import pytest

from workbench.core.job import drain
from workbench.materials.mending import mended
from workbench.materials.rows import Example
from workbench.methods.selectors.mend_text import MendText

GERMAN = "Größe „gut“ – naïve Ärzte, 3 €, l’été, À bientôt !, SÃO PAULO, ŽIŽEK, ½ Äpfel"


def rows(*answers: str) -> list[Example]:
    return [Example(({"role": "user", "content": "Q?"}, {"role": "assistant", "content": answer})) for answer in answers]


@pytest.mark.parametrize("text", [GERMAN, "日本語のテキスト", "Ответ", "🙂 ok", "plain", "l’œuvre"])
@pytest.mark.parametrize("times", [1, 2])
def test_what_was_read_in_a_wrong_encoding_is_what_it_was(text: str, times: int) -> None:
    wrong = text
    for _ in range(times):
        wrong = "".join(bytes([code]).decode("cp1252", "ignore") or chr(code) for code in wrong.encode())
    assert mended(wrong) == text and mended(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "FRANÇ\xa0: ok", "DÉPOSÉ\xa0!", "« Voilà »", "Vec<T> is a type", "a < b and b > c", "if x<p and y>q", "x &amp; y",
        "a  < b &amp; c", "“Le CAFÉ”", "ÅÄÖ\xa0!",
        "```html\n<p>Hi</p>\n```", "<!DOCTYPE html><p>Hi</p>", "In HTML, write <b>bold</b>.", "List<a, b>",
        '<?php echo "<br />"; ?>', "if (x) {\n  say('<b>a</b>');\n}", "",
    ],
)  # fmt: skip
def test_what_is_meant_as_it_stands_stays(text: str) -> None:
    assert mended(text) == text


def test_of_html_the_words_stay_a_line_for_each_block() -> None:
    page = '<div class="x"><p>One&nbsp;&amp; two</p><br/>\n<a href="http://a.b">three</a><script>bad()</script><!-- no --></div>'
    assert mended(page) == "One & two\n\nthree"


def test_a_closing_quote_whose_last_byte_was_dropped_closes() -> None:
    assert mended("She said â€œhiâ€ and left.") == "She said “hi” and left." and mended("â€ alone") == "â€ alone"


def test_rows_are_changed_and_none_is_dropped() -> None:
    given = rows("cafÃ©", "fine", "<p>Hi</p><p>there</p>")
    found = drain(MendText().keep(given, None))  # type: ignore[arg-type]
    assert found.kept == [True] * 3 and set(found.changed) == {0, 2} and list(found.scores) == [1, 0, 1]
    assert [found.changed[place].answer() for place in (0, 2)] == ["café", "Hi\n\nthere"]
    letters = drain(MendText(what="letters").keep(given, None))  # type: ignore[arg-type]
    assert set(letters.changed) == {0}


def test_what_is_learnt_of_a_text_in_segments_stays_the_same_part() -> None:
    text = "cafÃ© asks. Ã‰t answers Ã©. End."
    row = Example(text=text, learn=((12, text.index(" End")),))
    (new,) = drain(MendText().keep([row], None)).changed.values()  # type: ignore[arg-type]
    assert new.text == "café asks. Ét answers é. End." and new.answer() == "Ét answers é."
