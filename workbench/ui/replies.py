"""The answer to a statement as it is looked at: a table, a picture where there is something to draw, what went wrong with the place marked.

Pure functions of answers, and what each page asked last. What it is not: the asking (`runs/query.py`) or the drawing (`plots.py`).
"""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.memory import Memory
from workbench.core.picture import Picture
from workbench.runs.query import Answer, Heading, QueryError, Question, flat
from workbench.runs.views import VIEWS
from workbench.ui import plots
from workbench.ui.cards import error_card, escaped, problem, table

HELD = 20_000  # rows that are fetched, and drawn
SHOWN = 1_000  # rows of the table
LONG = 300  # characters of a cell that are shown
MANY = 12  # lines or colours in one picture
PAGES = 8  # whose last answers are remembered
PLAN = ["explain_key", "explain_value"]
NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|BIGNUM|DECIMAL.*")
MOMENT = re.compile(r"DATE|TIMESTAMP.*")
Axes = tuple[str, str, str]
"""Names of the columns across, upwards, and by which colours are told apart; the last may be empty."""


class Desk:
    """What each page is asking, so that it can be stopped, and what it was told last, so that it can be drawn another way."""

    def __init__(self) -> None:
        self._asked, self._told = Memory[Question](PAGES), Memory[Answer](PAGES)

    def begin(self, page: str, statement: str) -> Question:
        """A new question of the page, which ends the one before."""
        self.stop(page)
        return self._asked.put(page, Question(statement))

    def stop(self, page: str) -> None:
        if question := self._asked.get(page):
            question.stop()

    def told(self, page: str, answer: Answer) -> Answer:
        return self._told.put(page, answer)

    def last(self, page: str) -> Answer | None:
        return self._told.get(page)


# Words and tables.


def drawn(answer: Answer, statement: str, path: str) -> str:
    """How many rows there are and where to fetch all of them as CSV (`path`), then the rows."""
    names = [column.name for column in answer.columns]
    if names == PLAN:
        return f'<pre class="plan" tabindex="0">{escaped("".join(str(plan) for _, plan in answer.rows))}</pre>'
    fetch = (
        f'<form method="post" action="{escaped(path)}" target="_blank"><input type="hidden" name="statement" value="{escaped(statement)}">'
        '<button class="quiet-button">All as CSV</button></form>'
    )
    said = f'<div class="answered"><span role="status">{counted(answer)}</span>{fetch if answer.rows else ""}</div>'
    rows = [[shown(value) for value in row] for row in answer.rows[:SHOWN]]
    return said + (table(names, rows, SHOWN) if rows else "")


def counted(answer: Answer) -> str:
    """`12 rows in 0.03 s`, `the first 1,000 of 2,200 rows in 0.12 s`."""
    many, took = len(answer.rows), f"in {answer.seconds:.2f} s"
    if answer.more:
        return f"The first {SHOWN:,} of more than {many:,} rows {took}"
    if many > SHOWN:
        return f"The first {SHOWN:,} of {many:,} rows {took}"
    return f"{many:,} row{'s' * (many != 1)} {took}" if many else f"No row answers this ({took})"


def shown(value: Any) -> Any:
    """A value as its cell shows it: a moment to the second, a long text cut off."""
    plain = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else flat(value)
    return f"{plain[:LONG]}…" if isinstance(plain, str) and len(plain) > LONG else plain


def mistake(error: Exception) -> str:
    """A card that says what is wrong; below it the line of the statement with the place marked."""
    if not isinstance(error, QueryError):
        return problem(error)
    said = error_card(WorkbenchError(error.says))
    begin, end = error.mark.find("^"), len(error.mark)
    if not error.line or begin < 0:
        return said
    line = escaped(error.line[:begin]), escaped(error.line[begin:end]), escaped(error.line[end:])
    return f'{said}<pre class="place" tabindex="0">{line[0]}<mark>{line[1] or " "}</mark>{line[2]}</pre>'


