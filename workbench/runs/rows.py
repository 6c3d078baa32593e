"""From events to whole frames: what a batch of events means for each table. Knows no database and no thread.

An event is checked and made plain where it is said (`hear`, on the job's own thread), so that what reaches the writing
thread can always be written; there `Batch` sorts many of them into rows.
"""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import pyarrow as pa

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Measured, Noted, Said, Status, Table
from workbench.runs.records import Standing

_WHEN = pa.timestamp("us")
FRAMES: dict[str, pa.Schema] = {
    "metrics": pa.schema(
        [("run", pa.int32()), ("seq", pa.int64()), ("name", pa.string()), ("step", pa.int64()), ("value", pa.float64()), ("wall", _WHEN)]
    ),
    "said": pa.schema(
        [("run", pa.int32()), ("seq", pa.int64()), ("step", pa.int64())]
        + [(name, pa.string()) for name in ("speaker", "prompt", "answer", "tokens")]
        + [("wall", _WHEN)]
    ),
    "tables": pa.schema([("run", pa.int32()), ("name", pa.string()), ("head", pa.string()), ("body", pa.string()), ("wall", _WHEN)]),
    "made": pa.schema([("run", pa.int32()), ("what", pa.string()), ("path", pa.string()), ("step", pa.int64()), ("wall", _WHEN)]),
    "notes": pa.schema([("run", pa.int32()), ("level", pa.string()), ("text", pa.string()), ("wall", _WHEN), ("step", pa.int64())]),
}
"""Column order and types of each table's frame; the same order as in `schema.py`."""

KEYS: dict[str, tuple[str, ...]] = {
    "metrics": ("run", "name", "step"),
    "said": ("run", "step", "speaker", "prompt"),
    "tables": ("run", "name"),
    "made": ("run", "what", "path"),
}
"""What names the same thing twice: a later row takes the place of an earlier one (of an earlier try, for metrics and said)."""

_CODES = {pa.int32(): "i", pa.int64(): "q", pa.float64(): "d"}
_ZERO = datetime(1970, 1, 1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Marked:
    """Not an event of a job: the runner says what has become of the run."""

    status: Status


@dataclass(frozen=True)
class Heard:
    """One event of run `number`, checked, with the moment it was said and its nested part as JSON."""

    number: int
    event: Event | Marked
    wall: datetime
    body: str = ""


def now() -> datetime:
    """This moment in UTC, without a zone, as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def hear(number: int, event: Event | Marked) -> Heard:
    """The event made plain; what cannot be kept (a value that is no number) is an error here, at the one who says it."""
    wall = now()
    match event:
        case Measured():
            values = {plain(name): _number(name, value) for name, value in event.values.items()}
            return Heard(number, Measured(_whole(event.step), values), wall)
        case Said():
            return Heard(number, event, wall, plain(json.dumps(event.tokens, default=str)))
        case Table():
            return Heard(number, event, wall, plain(json.dumps(event.rows, default=str)))
    return Heard(number, event, wall)


def plain(text: str) -> str:
    """`text` without the halves of characters (from file names in another encoding) that no database can keep."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise WorkbenchError(f"The run measured {name!r} as {value!r}, which is not a number, so it cannot be kept.") from error


def _whole(step: int) -> int:
    if not -(2**63) <= int(step) < 2**63:
        raise WorkbenchError(f"The run reported step {step}, which is too large to be kept.")
    return int(step)


@dataclass
class Past:
    """What the writer remembers of a run between batches: its cursor, its standing and the ends of its lines.

    before: the cursor when this try began; rows up to it may be said again by a resumed job. top: the highest step then.
    high: the highest step so far. begun: whether this try has run at all.
    """

    standing: Standing
    seq: int = 0
    reset_seq: int = 0
    ends: dict[str, list[float]] = field(default_factory=dict)
    before: int = 0
    top: int = -1
    high: int = -1
    begun: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # columns of the runs table that this batch sets


class Batch:
    """Many events, sorted into rows by table. `again` names the runs that say once more what an earlier try has said."""

    def __init__(self, pasts: Mapping[int, Past]):
        self.pasts = pasts
        self.rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in FRAMES}
        self.again: set[int] = set()
        self.retried = False  # a try began in this batch

    def add(self, heard: Heard) -> None:
        past, number, wall = self.pasts[heard.number], heard.number, heard.wall
        match heard.event:
            case Measured() as event:
                self._measured(past, heard, event)
            case Said() as event if event.done:  # a growing answer is for those who watch; what is kept is the whole one
                past.seq += 1
                self._again(past, number, event.step)
                words = [plain(word) for word in (event.speaker, event.prompt, event.answer)]
                self.rows["said"].append((number, past.seq, _whole(event.step), *words, heard.body, wall))
            case Table() as event:
                self.rows["tables"].append((number, plain(event.name), plain(json.dumps(event.columns)), heard.body, wall))
            case Made() as event:
                self.rows["made"].append((number, event.what, plain(event.path), _whole(event.step), wall))
            case Noted() as event:
                self.rows["notes"].append((number, event.level, plain(event.text), wall, _whole(event.step)))
            case Finished() as event:
                told = {"message": plain(event.message), "traceback": plain(event.traceback)}
                past.changes |= {"status": event.status, "ended": wall, **told}
            case Marked() as event:
                self._marked(past, event.status, wall)
        if not isinstance(heard.event, Marked):
            past.standing.hear(heard.event)

    def frame(self, table: str) -> pa.Table:
        """The rows of one table as one Arrow frame; where rows name the same thing twice, the last one stands."""
        rows = self.rows[table]
        if table in ("tables", "made") or (self.retried and table in KEYS):
            places = [FRAMES[table].names.index(name) for name in KEYS[table]]
            rows = list({tuple(row[place] for place in places): row for row in rows}.values())
        columns = list(zip(*rows, strict=True))
        return pa.table([_column(column, kind.type) for column, kind in zip(columns, FRAMES[table], strict=True)], FRAMES[table])

    def _marked(self, past: Past, status: Status, wall: datetime) -> None:
        past.changes |= {"status": status, "message": "", "traceback": "", "ended": None}
        if status == "queued":
            self.retried = True
            past.before, past.top, past.begun = past.seq, past.high, False
        elif status == "running" and not past.begun:
            past.changes["started"], past.begun = wall, True

    def _measured(self, past: Past, heard: Heard, event: Measured) -> None:
        self._again(past, heard.number, event.step)
        for name, value in event.values.items():
            past.seq += 1
            self.rows["metrics"].append((heard.number, past.seq, name, event.step, value, heard.wall))
            past.ends.setdefault(name, [value, value])[1] = value

    def _again(self, past: Past, number: int, step: int) -> None:
        past.high = max(past.high, step)
        if step <= past.top:
            self.again.add(number)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """One column from its bytes: `pa.array` would import all of pandas first, a quarter of a second for a run that has no use for it."""
    if kind == pa.string():
        words = [value.encode("utf-8") for value in values]
        ends = array("i", accumulate(map(len, words), initial=0))
        return pa.StringArray.from_buffers(len(words), pa.py_buffer(ends), pa.py_buffer(b"".join(words)))
    numbers = array("q", ((value - _ZERO) // _TICK for value in values)) if kind == _WHEN else array(_CODES[kind], values)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(numbers)])
