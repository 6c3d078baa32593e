"""What narrows the rows that are listed, as markup: the histogram across which one drags, its ends as fields, what can be done with them.

Pure functions; every text is escaped. Not here: which rows those are (`jobs/paging.py`) or what a button does (`listing.py`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.words import count, number
from workbench.jobs.numbers import Spread
from workbench.jobs.paging import BULK, Page
from workbench.ui import sketch
from workbench.ui.cards import escaped, note

Narrow = Mapping[str, Any]
WHOLE: dict[str, Any] = {"by": "", "part": "answer", "least": None, "most": None, "order": "as in the file", "rows": None, "says": ""}
"""Nothing narrows the rows. `by` names a number, `rows` are the rows that were picked elsewhere and `says` where."""


def drawn(found: Page, narrow: Narrow, show: str, words: str) -> str:
    """The picture where there is a number, and what can be done with the rows that are listed."""
    ranged = narrow["least"] is not None or narrow["most"] is not None
    narrows = ranged or narrow["rows"] is not None or words or show not in ("kept", "all")
    actions = [*_of_range(narrow, ranged), *_of_picks(narrow), *(_by_hand(found.total, show) if narrows and found.total else [])]
    return _picture(found.spread, narrow) + (f'<div class="narrowed" role="status">{"".join(actions)}</div>' if actions else "")


def number_of(narrow: Narrow) -> str:
    """The name of the number as `jobs/numbers.py` has it; empty where none is chosen."""
    by = str(narrow["by"] or "")
    return by if not by or ":" in by else f"{by}:{narrow['part']}"


def ends(narrow: Narrow) -> tuple[float, float]:
    """The range, endless where nothing is said."""
    least, most = narrow["least"], narrow["most"]
    return -math.inf if least is None else least, math.inf if most is None else most


def read_ends(least: str, most: str) -> dict[str, float | None]:
    """The two ends as they were dragged or typed; what is no number is no end, and the smaller one comes first."""
    low, high = map(_as_number, (least, most))
    if low is not None and high is not None and low > high:
        low, high = high, low
    return {"least": low, "most": high}


def _as_number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _picture(spread: Spread | None, narrow: Narrow) -> str:
    if not narrow["by"]:
        return ""
    if spread is None:
        return note("No row that is listed has such a number, or one in that range.") + _ends(narrow, ("", ""))
    without = f" {count(spread.without, 'row')} without one." if spread.without else ""
    hints = number(spread.edges[0]), number(spread.edges[-1])
    says = f"How many of the listed rows have which {spread.what}. Drag across it to list a stretch.{without}"
    return sketch.bars(spread.edges, {"rows": spread.counts}, (), spread.what, "rows", says, stretch=True) + _ends(narrow, hints)


def _ends(narrow: Narrow, hints: tuple[str, str]) -> str:
    low, high = ("" if end is None else f"{end:.6g}" for end in (narrow["least"], narrow["most"]))
    fields = "".join(
        f'<label>{word} <input type="number" step="any" data-end value="{value}" placeholder="{escaped(hint)}"></label>'
        for word, value, hint in (("from", low, hints[0]), ("to", high, hints[1]))
    )
    return f'<div class="narrowed">{fields}<span>or drag across the picture</span></div>'


def _of_range(narrow: Narrow, ranged: bool) -> Sequence[str]:
    if not ranged:
        return []
    step = [_button("step", "Keep these alone: add the step")] if ":" not in narrow["by"] else []
    return [_button("whole", "All of the range"), *step]


def _of_picks(narrow: Narrow) -> Sequence[str]:
    if narrow["rows"] is None:
        return []
    return [f"<span>{count(len(narrow['rows']), 'row')} {escaped(narrow['says'])}</span>", _button("every", "Show all again")]


def _by_hand(total: int, show: str) -> Sequence[str]:
    if total > BULK:
        return [f"<span>{total:,} rows: more than {BULK:,} are not dropped by hand</span>"]
    back = [_button("back", f"Bring back those of the {total:,} dropped by hand")] if show in ("dropped", "all") else []
    drop = [_button("drop", f"Drop {'this one' if total == 1 else f'these {total:,}'} by hand")] if show != "dropped" else []
    return [*drop, *back]


def _button(does: str, words: str) -> str:
    return f'<button type="button" data-pick="{does}">{escaped(words)}</button>'
