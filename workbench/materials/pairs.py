"""Preference rows: a better and a worse answer to the same, as the conversation with the better one and the turns of the worse one.

What it is: one row's columns to the two. What it is not: it does not decide which column is which (`formats.py`), nor whether the pair is
learnt as a pair: what is trained here learns the better answer, and an export gives both back. Kinds that are read: answers as texts
beside a prompt; as turns, with the prompt in a column of its own or as what both begin with; and as one text of "Human:" and "Assistant:".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.materials.turns import UnfitError, conversation, turns_of

SPOKEN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \t]?")
ROLES = {"Human": "user", "Assistant": "assistant"}
Turns = list[dict[str, Any]]


def pair(record: dict[str, Any], place: Mapping[str, str], used: set[str]) -> tuple[Turns, Turns]:
    """(the conversation with the better answer, the last turns with the worse one); the columns that were used are added to `used`.

    Raises:
        UnfitError: one of the two is empty, they are the same, or no question goes before them.
    """
    sides = [_told(record, place, side) for side in ("chosen", "rejected")]
    used.update(place.values())
    better, worse = (conversation({**record, place[side]: turns}, {**_rest(place), "messages": place[side]}, used)
                     for side, turns in zip(("chosen", "rejected"), sides, strict=True))  # fmt: skip
    shared = _alike(better, worse)
    if shared == len(better) or shared == len(worse):
        raise UnfitError("The better and the worse answer are the same.", "Remove the row, or mend one of them.", place["rejected"])
    return better, worse[shared:]


def _told(record: Mapping[str, Any], place: Mapping[str, str], side: str) -> Turns:
    """All turns of one side, the question's before the answer's."""
    value = record[place[side]]
    if isinstance(value, str) and "prompt" not in place:
        return _spoken(value, place[side])
    before = turns_of(record.get(place.get("prompt", "")), "user")
    return [*before, *turns_of(value, "assistant")]


def _spoken(text: str, column: str) -> Turns:
    parts = SPOKEN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise UnfitError(
            'The pair has no prompt, and its texts do not begin with "Human:".',
            'Add a column "prompt", or write the texts as "\\n\\nHuman: …\\n\\nAssistant: …".',
            column,
        )
    return [{"role": ROLES[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def _rest(place: Mapping[str, str]) -> dict[str, str]:
    return {role: column for role, column in place.items() if role == "system"}


def _alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many turns both begin with."""
    return next((number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
