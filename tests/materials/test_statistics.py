"""Statistics of texts: worked examples of each, and numbers for every text, however short."""

import math

import pytest

from workbench.materials.statistics import STATISTICS

EXAMPLES = {
    "characters": ("a b", 3),
    "words": (" one  two\nthree ", 3),
    "lines": ("a\n\n b\n", 2),
    "word_length": ("one three", 4),
    "letters": ("ab1 ", 0.5),
    "digits": ("ab12", 0.5),
    "capitals": ("Ab1C", 2 / 3),
    "symbols": ("a+b!", 0.5),
    "beyond_ascii": ("aé", 0.5),
    "different_words": ("the The sea", 2 / 3),
    "repeated_letters": ("0123456789" * 2, 2 / 11),
    "repeated_words": (" ".join(map(str, [*range(10), *range(10)])), 2 / 11),
    "repeated_lines": ("a\nb\na\na", 0.5),
    "bullets": ("- a\n* b\nc\nd", 0.5),
    "trailing_off": ("a...\nb…\nc\nd.", 0.5),
    "links": ("see https://a.org and www.b.org", 2),
    "finished": ("and so on", 0),
    "open_fence": ("```py\nx = 1", 1),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_each_is_what_it_says(name: str) -> None:
    text, number = EXAMPLES[name]
    assert STATISTICS[name](text) == pytest.approx(number)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("text", ["", " ", "a", "\n\n", "…", "é", "`" * 7])
def test_every_text_has_a_number(name: str, text: str) -> None:
    assert math.isfinite(STATISTICS[name](text))


def test_a_text_may_end_in_many_ways_and_a_fence_may_be_closed() -> None:
    for text in ("So it is.", "Is it?", "(so)", "«so”", "```\nx\n```", "", "So. "):
        assert STATISTICS["finished"](text) == 1, text
    assert STATISTICS["open_fence"]("```\nx\n```") == 0
