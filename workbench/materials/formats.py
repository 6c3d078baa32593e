"""Records into examples: which columns are the question, the answer, the conversation or the text.

What it is: the canonical row. Each row is read in its own format, so a file of mixed formats loads whole where every row can be
recognised; a row that cannot is a `Reject` with its reason. What it is not: it opens no file (`readers.py`) and knows no tokens
(`templates.py`). Formats, in the order in which they are tried (column names in any case):

    preference          chosen and rejected, with or without a prompt: the better answer is learnt, the worse one kept beside it
    segments            a list of {label, text} under segments, learnt where the label is true, without any template
    messages            a list of {role, content} under messages, conversation(s), dialogue, dialog or chat
    sharegpt            the same with {from, value}
    alpaca              instruction (+ input or context, system, history) and output or response
    kto                 prompt_completion with label or kto_tag true or false: a bad answer is kept and not learnt
    prompt_completion   prompt, question, query, instruction or input; and completion, response, answer(s), output or target
    text                text or content
    questions           a column that is said to be the question (`columns`): to be asked, as nothing can be learnt from it

Where no row has a known format the columns are guessed (`guessing.py`), rows inside rows are rows (`nested.py`), and both are told
(`hints`). Roles are normalised (human → user, gpt → assistant, observation → tool …) and contents made of parts become text. A sharegpt
`function_call` turn becomes an assistant turn that says the call. A turn with `train: false` or weight 0 is kept and not learnt. Every
other column goes to `meta`, untouched.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.materials import encodings
from workbench.materials import records as rec
from workbench.materials.guessing import Guess, Hint, guess, headless, unused
from workbench.materials.nested import opened
from workbench.materials.pairs import pair
from workbench.materials.readers import records
from workbench.materials.records import CONVERSATIONS, Record, reject
from workbench.materials.rows import QUESTIONS, Example, Reject
from workbench.materials.turns import BAD, UnfitError, as_text, conversation, unpacked

PROMPTS = ("prompt", "question", "query", "instruction", "input")
ANSWERS = ("completion", "response", "answer", "answers", "output", "target")
BETTER, WORSE = ("chosen", "chosen_messages", "response_j"), ("rejected", "rejected_messages", "response_k")
EMPTY = (None, "", [], {})
CONTEXTS = ("input", "context")
TEXTS = ("text", "content")
ASKED = ("prompt", "answer", "input", "system", "text", "messages", "question")  # the roles that `columns` can give
SAMPLE = 200  # rows that are looked at to tell whether a mapped column exists
UNANSWERED = "Add a column with the answers. To ask models in Compare instead, say which column is the question when you bring it in."
HINT = 'Say which column is which, for example columns {"prompt": "q", "answer": "a"}, or {"text": "story"}.'


def read(path: Path, columns: Mapping[str, str] = {}) -> Iterator[Example | Reject]:
    """Every row of the file, in order, as an `Example` or a `Reject`.

    Args:
        path: a .jsonl, .json, .csv, .tsv, .parquet, .txt or .md file; JSON and text may be gzipped.
        columns: role → column where detection is wrong. Roles: prompt, answer, input, system, text, messages, question; with
            `messages`, an `answer` column is put behind as the last turn (so that preference rows can be learnt from).

    Raises:
        WorkbenchError: the file is missing, empty, damaged as a whole or of an unknown kind; a mapped column that no row
            has; a role that there is not.
    """
    _check_roles(columns)
    rows = (row for row, _ in opened_rows(path, columns))
    first = list(islice(rows, SAMPLE))
    if not first:
        raise WorkbenchError(f"{path.name} is empty: there is no row in it. Choose another file.")
    sample = [row.value for row in first if isinstance(row, Record)]
    _check_columns(path.name, columns, sample)
    guessed = None if columns else guess_of(sample)
    for row in chain(first, rows):
        yield understood(path.name, row, guessed.columns if guessed else columns)


def hints(path: Path, columns: Mapping[str, str] = {}) -> list[Hint]:
    """What a person should know of how `read` reads the file: its encoding, rows inside rows, columns that are guessed or left unused."""
    found = list(islice(opened_rows(path, columns), SAMPLE))
    sample = [row.value for row, _ in found if isinstance(row, Record)]
    told = [Hint(encodings.SAYS)] if rec.is_western(path) else []
    told += [Hint(words) for words in dict.fromkeys(words for _, words in found if words)]
    if rec.kind_of(path) == rec.TABLE and (odd := headless(list(sample[0]) if sample else [])):
        told.append(odd)
    if columns or not sample:
        return told
    if guessed := guess_of(sample):
        return [*told, guessed.hint()]
    beside = unused(sample, _filled(sample[0], _names(sample[0]), TEXTS)) if all(format_of(row) == "text" for row in sample) else None
    return [*told, *([beside] if beside else [])]


def guess_of(sample: Sequence[Mapping[str, Any]]) -> Guess | None:
    """Which column is which where no row of the sample has a known format."""
    return None if not sample or any(map(_is_known, sample)) else guess(sample)


def opened_rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Record | Reject, str]]:
    """Every row of the file, those inside rows too, and of these what was opened."""
    mapped = set(columns.values())
    tests = (mapped.issubset, mapped.issubset) if columns else (_is_known, _is_exchange)
    for row in records(path):
        inner, words = opened(row, *tests) if isinstance(row, Record) and (not columns or "answer" in columns) else ([row], "")
        yield from ((one, words) for one in inner)


def _is_exchange(value: Mapping[str, Any]) -> bool:
    """Whether the row has an answer: what holds a text alone may be a turn, or a note."""
    return format_of(value) not in ("", "text")


def _is_known(value: Mapping[str, Any]) -> bool:
    """Whether the row has a format. A talk that stands as one text is none: it is what a summary is of."""
    name = format_of(value)
    if name != "messages":
        return bool(name)
    talk = _filled(value, _names(value), CONVERSATIONS)
    return talk.lower() == "messages" or not isinstance(unpacked(value[talk]), str)


def detect(records: Sequence[Mapping[str, Any]]) -> str:
    """The format most of these rows have.

    Raises:
        WorkbenchError: no row has a known format; the message names the columns there are.
    """
    found = Counter(name for record in records if (name := format_of(record)))
    if not found:
        raise WorkbenchError(f"None of the known formats fits the columns {_listed(records)}. {HINT}")
    return found.most_common(1)[0][0]


def format_of(record: Mapping[str, Any]) -> str:
    """The format of one row, or an empty string."""
    names = _names(record)
    if _filled(record, names, BETTER) and _filled(record, names, WORSE):
        return "preference"
    if "segments" in names and isinstance(unpacked(record[names["segments"]]), list):
        return "segments"
    turns = _filled(record, names, CONVERSATIONS)
    if turns:
        value = unpacked(record[turns])
        head = value[0] if isinstance(value, list) and value else {}
        return "sharegpt" if isinstance(head, dict) and "from" in head and "role" not in head else "messages"
    prompt, answer = _filled(record, names, PROMPTS), _filled(record, names, ANSWERS)
    if "instruction" in names and ("output" in names or ("response" in names and "input" in names)):
        return "alpaca"
    if prompt and answer:
        return "kto" if any(mark in names and isinstance(record[names[mark]], bool) for mark in BAD) else "prompt_completion"
    return "text" if _filled(record, names, TEXTS) else ""


def _check_roles(columns: Mapping[str, str]) -> None:
    unknown = sorted(set(columns) - set(ASKED))
    if unknown:
        raise WorkbenchError(f"columns names the role {unknown[0]!r}, which there is not. The roles are {', '.join(ASKED)}.")


def _check_columns(source: str, columns: Mapping[str, str], sample: list[dict[str, Any]]) -> None:
    for role, column in columns.items():
        if sample and not any(column in record for record in sample):
            raise WorkbenchError(
                f"{source} has no column {column!r} (asked for as the {role}). Its columns are {_listed(sample)}. Choose one of them."
            )


def _listed(sample: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(str(name) for record in sample for name in record))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "(none)"


def understood(source: str, row: Record | Reject, columns: Mapping[str, str] = {}) -> Example | Reject:
    """One record as an example, or why it cannot be one."""
    if isinstance(row, Reject):
        return row
    try:
        return _example(source, row, columns)
    except UnfitError as error:
        return reject(source, row.line, error.reason, error.remedy, row.raw, error.column)


def _example(source: str, row: Record, columns: Mapping[str, str]) -> Example:
    record, used = row.value, set[str]()
    name, place = _place(record, columns)
    text, messages, worse, learn = "", list[dict[str, Any]](), list[dict[str, Any]](), list[tuple[int, int]]()
    if name == "text":
        used.add(place["text"])
        text = as_text(record.get(place["text"]))
        if not text.strip():
            raise UnfitError("The text is empty.", "Remove the row.", place["text"])
    elif name == "segments":
        text, learn = _segments(record, place["segments"])
        used.add(place["segments"])
    elif name == "preference":
        messages, worse = pair(record, place, used)
    else:
        messages = conversation(record, place, used)
    meta = {column: value for column, value in record.items() if column not in used}
    return Example(tuple(messages), text, source, row.line, name, meta, tuple(worse), tuple(learn))


def _segments(record: Mapping[str, Any], column: str) -> tuple[str, list[tuple[int, int]]]:
    """The texts of all segments one behind the other, and the places of those that are learnt."""
    text, learn = "", list[tuple[int, int]]()
    for number, segment in enumerate(unpacked(record[column]), start=1):
        if not isinstance(segment, dict) or not isinstance(segment.get("text"), str) or not isinstance(segment.get("label"), bool):
            raise UnfitError(f"Segment {number} is not a text with a label.", 'Write it as {"label": true or false, "text": …}.', column)
        if segment["label"] and segment["text"]:
            learn.append((len(text), len(text) + len(segment["text"])))
        text += segment["text"]
    if not learn:
        raise UnfitError("No segment is marked to be learnt.", "Set the label of what should be learnt to true.", column)
    return text, learn


def _place(record: dict[str, Any], columns: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The row's format, and the column of each role in it."""
    names = _names(record)
    if columns:
        return _mapped(record, names, columns)
    name = format_of(record)
    said = next((names[key] for key in ("system", "system_prompt") if key in names), "")
    system = {"system": said} if said else {}
    if name == "segments":
        return name, {"segments": names["segments"]}
    if name == "preference":
        return name, {**_two(record, names), **system}
    if name in ("messages", "sharegpt"):
        return name, {"messages": _filled(record, names, CONVERSATIONS), **system}
    if name == "text":
        return name, {"text": _filled(record, names, TEXTS)}
    if not name:
        raise _unrecognised(record, names)
    return name, {**_pair(record, names, name), **system}