def what_can_be_asked() -> str:
    """The tables and their columns, each table folded."""
    return "".join(
        f'<details class="fold"><summary><code>{view.name}</code> <span class="quiet">{escaped(view.says)}</span></summary>'
        f"{table(['column', 'type', 'what it is'], [[one.name, one.kind.lower(), one.says] for one in view.columns])}</details>"
        for view in VIEWS.values()
    )


# Pictures.


def axes(answer: Answer) -> Axes | None:
    """What one would draw first: a number over time, over the first number, or for each text; None where there is nothing to draw."""
    numbers, moments, texts = (_of(answer, kind) for kind in ("number", "moment", "text"))
    if not numbers or len(answer.rows) < 2:
        return None
    labels = [name for name in texts if len(_different(answer, name)) == len(answer.rows)]
    groups = [name for name in texts if name not in labels and len(_different(answer, name)) <= MANY]
    each = next(iter(groups), "")
    if moments:
        return moments[0], numbers[0], each
    if len(numbers) > 1 and (groups or not labels):
        return numbers[0], numbers[1], each
    return (labels[0], numbers[0], "") if labels else None


def offered(answer: Answer) -> tuple[list[str], list[str], list[str]]:
    """The columns that can stand across, upwards, and for colours."""
    names = [column.name for column in answer.columns]
    return names, _of(answer, "number"), ["", *_of(answer, "text")]


def picture(answer: Answer, chosen: Axes) -> Any:
    """Bars over texts; a line where each part rises from left to right, else points. An axis of settings that span a power of ten (learning
    rates, ranks) is logarithmic."""
    x, y, each = (_values(answer, name) for name in chosen)
    rows = [[a, _finite(b), c] for a, b, c in zip(map(_across, x), y, each, strict=True)]
    names = [escaped(name) for name in chosen]
    texts = _kind(answer, chosen[0]) == "text"
    kind = "bars" if texts else "lines" if _rise(rows) else "points"
    title = f"{names[1]} by {names[0]}" + (f", for each {names[2]}" if chosen[2] else "")
    log = _spans([row[1] for row in rows], 1e3) and not texts
    figure = plots.pictured(Table("answer", names, rows), Picture("answer", kind, title, names[0], names[1], each=names[2], log=log))
    across = [row[0] for row in rows]
    if _kind(answer, chosen[0]) == "number" and len(set(across)) <= 20 and _spans(across, 10):
        figure.update_layout(xaxis_type="log")
    elif texts:
        figure.update_layout(xaxis_type="category", barmode="group")
    return figure


def _of(answer: Answer, kind: str) -> list[str]:
    return [column.name for column in answer.columns if _is(column) == kind]


def _is(column: Heading) -> str:
    return "number" if NUMBER.fullmatch(column.kind) else "moment" if MOMENT.fullmatch(column.kind) else "text"


def _kind(answer: Answer, name: str) -> str:
    return next(_is(column) for column in answer.columns if column.name == name)


def _values(answer: Answer, name: str) -> list[Any]:
    """One column; nothing where no column is named."""
    place = next((place for place, column in enumerate(answer.columns) if column.name == name), -1)
    return (
        [flat(row[place]) if not isinstance(row[place], date) else row[place] for row in answer.rows] if name else [""] * len(answer.rows)
    )


def _different(answer: Answer, name: str) -> set[Any]:
    return set(_values(answer, name))


def _across(value: Any) -> Any:
    """A place on the axis across: a number, or a text that Plotly reads as a moment or takes as a name."""
    if isinstance(value, date):
        return value.isoformat()
    return _finite(value) if isinstance(value, float) else value if isinstance(value, int) else "–" if value is None else value[:LONG]


def _finite(value: Any) -> Any:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _spans(values: Sequence[Any], factor: float) -> bool:
    """Whether these are positive numbers that span so much."""
    there = [value for value in values if isinstance(value, int | float)]
    return bool(there) and min(there) > 0 and max(there) >= factor * min(there)


def _rise(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether each part goes from left to right, one of them in three steps or more."""
    parts: dict[Any, list[Any]] = {}
    for x, _, each in rows:
        parts.setdefault(each, []).append(x)
    rising = all(None not in part and all(a < b for a, b in pairwise(part)) for part in parts.values())
    return rising and max(map(len, parts.values()), default=0) > 2
