"""Rows as people have them, drawn by chance, and what becomes of rows that are written and read again."""

import json
import random
from pathlib import Path
from typing import Any

from workbench.core.job import drain
from workbench.materials.formats import read
from workbench.materials.rows import Example
from workbench.materials.writers import FORMS

CALL = {"id": "7", "type": "function", "function": {"name": "sum", "arguments": {"a": 1, "b": [1.0, None]}}}


def chat(*said: str, **meta: Any) -> Example:
    """user, assistant, user, … by turns."""
    return Example(tuple({"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(said)), meta=meta)


def written(rows: list[Example], form: str, folder: Path) -> tuple[list[Example], dict[int, str], list[str]]:
    """(what is read back, number → why it was refused, what was told)."""
    refused, place = dict[int, str](), folder / FORMS[form].file
    told = drain(FORMS[form].write(rows, place, lambda number, _, why: refused.__setitem__(number, why)))
    back = list(read(place)) if len(refused) < len(rows) else []
    assert all(isinstance(row, Example) for row in back), [row for row in back if not isinstance(row, Example)]
    assert [path.name for path in folder.iterdir()] == [place.name], "nothing is left beside it"
    return back, refused, told


TEXTS = [
    "Hi",
    "=1+1",
    "- a\n- b",
    "@you",
    "-5",
    "é 日本 😀",
    '"q"\r\n\tx',
    " ",
    "'+' is plus",
    '[{"role": "user"}]',
    '{"a": 1}',
    "[x",
    "a,b;c",
    "\u2028\x85",
]
VALUES = [
    1,
    2**70,
    -3,
    1.0,
    1e300,
    True,
    False,
    None,
    "",
    "x",
    "=cmd|' /C calc'!A0",
    [],
    [1, "a"],
    {},
    {"b": {"c": None}},
    [[1], None],
    "null",
    "1",
]
NAMES = [
    "topic",
    "label",
    "kto_tag",
    "Messages",
    "text",
    "prompt",
    "input",
    "system",
    "history",
    " a",
    "=x",
    "a;;;;;;;;;\nb",
    'q"q',
    "a;b;c;d",
    "tools",
    "chosen",
    "id",
]


def drawn(rng: random.Random) -> dict[str, Any]:
    def said(role: str) -> dict[str, Any]:
        turn = {"role": role, "content": rng.choice(TEXTS) + rng.choice(["", "!"])}
        if rng.random() < 0.3:
            more = {"name": "[1]", "tool_calls": [CALL], "tool_call_id": "7", "reasoning_content": "so", "train": False, "weight": 0}
            turn |= dict([rng.choice(list(more.items()))])
        return turn

    turns = [said("user"), said("assistant"), *([said("tool"), said("assistant")] if rng.random() < 0.3 else [])]
    turns = [*([said("system")] if rng.random() < 0.3 else []), *turns]
    other = [[*turns[:-1], said("assistant")], [said("assistant")], [said("assistant"), said("user"), said("assistant")]]
    question, answer = rng.choice(TEXTS), rng.choice(TEXTS)
    record = rng.choice([
        {"messages": turns},
        {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
        {"instruction": question, "input": rng.choice(["", "this"]), "output": answer, "system": rng.choice(["", "Be brief."])},
        {"instruction": question, "output": answer, "history": [["1?", "one"]]},
        {"prompt": question, "completion": answer},
        {"prompt": question, "completion": answer, "label": rng.random() < 0.5},
        {"text": question + answer},
        {"segments": [{"label": rng.random() < 0.6, "text": rng.choice([*TEXTS, ""])} for _ in range(rng.randint(1, 4))]},
        {"prompt": question, "chosen": answer, "rejected": rng.choice(TEXTS)},
        {"prompt": turns[:-1], "chosen": turns[-1:], "rejected": rng.choice(other[1:])},
        {"chosen": turns, "rejected": other[0]},
    ])  # fmt: skip
    return {**{name: rng.choice(VALUES) for name in rng.sample(NAMES, rng.choice([0, 0, 1, 2]))}, **record}


def generated(seed: int, number: int, folder: Path) -> list[Example]:
    """Rows by way of the reader, so that they are as rows are."""
    path, rng = folder / "rows.jsonl", random.Random(seed)
    path.write_text("".join(json.dumps(drawn(rng)) + "\n" for _ in range(number)))
    rows = [row for row in read(path) if isinstance(row, Example)]
    path.unlink()
    assert len(rows) > number / 2
    return rows
