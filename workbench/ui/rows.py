"""Rows of a data set as HTML: bubbles, a table, and each row as the model reads it, coloured by what becomes of its tokens.

Pure functions; rows come from anywhere, so every text is escaped. Knows no file, no tokenizer and no tab.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from workbench.core.words import number
from workbench.jobs.paging import Page, Row
from workbench.ui.cards import escaped

LONG = 700  # characters of one message in the list; the rest is counted
READ = 6000  # characters of one row as the model reads it
TEXTS = ("asks", "answers", "dropped because")
STATES = {"trained": "learnt", "masked": "read, not learnt", "cut": "cut off"}


def drawn(page: Page, view: str) -> str:
    """A page of rows as `bubbles`, as a `table`, or as the model reads them (`tokens`)."""
    if not page.rows:
        return '<p class="quiet">No rows here. Choose another filter, or search for something else.</p>'
    if view == "table":
        return _table(page.rows, page.spread.what if page.spread else "")
    body = "".join(_article(row, view == "tokens", page.spread.what if page.spread else "") for row in page.rows)
    return (legend() if view == "tokens" else "") + f'<div class="data-rows" tabindex="0">{body}</div>'


def _article(row: Row, open_: bool, what: str) -> str:
    out = "".join(f'<p class="why">{escaped(words)}</p>' for words in (row.dropped, row.problem) if words)
    said = "" if open_ else "".join(_bubble(role, text) for role, text in row.turns)
    total = sum(1 for _ in row.pieces)
    fate = f"{row.trained:,} of {total:,} tokens learnt" + (f", {row.cut:,} cut off" if row.cut else "")
    tokens = tokens_of(row.pieces)
    read = tokens if open_ else f'<details class="fate"><summary>{fate}</summary>{legend()}{tokens}</details>'
    head = (
        f"<header><b>{row.number:,}</b><span>line {row.line:,}</span>{_figure(row, what)}{f'<span>{fate}</span>' if open_ else ''}"
        f"{_button(row, 'toggle', 'bring back' if row.gone else 'drop', 'x')}{_button(row, 'edit', 'edit', 'e')}</header>"
    )
    return f'<article class="data-row{" dropped" if row.dropped else ""}">{head}<div class="said">{out}{said}{read}</div></article>'


def _figure(row: Row, what: str) -> str:
    """The number by which rows are sorted or picked."""
    return f"<span>{escaped(what)}: {number(row.figure)}</span>" if what and math.isfinite(row.figure) else ""


def _button(row: Row, does: str, words: str, key: str) -> str:
    return f'<button type="button" data-pick="{does}:{row.number}" data-key="{key}" title="{words} (key {key})">{words}</button>'


def _bubble(role: str, text: str) -> str:
    more = f"<small> … {len(text) - LONG:,} more characters</small>" if len(text) > LONG else ""
    side = {"user": "asks", "assistant": "answers"}.get(role, "aside")
    return f'<div class="bubble {side}"><small>{escaped(role)}</small><p>{escaped(text[:LONG])}{more}</p></div>'


def _table(rows: Sequence[Row], what: str) -> str:
    names = ["row", *([what] if what else []), "asks", "answers", "learnt", "cut off", "dropped because"]
    head = "".join(f"<th>{name}</th>" if name in TEXTS else f'<th class="number">{escaped(name)}</th>' for name in names)
    body = "".join(_line(row, bool(what)) for row in rows)
    return (
        f'<div class="table-box tall" tabindex="0"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _line(row: Row, figured: bool) -> str:
    answers = " ⏎ ".join(text for role, text in row.turns if role in ("assistant", "text"))
    asks = " ⏎ ".join(text for role, text in row.turns if role not in ("assistant", "text"))
    said = "".join(f"<td>{escaped(text)}</td>" for text in (_short(asks), _short(answers)))
    counts = "".join(f'<td class="number">{count:,}</td>' for count in (row.trained, row.cut))
    own = f'<td class="number">{number(row.figure) if math.isfinite(row.figure) else ""}</td>' if figured else ""
    return f'<tr><td class="number">{row.number:,}</td>{own}{said}{counts}<td>{escaped(row.dropped or row.problem)}</td></tr>'


def _short(text: str) -> str:
    return text if len(text) <= 240 else text[:240] + " …"


def tokens_of(pieces: Sequence[tuple[str, str]]) -> str:
    """One row as the model reads it; neighbours of one fate are one stretch of colour."""
    words = "".join(f'<span class="{state}" title="{STATES[state]}">{escaped(text)}</span>' for text, state in _stretches(pieces))
    return f'<div class="token-row" tabindex="0">{words}</div>'


def _stretches(pieces: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    shown = 0
    for state, group in groupby(pieces, key=lambda piece: piece[1]):
        text = "".join(piece[0] for piece in group)
        if shown + len(text) > READ:
            yield text[: READ - shown] + " …", state
            return
        shown += len(text)
        yield text, state


def legend() -> str:
    """What the three colours mean."""
    return (
        '<div class="token-legend">' + "".join(f'<span><i class="{state}"></i>{words}</span>' for state, words in STATES.items()) + "</div>"
    )


def pager(page: Page, limit: int) -> str:
    """`21 to 40 of 812` between two buttons that raise the offset to show."""
    if page.total <= limit and not page.offset:
        return f'<div class="pager"><span>{page.total:,} rows</span></div>' if page.total else ""
    last = min(page.offset + limit, page.total)
    return (
        f'<div class="pager">{_turn("Earlier", page.offset - limit, page.offset > 0)}'
        f"<span>{page.offset + 1:,} to {last:,} of {page.total:,}</span>{_turn('Later', page.offset + limit, last < page.total)}</div>"
    )


def _turn(words: str, offset: int, can: bool) -> str:
    return f'<button type="button" data-pick="{max(0, offset)}" {"" if can else "disabled"}>{words}</button>'
