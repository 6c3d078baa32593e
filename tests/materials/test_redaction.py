"""Tags written into JSON: it stays JSON, and every letter outside of the tags is the one that stood there."""

import json
import random

import pytest

from workbench.materials.private import KINDS, found
from workbench.materials.redaction import Edit, Tags, redacted_json

ALL, CARD = tuple(KINDS), "4111111111111111"


def hide(text: str) -> list[Edit]:
    return [(hit.start, hit.end, f"<{hit.kind.upper()}>") for hit in found(text, ALL)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            '{"email":"a@b.com","price":1.10,"n":1e5,"big":1e400,"e":"\\u00e9"}\n',
            '{"email":"<EMAIL>","price":1.10,"n":1e5,"big":1e400,"e":"\\u00e9"}\n',
        ),
        ('\t{"x": 1, "x" :\t"a@b.com",\r\n\t"x": -0.0}', '\t{"x": 1, "x" :\t"<EMAIL>",\r\n\t"x": -0.0}'),
        ('["\\u00e9\\ud83d\\ude00\\/ \\ud83d a@b.com \\u00E9"]', '["\\u00e9\\ud83d\\ude00\\/ \\ud83d <EMAIL> \\u00E9"]'),
        ('["\\u0061@b.com\\u002c"]', '["<EMAIL>\\u002c"]'),
        ('["\\na@b.com\\\\", "\\"a@b.com\\""]', '["\\n<EMAIL>\\\\", "\\"<EMAIL>\\""]'),
        ('{"a": "{\\"b\\": \\"\\\\na@b.com\\", \\"c\\": 1.10}"}', '{"a": "{\\"b\\": \\"\\\\n<EMAIL>\\", \\"c\\": 1.10}"}'),
        (f"[1.10, {CARD}, [-1e5,{CARD}]]", '[1.10, "<CARD>", [-1e5,"<CARD>"]]'),
        (f'{{"a": "[{CARD}]"}}', '{"a": "[\\"<CARD>\\"]"}'),
        ('{"a@b.com": 1, "\\tc@b.com" : 2}', '{"<EMAIL>": 1, "\\t<EMAIL>" : 2}'),
        ("[" + "9" * 5000 + ', "\\na@b.com"]', "[" + "9" * 5000 + ', "\\n<EMAIL>"]'),
        ("{\"a\": 'a@b.com'}", "{\"a\": '<EMAIL>'}"),
    ],
)
def test_only_hits_are_written_over(said: str, expected: str) -> None:
    assert redacted_json(said, hide, whole=True) == expected
    assert redacted_json(expected, hide, whole=True) == expected


def test_names_and_numbers_stay_where_it_is_not_whole() -> None:
    said = f'{{"a@b.com" : {CARD}, "x": "a@b.com", "y": "{{\\"a@b.com\\":{CARD}}}"}}'
    assert redacted_json(said, hide, whole=False) == said.replace('"x": "a@b.com"', '"x": "<EMAIL>"')


VALUES = ["a@b.com", "+49 30 555 1234", "8.8.8.8", "é", "\n", "😀", "\\", '"', " x ", ""]


def drawn(rng: random.Random, depth: int = 0) -> object:
    """Objects and lists in one another, texts with hits, numbers, and JSON as a text."""
    kind = rng.randrange(7 if depth < 3 else 3)
    if kind == 0:
        return rng.choice([1, -2.5, 1e300, None, True, int(CARD)])
    if kind < 3:
        return "".join(rng.choices(VALUES, k=3))
    inside = [drawn(rng, depth + 1) for _ in range(rng.randrange(4))]
    held = inside if kind < 5 else {"".join(rng.choices(VALUES, k=2)) + str(at): item for at, item in enumerate(inside)}
    return held if kind % 2 else json.dumps(held, ensure_ascii=rng.random() < 0.5)


def plain(value: object, whole: bool) -> object:
    """The same by reading and taking apart, which keeps no letter."""
    if isinstance(value, list):
        return [plain(item, whole) for item in value]
    if isinstance(value, dict):
        return {said(name) if whole else name: plain(item, whole) for name, item in value.items()}
    if isinstance(value, str) and value[:1] in ("{", "["):
        return plain(json.loads(value), whole)
    return said(value) if isinstance(value, str) else "<CARD>" if whole and value == int(CARD) else value


def said(text: str) -> str:
    while edits := hide(text):
        for start, end, new in reversed(edits):
            text = text[:start] + new + text[end:]
    return text


def unfolded(value: object) -> object:
    """JSON inside of texts read too."""
    if isinstance(value, list):
        return [unfolded(item) for item in value]
    if isinstance(value, dict):
        return {name: unfolded(item) for name, item in value.items()}
    return unfolded(json.loads(value)) if isinstance(value, str) and value[:1] in ("{", "[") else value


@pytest.mark.parametrize("whole", [True, False])
def test_it_says_what_reading_and_redacting_each_text_says(whole: bool) -> None:
    rng = random.Random(0)
    for _ in range(400):
        value = [drawn(rng)]
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
        new = redacted_json(text, hide, whole)
        assert unfolded(json.loads(new)) == plain(value, whole), text
        assert redacted_json(new, hide, whole) == new


def test_what_goes_too_deep_is_a_text_and_numbered_tags_hold() -> None:
    deep = "[" * 100_000 + '"a@b.com"' + "]" * 100_000
    assert redacted_json(deep, hide, whole=True) == deep.replace("a@b.com", "<EMAIL>")
    tags = Tags(True)
    numbered = redacted_json('["a@b.com","c@b.com",{"a@b.com":1}]', lambda text: [
        (hit.start, hit.end, tags(hit.kind, text[hit.start : hit.end])) for hit in found(text, ALL)
    ], whole=True)  # fmt: skip
    assert numbered == '["<EMAIL_1>","<EMAIL_2>",{"<EMAIL_1>":1}]'
