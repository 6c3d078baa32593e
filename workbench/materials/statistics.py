"""Numbers that describe a text: lengths, shares of kinds of letters, repetition, how it ends. One function each, by name in `STATISTICS`.

All are finite for every text, the empty one included, and cost time in proportion to its length. They say nothing of whether a text is
good: thresholds that suit web pages delete short answers and all code. Tags as in the project's notes: [R] read in the published code
(datatrove, Data-Juicer), [O] our own form of it.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

ENDS = frozenset(".!?…。！？\"'”’)]}`")
BULLETS = ("-", "*", "•", "+")
LINK = re.compile(r"https?://|www\.", re.IGNORECASE)
STRETCH = 10  # characters, or words, of which a repetition is made [R]


def characters(text: str) -> float:
    return len(text)


def words(text: str) -> float:
    """Stretches without white space."""
    return len(text.split())


def lines(text: str) -> float:
    """Lines that are not empty."""
    return len(_lines(text))


def word_length(text: str) -> float:
    """Mean characters of a word."""
    return _share(sum(map(len, text.split())), len(text.split()))


def letters(text: str) -> float:
    """Share of the characters that are letters, of any script."""
    return _share(sum(map(str.isalpha, text)), len(text))


def digits(text: str) -> float:
    """Share of the characters that are digits."""
    return _share(sum(map(str.isdigit, text)), len(text))


def capitals(text: str) -> float:
    """Share of the letters that are capital."""
    return _share(sum(map(str.isupper, text)), sum(map(str.isalpha, text)))


def symbols(text: str) -> float:
    """Share of the characters that are neither letter, digit nor white space."""
    return _share(sum(not (letter.isalnum() or letter.isspace()) for letter in text), len(text))


def beyond_ascii(text: str) -> float:
    """Share of the characters that are not ASCII."""
    return 0.0 if text.isascii() else _share(sum(letter > "\x7f" for letter in text), len(text))


def different_words(text: str) -> float:
    """Share of the words that are not said before, in any case."""
    said = text.casefold().split()
    return _share(len(set(said)), len(said))


def repeated_letters(text: str) -> float:
    """Share of the stretches of ten characters that occur more than once [R]."""
    return _repeated([text[place : place + STRETCH] for place in range(len(text) - STRETCH + 1)])


def repeated_words(text: str) -> float:
    """Share of the stretches of ten words that occur more than once, in any case [R]."""
    said = text.casefold().split()
    return _repeated([tuple(said[place : place + STRETCH]) for place in range(len(said) - STRETCH + 1)])


def repeated_lines(text: str) -> float:
    """Share of the lines that stand there before [R]."""
    found = _lines(text)
    return 1 - _share(len(set(found)), len(found)) if found else 0.0


def bullets(text: str) -> float:
    """Share of the lines that begin as an item of a list [R]."""
    found = _lines(text)
    return _share(sum(line.startswith(BULLETS) for line in found), len(found))


def trailing_off(text: str) -> float:
    """Share of the lines that end in an ellipsis [R]."""
    found = _lines(text)
    return _share(sum(line.endswith(("…", "...")) for line in found), len(found))


def links(text: str) -> float:
    """Addresses of pages."""
    return len(LINK.findall(text))


def finished(text: str) -> float:
    """1 if the last character ends a sentence, a quotation or a bracket, or there is none; else 0."""
    last = text.rstrip()[-1:]
    return float(not last or last in ENDS)


def open_fence(text: str) -> float:
    """1 if a block of code is opened and not closed, else 0."""
    return float(text.count("```") % 2)


STATISTICS: dict[str, Callable[[str], float]] = {
    function.__name__: function
    for function in (
        characters, words, lines, word_length, letters, digits, capitals, symbols, beyond_ascii, different_words, repeated_letters,
        repeated_words, repeated_lines, bullets, trailing_off, links, finished, open_fence,
    )
}  # fmt: skip


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _repeated(stretches: Sequence[object]) -> float:
    counts = Counter(stretches)
    return _share(sum(count for count in counts.values() if count > 1), len(stretches))


def in_words(name: str, part: str) -> str:
    """`characters of the answer`."""
    return f"{name.replace('_', ' ')} of the {part}"
