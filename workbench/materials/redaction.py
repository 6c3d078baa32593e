"""Tags in the place of private data: in a text with spans in it, and in a text that is JSON, which stays JSON.

What it is: what to write over what `private.found` finds, again and again until it finds nothing, and where the rest has moved. What it is
not: it knows no rows (`selectors/private_data.py`), and it writes no JSON anew: it writes over the letters that are a hit, so that all
others (1.10, names given twice, indents) stay as they are. [O].

The law: nothing is found in what was redacted, with the same kinds, and what stands outside of the tags is what stood there.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from workbench.materials.private import Hit, Span, found

Tag = Callable[[str, str], str]  # (kind, value) → what stands in its place
Edit = tuple[int, int, str]  # characters [start, end) and what is written over them
Hide = Callable[[str], list[Edit]]  # the hits of a text and their tags

NUMBERS = ("phone", "card", "iban")  # the same with other spaces
NUMBERED = re.compile(r"<[A-Z]+_\d+>")
TOKEN = re.compile(r'(?P<text>"(?:[^"\\]++|\\.)*+")(?P<name>\s*:)?|-?\d[\d.eE+-]{7,}', re.A)  # of JSON: texts and long numbers
LETTER = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|.", re.S)  # one letter as JSON writes it


def redacted(text: str, kinds: Sequence[str], tag: Tag, spans: Sequence[Span] = ()) -> tuple[str, Counter[str], tuple[Span, ...]]:
    """The text with a tag for each hit, how many there were of each kind, and where the characters of `spans` are then.

    A tag lies in a span where any of what it stands for did; spans that meet in a tag are one.
    """
    counts = Counter[str]()
    while hits := found(text, kinds):
        text, spans = _tagged(text, hits, tag, spans)
        counts.update(hit.kind for hit in hits)
    return text, counts, tuple(spans)


def _tagged(text: str, hits: Sequence[Hit], tag: Tag, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    pieces, places, at, length = list[str](), list[tuple[Hit, Span]](), 0, 0
    for hit in hits:
        value = tag(hit.kind, text[hit.start : hit.end])
        start = length + hit.start - at
        places.append((hit, (start, start + len(value))))
        pieces += [text[at : hit.start], value]
        at, length = hit.end, start + len(value)
    return "".join([*pieces, text[at:]]), _joined([(_moved(start, places, 0), _moved(end, places, 1)) for start, end in spans])


def _moved(edge: int, places: Sequence[tuple[Hit, Span]], side: int) -> int:
    """Where an edge between two characters has gone; inside of a hit the first edge (0) goes before the tag, the last (1) behind it."""
    shift = 0
    for hit, tag in places:
        if edge <= hit.start:
            break
        if edge < hit.end:
            return tag[side]
        shift = tag[1] - hit.end
    return edge + shift


def _joined(spans: Sequence[Span]) -> list[Span]:
    joined = list[Span]()
    for start, end in spans:
        if joined and start < joined[-1][1]:
            first, last = joined.pop()
            start, end = first, max(last, end)
        joined.append((start, end))
    return joined


def redacted_json(text: str, hide: Hide, whole: bool) -> str:
    """A text with its hits written over; where it is JSON, inside of its texts.

    `whole`: the names of fields and numbers too; a number becomes a text. Without, they stay.
    """
    while edits := _edits(text, hide, whole):
        pieces, at = list[str](), 0
        for start, end, new in edits:
            pieces += [text[at:start], new]
            at = end
        text = "".join([*pieces, text[at:]])
    return text


def _edits(text: str, hide: Hide, whole: bool) -> list[Edit]:
    if not _is_json(text):
        return hide(text)
    edits = list[Edit]()
    for token in TOKEN.finditer(text):
        if token["text"] is not None and (whole or not token["name"]):
            inside = _edits(json.loads(token["text"]), hide, whole)
            edits += _as_written(token["text"], token.start(), inside) if inside else []
        elif token["text"] is None and whole:
            edits += [(*token.span(), f'"{new}"') for _, _, new in hide(token[0])[:1]]
    return edits


def _is_json(text: str) -> bool:
    """Whether a text is an object or a list; what goes too deep to be read is a text like another."""
    try:
        return text.lstrip()[:1] in ("{", "[") and json.loads(text, parse_int=str) is not None
    except (ValueError, RecursionError):
        return False


def _as_written(literal: str, at: int, edits: Sequence[Edit]) -> list[Edit]:
    """Edits of what a text of JSON says, as edits of how it is written, from character `at` on."""
    last = len(literal) - 1
    places = [at + letter.start() for letter in LETTER.finditer(literal, 1, last)] + [at + last]
    return [(places[start], places[end], json.dumps(new)[1:-1]) for start, end, new in edits]


class Tags:
    """The tags of one row: `<EMAIL>`, or numbered, `<EMAIL_1>`: the same for the same value, and none that the row holds already."""

    def __init__(self, numbered: bool, row: str = ""):
        self._numbered, self._taken = numbered, frozenset(NUMBERED.findall(row)) if numbered else frozenset()
        self._given, self._last = dict[tuple[str, str], str](), Counter[str]()

    def __call__(self, kind: str, value: str) -> str:
        if not self._numbered:
            return f"<{kind.upper()}>"
        same = kind, "".join(filter(str.isalnum, value)) if kind in NUMBERS else value.casefold()
        while same not in self._given:
            self._last[kind] += 1
            name = f"<{kind.upper()}_{self._last[kind]}>"
            if name not in self._taken:
                self._given[same] = name
        return self._given[same]
