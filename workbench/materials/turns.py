"""Turns of a conversation as canonical messages: roles normalised, contents as text, tool calls and reasoning kept.

What it is: one row's columns to one list of {role, content, …}. What it is not: it does not decide which column is which
(`formats.py`). A row that cannot be a conversation with an answer raises `UnfitError` with the sentence of its reject.
"""

import json
from collections.abc import Mapping
from typing import Any

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "usr"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "ai", "chatgpt", "bing", "bard", "function_call"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "ipython", "function_response", "tool_response"), "tool"),
}
BAD = ("label", "kto_tag")  # columns of rows with one answer that say whether it is a good one; a bad one is kept and not learnt
KEPT_KEYS = ("name", "tool_calls", "tool_call_id", "reasoning_content")


class UnfitError(Exception):
    """This row cannot become an example; caught by `formats.py`, which makes a `Reject` of it."""

    def __init__(self, reason: str, remedy: str, column: str = ""):
        self.reason, self.remedy, self.column = reason, remedy, column
        super().__init__(reason)


def conversation(record: dict[str, Any], place: Mapping[str, str], used: set[str]) -> list[dict[str, Any]]:
    """The messages of a row whose columns are known by role; the columns that were used are added to `used`.

    Raises:
        UnfitError: no answer, an empty answer, an unknown role, a part that is not text.
    """
    used.update(place.values())
    if "messages" in place:
        turns = unpacked(record.get(place["messages"]))
        if not isinstance(turns, list):
            raise UnfitError("The conversation is not a list of turns.", 'Write it as [{"role": …, "content": …}, …].', place["messages"])
        messages = [_message(turn, number) for number, turn in enumerate(turns, start=1)]
        messages += _appended(record.get(place.get("answer", "")))
    elif "question" in place:
        messages = [_question(record, place)]
    else:
        messages = _history(record, used) + _exchange(record, place)
    system = as_text(record.get(place.get("system", "")))
    if system.strip() and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": system})
    if "question" not in place:
        _check_conversation(record, messages)
    return messages


def _exchange(record: dict[str, Any], place: Mapping[str, str]) -> list[dict[str, Any]]:
    """A question and its answer; either may itself be a list of turns. A context follows the question on a new line."""
    question, answer = unpacked(record.get(place["prompt"])), unpacked(record.get(place["answer"]))
    if _is_turns(question):
        asked = _appended(question)
    else:
        asked = [{"role": "user", "content": _with_context(record, place, as_text(record.get(place["prompt"])))}]
    said = _appended(answer) if _is_turns(answer) else [{"role": "assistant", "content": _first_answer(record[place["answer"]])}]
    if not any(_says(turn) for turn in said):
        raise UnfitError("The answer is empty, so there is nothing to learn.", "Fill it in or remove the row.", place["answer"])
    return [*asked, *said]


def _question(record: dict[str, Any], place: Mapping[str, str]) -> dict[str, Any]:
    """A question without an answer; of several turns the first, as the others follow on an answer."""
    asked = unpacked(record.get(place["question"]))
    asked = next(iter(asked), "") if isinstance(asked, list) else asked
    asked = asked.get("content", asked.get("value")) if isinstance(asked, dict) else asked
    if not as_text(asked).strip():
        raise UnfitError("The question is empty.", "Fill it in or remove the row.", place["question"])
    return {"role": "user", "content": _with_context(record, place, as_text(asked))}


def _with_context(record: dict[str, Any], place: Mapping[str, str], asked: str) -> str:
    parts = [asked, as_text(record.get(place.get("input", "")))]
    return "\n".join(part for part in parts if part.strip())


def turns_of(value: Any, role: str) -> list[Any]:
    """A text, one turn or a list of turns as a list of turns; a bare text is said by `role`."""
    value = unpacked(value)
    turns = value if isinstance(value, list) else [] if value is None else [value]
    return [turn if isinstance(turn, dict) else {"role": role, "content": turn} for turn in turns]


