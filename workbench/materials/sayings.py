"""Examples into records: how each form says a row, and why it cannot say another.

What it is: the way back of `formats.py`. What it is not: it writes no file (`writers.py`). A form that has no place for something a row
holds does not say the row at all; nothing is left out of a row in silence. The writers read back what is said, so what is forgotten here
is a refusal too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from workbench.materials.rows import Example
from workbench.materials.turns import BAD

Record = dict[str, Any]
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
MORE = {
    "tool_calls": "tool calls",
    "tool_call_id": "the id of a tool call",
    "name": "the name of a speaker",
    "reasoning_content": "reasoning apart from an answer",
    "train": "an answer that is not learnt",
}


class UnsayableError(Exception):
    """This row cannot be said in this form; the message goes on from "the row"."""


def messages(row: Example) -> Record:
    """OpenAI's form: a list of {role, content, …}; a turn that is not learnt has `train` false beside them."""
    return _beside({"messages": [dict(turn) for turn in _turns(row)]}, row.meta)


def sharegpt(row: Example) -> Record:
    turns = [{"from": SPEAKERS[turn["role"]], "value": turn["content"], **_rest(turn, "sharegpt", ("train",))} for turn in _turns(row)]
    return _beside({"conversations": turns}, row.meta)


def alpaca(row: Example) -> Record:
    """`input` stays empty: where a question ends and what it is about begins is not kept. All rows have all columns, as loaders want."""
    system, question, answer = _exchange(row, "alpaca")
    return _beside({"instruction": question, "input": "", "output": answer, "system": system or ""}, row.meta)


def prompt_completion(row: Example) -> Record:
    system, question, answer = _exchange(row, "prompt_completion")
    if system is not None:
        raise UnsayableError("has a system turn, for which prompt_completion has no place")
    return _beside({"prompt": question, "completion": answer}, row.meta)


def text(row: Example) -> Record:
    if not row.text:
        raise UnsayableError("is a conversation and no plain text")
    if row.learn:
        raise UnsayableError("says which places are learnt, which only segments can say")
    return _beside({"text": row.text}, row.meta)


def segments(row: Example) -> Record:
    """Pieces of a text with a label, learnt where it is true (axolotl's `input_output`)."""
    if not row.learn:
        what = "is a plain text that is learnt whole, which text can say" if row.text else "is a conversation and no text in segments"
        raise UnsayableError(what)
    pieces, at = list[Record](), 0
    for start, end in row.learn:
        pieces += [{"label": False, "text": row.text[at:start]}] if start > at else []
        pieces.append({"label": True, "text": row.text[start:end]})
        at = end
    pieces += [{"label": False, "text": row.text[at:]}] if row.text[at:] else []
    return _beside({"segments": pieces}, row.meta)


def preference(row: Example) -> Record:
    """The turns before both answers, those of the better and those of the worse one."""
    if not row.worse:
        raise UnsayableError("has no worse answer beside the better one")
    before = _parting(row)
    turns = [dict(turn) for turn in row.messages]
    if any(turn["role"] == "user" for turn in (*turns[before:], *row.worse)):
        raise UnsayableError("has answers that go over several questions, which prompt, chosen and rejected cannot keep apart")
    return _beside({"prompt": turns[:before], "chosen": turns[before:], "rejected": [dict(turn) for turn in row.worse]}, row.meta)


def any_kind(row: Example) -> Record:
    """Each row in the columns of its kind, for tables, in which a row may leave columns empty."""
    return SAYINGS[kind_of(row)](row)


def kind_of(row: Example) -> str:
    if row.worse:
        return "preference"
    return "messages" if row.messages else "segments" if row.learn else "text"


SAYINGS: dict[str, Callable[[Example], Record]] = {
    "messages": messages, "sharegpt": sharegpt, "alpaca": alpaca, "prompt_completion": prompt_completion, "preference": preference,
    "text": text, "segments": segments,
}  # fmt: skip


def _turns(row: Example) -> tuple[Record, ...]:
    if row.worse:
        raise UnsayableError("has a worse answer beside the better one, which only preference can say")
    if not row.messages:
        raise UnsayableError("is a plain text and no conversation")
    return row.messages


def _exchange(row: Example, form: str) -> tuple[str | None, str, str]:
    """(system, question, answer) of a row that is no more than that."""
    turns = list(_turns(row))
    system = turns.pop(0)["content"] if turns[0]["role"] == "system" else None
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"]:
        what = "more than one question and its answer" if len(roles) > 2 else "no question before its answer"
        raise UnsayableError(f"has {what}, which {form} cannot say")
    marked = ("train",) if any(row.meta.get(mark) is False for mark in BAD) else ()  # said by the column
    for turn in turns:
        _rest(turn, form, marked)
    return system, turns[0]["content"], turns[1]["content"]


def _rest(turn: Record, form: str, sayable: tuple[str, ...]) -> Record:
    """What a turn holds beside role and content."""
    rest = {key: value for key, value in turn.items() if key not in ("role", "content")}
    for key in rest:
        if key not in sayable:
            raise UnsayableError(f"has {MORE.get(key, repr(key))}, for which {form} has no place")
    return rest


def _parting(row: Example) -> int:
    """How many turns go before both answers: as many as leave the better one as many turns as the worse, where that can be."""
    first = row.worse[0]
    places = [
        place for place in range(1, len(row.messages)) if row.messages[place]["role"] == first["role"] and row.messages[place] != first
    ]
    usual = len(row.messages) - len(row.worse)
    if not places:
        raise UnsayableError("has a better and a worse answer that part nowhere")
    return usual if usual in places else places[-1]


def _beside(record: Record, meta: Mapping[str, Any]) -> Record:
    taken = next((name for name in record if name in meta), None)
    if taken is not None:
        raise UnsayableError(f"has a column {taken!r} of its own, which means something else in this form")
    return {**record, **meta}
