"""Frames of events: the columns that Arrow itself would make, without the library that it would import for them."""

import math
import subprocess
import sys
from datetime import datetime

import pyarrow as pa
import pytest

from workbench.core.events import Made, Measured, Noted, Said, Table
from workbench.runs.records import Standing
from workbench.runs.rows import FRAMES, Batch, Past, hear

EVENTS = [
    Measured(1, {"loss": 2.5, "größe": math.nan}), Measured(2, {"loss": -math.inf}), Measured(2**40, {"": 0.0}),
    Said(3, "one", "Wie groß?", "", [["a", 0.5]], done=True), Said(3, "two", "", "ß€𝄞\x00", [], done=True),
    Table("t", ["a", "b"], [[1, "x"], [None, 2.5]]), Table("", [], []), Made("model", "/tmp/ü", 4), Noted("", "watch", -1),
    Noted("said", "info"),
]  # fmt: skip


@pytest.fixture
def batch() -> Batch:
    found = Batch({7: Past(Standing(0, 0, "step"))})
    for event in EVENTS:
        found.add(hear(7, event))
    return found


@pytest.mark.parametrize("table", FRAMES)
def test_columns_are_those_that_arrow_makes(batch: Batch, table: str) -> None:
    frame = batch.frame(table)
    frame.validate(full=True)
    assert frame.schema == FRAMES[table] and len(frame) == len(batch.rows[table]) > 0
    plain = [pa.array(column, field.type) for column, field in zip(zip(*batch.rows[table], strict=True), FRAMES[table], strict=True)]
    wanted = pa.table(plain, FRAMES[table])
    assert repr(frame.to_pylist()) == repr(wanted.to_pylist())  # as text, because NaN is unlike itself


@pytest.mark.parametrize("moment", [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2026, 11, 23, 1, 2, 3, 4), datetime(9999, 1, 1)])
def test_moments_are_kept_to_the_microsecond(batch: Batch, moment: datetime) -> None:
    batch.rows["notes"] = [(7, "info", "", moment, 0)]
    assert batch.frame("notes")["wall"].to_pylist() == [moment]


def test_a_run_is_recorded_without_pandas() -> None:
    asks = """
import sys, tempfile, pathlib
from workbench.core.events import Measured, Noted
from workbench.runs.store import Store
with tempfile.TemporaryDirectory() as folder, Store(pathlib.Path(folder, "runs.duckdb")) as store:
    run = store.create("train", "", {})
    store.append(run, Measured(1, {"loss": 1.0}), Noted("said"))
    store.flush()
    assert store.names(run) == ["loss"] and store.notes(run)
print("pandas" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=False)
    assert said.stdout.strip() == "False", said.stderr
