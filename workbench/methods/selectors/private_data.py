"""Private data: addresses, numbers and keys of people. No paper; how each kind is told stands in `materials/private.py`,
how tags are put in its place in `materials/redaction.py`.

Tags as in the project's notes: [R] read in other tools' code, [V] measured by us, [O] our own choice.
"""

import re
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.words import count
from workbench.materials.around import Around
from workbench.materials.private import KINDS, found
from workbench.materials.redaction import Edit, Hide, Tags, redacted, redacted_json
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

SPOKEN = ("content", "reasoning_content")


class PrivateData(Selector, title="Private data"):
    """Put a tag in the place of e-mail addresses, telephone numbers, keys and the like, or drop the rows that hold any.

    Found by their form, and checked where there is a check: cards by Luhn's sum, bank accounts by mod 97, internet addresses by whether
    they can be reached from everywhere, web addresses by the password in them. A telephone number has a country's code or is grouped as one
    (0123456789 alone is a number). The score of a row is how many hits it has.

    Looked at are what the turns say, the worse answers of pairs, plain texts, and the arguments of tool calls. Where they are JSON, tags
    are written into its texts and all else stays letter by letter. The names of its fields are looked at too, and a number that is a hit
    becomes a text; not so in arguments, where names and numbers stay as the tool wants them. Other columns are left alone: they are not
    learnt. Names and streets are not found; that takes a model that reads, and a list of names does harm. Numbers that look like one are
    tagged too: in a data set of serial numbers, look first.

    A tag is what the model learns to write: with `numbered`, two people stay apart within a row. Replacing drops no row. 45 µs of one core
    for 1,000 characters [V].

    Source: the kinds are those of datatrove, Data-Juicer and Presidio [R]; the patterns are ours [O]. No paper.
    """

    mends, finds = ("private data",), ("holds an address, a number or a key", "hold an address, a number or a key")

    do: Literal["replace", "drop"] = knob("replace", help="put tags in its place, or drop the rows that hold any")
    kinds: str = knob("", help="what is looked for: email, phone, card, iban, ssn, ip, key, mac, url; empty looks for all")
    tags: Literal["plain", "numbered"] = knob("plain", help="<EMAIL>, or <EMAIL_1> and <EMAIL_2>: one for each address within a row")

    def wanted(self) -> tuple[str, ...]:
        """The kinds; a `WorkbenchError` names those that there are not."""
        kinds = tuple(re.findall(r"\w+", self.kinds.lower())) or tuple(KINDS)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise WorkbenchError(f"kinds names {', '.join(unknown)}, which cannot be found. There are: {', '.join(sorted(KINDS))}.")
        return kinds

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        kinds, scores, reasons, changed = self.wanted(), list[float](), dict[int, str](), dict[int, Example]()
        for index, example in enumerate(examples):
            if index % 200 == 0:
                yield Progress(index, len(examples), "rows read")
            row, hits = without_private(example, kinds, self.tags == "numbered")
            scores.append(hits.total())
            if hits and self.do == "drop":
                reasons[index] = "holds " + ", ".join(count(number, *_words(kind)) for kind, number in hits.items())
            elif hits:
                changed[index] = row
        cuts = (0.5,) if reasons and len(reasons) < len(scores) else ()
        kept = [index not in reasons for index in range(len(scores))]
        return Selection(kept, reasons, scores, cuts, "private data found", changed)


def _words(kind: str) -> tuple[str, str]:
    """What a kind is in words, one and many."""
    what = KINDS[kind][0]
    many = {
        "email": "e-mail addresses",
        "ip": "internet addresses",
        "url": "web addresses with a password",
        "mac": "numbers of network cards",
    }
    return what, many.get(kind, what + "s")


def without_private(example: Example, kinds: Sequence[str], numbered: bool) -> tuple[Example, Counter[str]]:
    """The row with tags, and how many hits there were of each kind."""
    counts, tags = Counter[str](), Tags(numbered, f"{example.messages}{example.worse}{example.text}" if numbered else "")

    def hide(text: str) -> list[Edit]:
        hits = found(text, kinds)
        counts.update(hit.kind for hit in hits)
        return [(hit.start, hit.end, tags(hit.kind, text[hit.start : hit.end])) for hit in hits]

    text, hits, learn = redacted(example.text, kinds, tags, example.learn)
    counts.update(hits)
    messages, worse = (tuple(_turn(turn, hide) for turn in turns) for turns in (example.messages, example.worse))
    return (replace(example, messages=messages, worse=worse, text=text, learn=learn) if counts else example), counts


def _turn(turn: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    spoken = {key: _said(turn[key], hide, whole=True) for key in SPOKEN if key in turn}
    calls = turn.get("tool_calls")
    called = {"tool_calls": [_called(call, hide) for call in calls]} if isinstance(calls, list) else {}
    return {**turn, **spoken, **called}


def _called(call: Any, hide: Hide) -> Any:
    """A tool call with its arguments redacted, which are an object or JSON as text; names and ids stay."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or "arguments" not in function:
        return call
    return {**call, "function": {**function, "arguments": _said(function["arguments"], hide, whole=False)}}


def _said(value: Any, hide: Hide, whole: bool) -> Any:
    """All texts inside of a value redacted; where it is `whole`, the names of fields and the numbers too."""
    if isinstance(value, str):
        return redacted_json(value, hide, whole)
    if isinstance(value, list):
        return [_said(item, hide, whole) for item in value]
    if isinstance(value, dict):
        return _fields(value, hide, whole)
    if whole and isinstance(value, int):
        new = redacted_json(str(value), hide, whole)
        return value if new == str(value) else new
    return value


def _fields(fields: Mapping[str, Any], hide: Hide, whole: bool) -> dict[str, Any]:
    """The fields of an object; of two that have one name then, the second gets a longer one, for none may be lost."""
    new = dict[str, Any]()
    for name, item in fields.items():
        called = redacted_json(name, hide, whole) if whole else name
        while called in new:
            called += "_"
        new[called] = _said(item, hide, whole)
    return new
