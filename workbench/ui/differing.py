"""In which settings runs differ, side by side: a row for each setting that is not the same in all, a column for each run.

Pure functions of specs as plain values; every text is escaped where it is drawn. What it is not: what runs measured (`found.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.runs.records import Run
from workbench.ui.cards import table
from workbench.ui.words import run_label

OWN = ("name",)  # what differs by itself and says nothing
ABSENT = "–"


def settings(spec: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A spec's values by dotted name, as `--set` takes them; those of a list by their place, and an empty list or part as it stands."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        inside = dict(enumerate(value, start=1)) if isinstance(value, list) else value
        dotted = f"{above}{name}"
        found |= settings(inside, f"{dotted}.") if isinstance(inside, Mapping) and inside else {dotted: value}
    return found


def differences(runs: Sequence[Run]) -> list[list[Any]]:
    """The rows: a setting's name, then its value in each run; a setting that a run's method has not is absent there."""
    held = [settings(run.spec) for run in runs]
    names = dict.fromkeys(name for own in held for name in own if name not in OWN)
    rows = [[name, *(own.get(name, ABSENT) for own in held)] for name in names]
    return [row for row in rows if any(value != row[1] for value in row[2:])]


def side_by_side(runs: Sequence[Run]) -> str:
    """The rows as a table, of the runs of the kind that most of them have: others have other settings. Empty for one run alone, and a
    sentence where nothing differs."""
    kind, _ = max(Counter(run.kind for run in runs).items(), key=lambda item: item[1], default=("", 0))
    runs = [run for run in runs if run.kind == kind]
    if len(runs) < 2:
        return ""
    columns = ["setting", *(run_label(run.id, run.name) for run in runs)]
    drawn = table(columns, [[name, *map(_said, values)] for name, *values in differences(runs)], 100, "All of them have the same settings.")
    return f"<h3>In which settings they differ</h3>{drawn}"


def _said(value: Any) -> str:
    """A value as it stands in YAML and on the command line: 0.0005 and not what is left of it after three digits."""
    return {None: "", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