def _is_turns(value: Any) -> bool:
    if isinstance(value, str):
        return False
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in turns)


def _first_answer(answer: Any) -> str:
    """Of several right answers the first is learnt; SQuAD keeps them as {"text": [...], "answer_start": [...]}."""
    if isinstance(answer, dict) and isinstance(answer.get("text"), list):
        answer = answer["text"]
    if isinstance(answer, list) and all(isinstance(one, (str, int, float)) for one in answer):
        answer = answer[0] if answer else ""
    return as_text(answer)


def _history(record: dict[str, Any], used: set[str]) -> list[dict[str, Any]]:
    """Alpaca's earlier exchanges: [[question, answer], …]."""
    pairs = unpacked(record.get("history"))
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return []
    used.add("history")
    return [{"role": role, "content": as_text(said)} for pair in pairs for role, said in zip(("user", "assistant"), pair, strict=True)]


def _appended(answer: Any) -> list[dict[str, Any]]:
    """A mapped answer behind a conversation: a text, one turn, or a list of turns."""
    return [_message(turn, number) for number, turn in enumerate(turns_of(answer, "assistant"), start=1)]


def _message(turn: Any, number: int) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise UnfitError(f"Turn {number} is not an object with a role and a content.", 'Write it as {"role": …, "content": …}.')
    said = turn.get("role", turn.get("from"))
    role = ROLES.get(str(said).strip().lower())
    if role is None:
        raise UnfitError(f"Turn {number} has the unknown role {said!r}.", "Use system, user, assistant or tool.")
    message: dict[str, Any] = {"role": role}
    content = turn.get("content", turn.get("value", turn.get("text")))
    message["content"] = _from_parts(content, message, number) if isinstance(content, list) else as_text(content)
    for key in KEPT_KEYS:
        if turn.get(key):
            message[key] = unpacked(turn[key])
    if turn.get("train") is False or any(turn.get(key) == 0 for key in ("weight", "loss_weight")):
        message["train"] = False
    return message


def _from_parts(parts: list[Any], message: dict[str, Any], number: int) -> str:
    """Text parts joined; reasoning and tool calls go to their own keys, as chat templates expect them."""
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        value = part.get("text", part.get("value", part.get("content"))) if isinstance(part, dict) else part
        if kind in ("text", "input_text", "output_text"):
            texts.append(as_text(value))
        elif kind in ("reasoning", "thinking"):
            message["reasoning_content"] = as_text(value)
        elif kind == "tool_call":
            message.setdefault("tool_calls", []).append({"type": "function", "function": unpacked(value)})
        else:
            raise UnfitError(f"Turn {number} holds a part of type {kind!r}; only text can be learnt.", "Remove the row or that part.")
    return "".join(texts)


def _check_conversation(record: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    if not messages:
        raise UnfitError("The conversation is empty.", "Remove the row.")
    answers = [message for message in messages if message["role"] == "assistant"]
    if "chosen" in record and messages[-1]["role"] != "assistant":
        raise UnfitError(
            "The last answer is missing; it stands twice, in the columns chosen and rejected (preference data).",
            'To learn the better answers, say so: columns {"messages": …, "answer": "chosen"}.',
        )
    if not answers:
        raise UnfitError(
            "No turn of the conversation is the assistant's, so there is nothing to learn.", "Add an answer or remove the row."
        )
    if not all(_says(message) for message in answers):
        raise UnfitError("An answer of the conversation is empty.", "Fill it in or remove the row.")
    if any(record.get(mark) is False for mark in BAD):
        for message in answers:
            message["train"] = False


def _says(message: Mapping[str, Any]) -> bool:
    return bool(str(message["content"]).strip() or message.get("tool_calls") or message.get("reasoning_content"))


def unpacked(value: Any) -> Any:
    """JSON that stands as text in a column or a part (as it must in a CSV) as what it says; other text stays text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def as_text(value: Any) -> str:
    """A value as a person would write it; a text is never changed."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
