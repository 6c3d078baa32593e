"""Rows that stand inside rows, and conversations as chat programs export them, each as an ordinary record.

What it is: one record to those that it holds. Several tries under one instruction (self-instruct), paragraphs with questions (SQuAD) or
one object around all become rows of their own, with the columns around them; a conversation of a ChatGPT or Claude export becomes messages.
What it is not: it decides on no format; which record is known, and which one inside fits, is asked of the caller.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from workbench.materials.records import Record

DEEPEST = 3  # levels that are opened
EXPORT = "These are conversations of a chat export. Of each the branch that was said last is read."
INSIDE = "The texts inside one column were read as columns of their own."
Known = Callable[[Mapping[str, Any]], bool]


def opened(row: Record, known: Known, fits: Known) -> tuple[list[Record], str]:
    """The records that a record holds, and what was opened in words; itself and an empty text where it is known as it is, or holds none
    that fits.

    A column of an inner record stands for one of the same name around it. All have the line of the record that they stood in.
    """
    if known(row.value):
        return [row], ""
    if (turns := _exported(row.value)) is not None:
        rest = {name: value for name, value in row.value.items() if name not in ("mapping", "chat_messages")}
        return [replace(row, value={**rest, "messages": turns})], EXPORT
    if texts := _in_one(row.value):
        return [replace(row, value=texts)], INSIDE
    column, found = _inside(row.value, fits, DEEPEST)
    return (
        ([replace(row, value=value) for value in found], f"There are rows inside rows, under {column!r}. Each was made a row.")
        if found
        else ([row], "")
    )


def _in_one(value: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the texts of its one object as columns, as in {"translation": {"de": …, "en": …}}; empty for any other row."""
    objects = [(name, inner) for name, inner in value.items() if isinstance(inner, dict)]
    if len(objects) != 1 or len(objects[0][1]) < 2 or not all(isinstance(text, str) for text in objects[0][1].values()):
        return {}
    name, inner = objects[0]
    return {**{other: item for other, item in value.items() if other != name}, **inner}


def _inside(value: Mapping[str, Any], fits: Known, levels: int) -> tuple[str, list[dict[str, Any]]]:
    """The first column whose objects, with what stands around them, can be read; and these."""
    for column, inner in value.items():
        objects = inner if isinstance(inner, list) else [inner]
        if not objects or not all(isinstance(one, dict) for one in objects):
            continue
        rest = {name: other for name, other in value.items() if name != column}
        merged = [{**rest, **one} for one in objects]
        if fits(merged[0]):
            return column, merged
        if levels > 1:
            deeper = [_inside(one, fits, levels - 1)[1] for one in merged]
            if any(deeper):
                return column, [one for found, whole in zip(deeper, merged, strict=True) for one in found or [whole]]
    return "", []


def _exported(value: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """The turns of an exported conversation; None for anything else."""
    if isinstance(value.get("chat_messages"), list):
        turns = [turn for turn in value["chat_messages"] if isinstance(turn, dict)]
        return [{"role": str(turn.get("sender")), "content": str(turn.get("text") or "")} for turn in turns if turn.get("text")]
    nodes = value.get("mapping")
    if not isinstance(nodes, dict) or not all(isinstance(node, dict) and "message" in node for node in nodes.values()):
        return None
    return _branch(nodes, str(value.get("current_node") or next(reversed(nodes), "")))


def _branch(nodes: Mapping[str, Mapping[str, Any]], last: str) -> list[dict[str, str]]:
    """From the last answer back to the first question. What was said to tools and by them, and pictures, is left out."""
    turns, seen = [], set[str]()
    while last in nodes and last not in seen:
        seen.add(last)
        message, last = nodes[last]["message"], str(nodes[last].get("parent"))
        if not isinstance(message, dict) or message.get("recipient", "all") != "all":
            continue
        who, what = message.get("author"), message.get("content")
        role = who.get("role") if isinstance(who, dict) else None
        parts = what.get("parts") if isinstance(what, dict) else None
        text = "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
        if role in ("user", "assistant") and text.strip():
            turns.append({"role": str(role), "content": text})
    return turns[::-1]