def _pair(record: dict[str, Any], names: Mapping[str, str], name: str) -> dict[str, str]:
    prompt = names["instruction"] if name == "alpaca" else _filled(record, names, PROMPTS)
    answer = _filled(record, names, ("output", "response") if name == "alpaca" else ANSWERS)
    answer = answer or names.get("output", "") or names.get("response", "")
    context = next((names[key] for key in CONTEXTS if key in names and names[key] != prompt), "")
    return {"prompt": prompt, "answer": answer, **({"input": context} if context else {})}


def _two(record: dict[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """The columns of a pair, and of what goes before both answers, where that stands apart."""
    place = {"chosen": _filled(record, names, BETTER), "rejected": _filled(record, names, WORSE)}
    whole = _is_whole(record[place["chosen"]])
    before = "" if whole else _filled(record, names, CONVERSATIONS) or _filled(record, names, PROMPTS)
    return {**place, **({"prompt": before} if before else {})}


def _is_whole(answer: Any) -> bool:
    """Whether a better answer is a conversation of its own, with the question in it."""
    turns = unpacked(answer)
    asked = (turn.get("role", turn.get("from")) for turn in turns if isinstance(turn, dict)) if isinstance(turns, list) else ()
    return any(str(who).lower() in ("user", "human") for who in asked)


def _mapped(record: dict[str, Any], names: Mapping[str, str], columns: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    missing = [column for role, column in columns.items() if column not in record and role not in ("input", "system")]
    if missing:
        raise UnfitError(f"The row has no column {missing[0]!r}.", "Add it, or map another column.", missing[0])
    for role, name in (("messages", "messages"), ("text", "text"), ("question", QUESTIONS)):
        if role in columns:
            return name, dict(columns)
    pair = {"prompt": _filled(record, names, PROMPTS), "answer": _filled(record, names, ANSWERS), **columns}
    for role, taken in (("prompt", "answer"), ("answer", "prompt")):
        if not pair[role] or pair[role] == columns.get(taken):
            raise UnfitError(f"The columns say what the {taken} is, but no column is known to be the {role}.", HINT, columns.get(taken, ""))
    return "prompt_completion", {role: column for role, column in pair.items() if column in record}


def _unrecognised(record: dict[str, Any], names: Mapping[str, str]) -> UnfitError:
    if "turns" in names or _filled(record, names, PROMPTS):
        return UnfitError("The row asks something, and no column holds an answer.", UNANSWERED)
    return UnfitError(f"No known format has the columns {_listed([record])}.", HINT)


def _names(record: Mapping[str, Any]) -> Mapping[str, str]:
    """Column names as they are compared (lower case, underscores) → as they are written."""
    return _compared(tuple(record))


@functools.lru_cache(maxsize=64)
def _compared(columns: tuple[str, ...]) -> Mapping[str, str]:
    """The same for all rows that have these columns."""
    return {str(name).strip().lower().replace(" ", "_"): name for name in reversed(columns)}


def _filled(record: Mapping[str, Any], names: Mapping[str, str], wanted: Sequence[str]) -> str:
    """The first wanted column that holds something, else the first that exists, else an empty string."""
    first = ""
    for name in wanted:
        if name in names:
            if record[names[name]] not in EMPTY:
                return names[name]
            first = first or names[name]
    return first
