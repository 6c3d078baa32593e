"""The store's promises: nothing acknowledged is lost, readers see whole transactions, lines keep their extremes."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Made, Measured, Noted, Progress, Said, Started, Table
from workbench.runs.files import log_of
from workbench.runs.recording import Recorder
from workbench.runs.records import bin_width
from workbench.runs.rows import hear
from workbench.runs.schema import migrate
from workbench.runs.store import InUse, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workbench.duckdb"


@pytest.fixture
def store(path: Path):
    with Store(path) as opened:
        yield opened


def a_run(store: Store, *events) -> str:
    run = store.create("train", "a name", {"kind": "train", "steps": 3})
    store.append(run, *events)
    store.flush()
    return run


def line_of(store: Store, values: dict[int, float], name: str = "loss") -> str:
    return a_run(store, *(Measured(step, {name: value}) for step, value in values.items()))


def test_what_was_said_comes_back(store: Store, path: Path) -> None:
    said = Said(1, "pocket", "Why?", "Because.", [["Be", -0.5, -1.0]])
    table = Table("layers", ["layer", "scale"], [["a", 0.25], ["b", None]])
    made, noted = Made("adapter", "/somewhere/adapter", 1), Noted("r is large", "watch")
    run = a_run(store, Started(3), Progress(2, 3), Measured(2, {"loss": 1.5}), said, table, made, noted)
    store.append(run, Measured(3, {"loss": 0.5}), Finished("finished", "3 steps."))
    store.flush()
    found = store.run(run)
    assert (found.id, found.name, found.kind, found.status, found.step, found.total) == ("0001", "a name", "train", "finished", 3, 3)
    assert found.metrics == {"loss": (1.5, 0.5)}
    assert found.spec == {"kind": "train", "steps": 3}
    assert found.message == "3 steps." and found.ended >= found.created
    assert (store.said(run), store.tables(run), store.made(run), store.notes(run)) == ([said], [table], [made], [noted])
    store.close()
    with Store(path) as again:
        assert again.run(run) == found
        assert again.said(run) == [said]


def test_a_growing_answer_is_kept_once_it_is_whole(store: Store) -> None:
    run = a_run(store, Said(0, "m", "p", "Be", done=False), Said(0, "m", "p", "Because"))
    assert [said.answer for said in store.said(run)] == ["Because"]


def test_runs_are_listed_newest_first_and_by_kind(store: Store) -> None:
    ids = [store.create(kind, kind, {}) for kind in ("train", "merge", "train")]
    assert [run.id for run in store.runs()] == ids[::-1]
    assert [run.id for run in store.runs("train")] == [ids[2], ids[0]]


def test_an_id_is_never_given_twice(store: Store, path: Path) -> None:
    first = a_run(store, Finished("finished"))
    store.delete(first)
    store.close()
    with Store(path) as again:
        assert again.create("train", "", {}) == "0002"
        assert again.create("train", "", {}, above=40) == "0041"


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
def test_a_live_run_cannot_be_deleted(store: Store, status: str) -> None:
    run = a_run(store)
    store.mark(run, status)
    with pytest.raises(WorkbenchError, match="still at work"):
        store.delete(run)
    store.append(run, Finished("stopped"))
    store.delete(run)
    assert store.runs() == []


def test_deleting_takes_the_numbers_of_that_run_alone(store: Store) -> None:
    gone, kept = (line_of(store, {1: 1.0}) for _ in range(2))
    store.append(gone, Finished("finished"))
    store.delete(gone)
    assert store.series(gone, "loss") == ([], [])
    assert store.series(kept, "loss") == ([1], [1.0])
    store.append(gone, Measured(2, {"loss": 2.0}))  # a late word about it is dropped, and stops nobody
    store.flush()
    assert store.warnings == []


@pytest.mark.parametrize("run", ["0007", "seven", "", "-1", "../1"])
def test_an_unknown_run_is_a_plain_error(store: Store, run: str) -> None:
    for ask in (store.run, store.names, store.delete, lambda run: store.since(run, 0), lambda run: store.rename(run, "x")):
        with pytest.raises(WorkbenchError, match="no run"):
            ask(run)


def test_rename(store: Store) -> None:
    run = a_run(store)
    store.rename(run, "better \ud800 name")
    assert store.run(run).name == "better ? name"


def test_what_is_no_number_is_refused_at_the_one_who_says_it(store: Store) -> None:
    run = a_run(store)
    with pytest.raises(WorkbenchError, match="'loss' as None, which is not a number"):
        store.append(run, Measured(1, {"loss": None}))
    with pytest.raises(WorkbenchError, match="too large"):
        store.append(run, Measured(2**63, {"loss": 1.0}))


# Cursors.


def test_deltas_put_together_are_the_whole_line(store: Store) -> None:
    run, cursor, seen = a_run(store), 0, []
    for step in range(1, 8):
        store.append(run, Measured(step, {"loss": float(step), "lr": 0.1}))
        store.flush()
        delta = store.since(run, cursor)
        assert delta.reset == (step == 1)
        seen += delta.points["loss"][0]
        cursor = delta.cursor
    assert seen == list(range(1, 8))
    assert store.since(run, cursor).points == {}
    assert store.names(run) == ["loss", "lr"]


def test_a_reader_who_is_far_behind_or_from_another_life_begins_anew(store: Store) -> None:
    run = line_of(store, dict.fromkeys(range(12000), 1.0))
    assert store.since(run, 1).reset
    assert not store.since(run, 11_000).reset
    assert store.since(run, 12_001).reset


def test_a_resumed_run_replaces_what_it_measures_again(store: Store) -> None:
    run = a_run(store, *(Measured(step, {"loss": step + 0.5}) for step in range(6)), Said(4, "model", "p", "old"), Finished("stopped"))
    cursor = store.since(run, 0).cursor
    store.mark(run, "queued")
    store.append(run, Measured(4, {"loss": -4.0}), Said(4, "model", "p", "new"))
    store.flush()
    assert store.series(run, "loss") == ([0, 1, 2, 3, 4, 5], [0.5, 1.5, 2.5, 3.5, -4.0, 5.5])
    assert [said.answer for said in store.said(run)] == ["new"]
    delta = store.since(run, cursor)
    assert delta.reset and delta.points["loss"][1][4] == -4.0
    store.append(run, Measured(6, {"loss": 6.0}))
    store.flush()
    after = store.since(run, delta.cursor)
    assert not after.reset and after.points == {"loss": ([6], [6.0])}


# Lines.


def test_nan_and_infinities_are_kept(store: Store, path: Path) -> None:
    run = line_of(store, {0: 1.0, 1: math.nan, 2: math.inf, 3: -math.inf})
    store.close()
    with Store(path) as again:
        steps, values = again.series(run, "loss")
        assert steps == [0, 1, 2, 3]
        assert math.isnan(values[1]) and values[2:] == [math.inf, -math.inf]
        assert math.isinf(again.run(run).metrics["loss"][1])


def test_decimation_keeps_extremes_nan_and_the_newest_point(store: Store) -> None:
    chance = random.Random(0)
    values = {step: chance.random() for step in range(10_000)}
    values |= {1234: 50.0, 8765: -50.0, 4321: math.nan, 5432: math.inf, 9999: 0.5}
    run = line_of(store, values)
    steps, found = store.series(run, "loss", points=200)
    assert len(steps) <= 200 + 40
    assert {1234, 8765, 4321, 5432, 9999} <= set(steps)
    assert steps == sorted(set(steps))
    assert all(value == values[step] or math.isnan(value) for step, value in zip(steps, found, strict=True))


@pytest.mark.parametrize("every", [1, 7])
def test_appending_never_moves_a_settled_point_until_the_bins_grow(store: Store, every: int) -> None:
    chance, points, run = random.Random(1), 64, a_run(store)
    before: list[tuple[int, float]] = []
    width = 0
    for begin in range(0, 1200, 40):
        block = [(begin + index) * every for index in range(40)]
        store.append(run, *(Measured(step, {"loss": chance.choice([1.0, 2.0, chance.random()])}) for step in block))  # ties too
        store.flush()
        now = bin_width(points, begin + 40, 0, block[-1])
        line = list(zip(*store.series(run, "loss", points), strict=True))
        if now == width:
            settled = block[0] - 1 >> now << now  # where the newest bin began at the last look
            assert [point for point in line if point[0] < settled] == [point for point in before if point[0] < settled]
        before, width = line, now
    assert width > 3


def test_a_window_is_drawn_finer(store: Store) -> None:
    run = line_of(store, {step: float(step) for step in range(1000)})
    assert store.series(run, "loss", points=10, first=500, last=509)[0] == list(range(500, 510))


def test_several_lines_are_read_from_a_step_on(store: Store) -> None:
    """As many single lines would be; without a step, from their beginning."""
    run = store.create("train", "first", {})
    store.append(run, *(Measured(step, {"loss": 9.0 - step, "lr": 0.1 * step}) for step in range(6)), Measured(6, {"loss": math.nan}))
    store.flush()
    names = ["loss", "lr", "never"]
    for first in (0, 4, 99):
        found, single = store.lines(run, names, first), {name: store.series(run, name, first=first) for name in names}
        assert repr(found) == repr(single)
    assert store.lines(run, ["lr"]) == {"lr": store.series(run, "lr")}
    assert store.lines(run, names, 5)["lr"] == ([5], [0.5]) and store.lines(run, names, 5)["loss"][0] == [5, 6]


# Many threads.


def test_two_readers_and_a_writer_at_once(store: Store) -> None:
    run, total, wrong = a_run(store), 3000, []

    def read() -> None:
        cursor, seen = 0, {}
        while len(seen) < total:
            delta = store.since(run, cursor)
            cursor = delta.cursor
            pairs, others = (delta.points.get(name, ([], [])) for name in ("loss", "twice"))
            if others[1] != [2 * value for value in pairs[1]]:
                wrong.append(delta)  # half a step was visible
            seen |= dict.fromkeys(pairs[0])
        if list(seen) != list(range(total)):
            wrong.append(list(seen))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for step in range(total):
        store.append(run, Measured(step, {"loss": float(step), "twice": 2.0 * step}))
        if step % 100 == 0:
            store.flush()
    for reader in readers:
        reader.join(60)
    assert not any(reader.is_alive() for reader in readers)
    assert wrong == []


def test_after_closing_everything_is_a_plain_error_and_closing_again_is_nothing(path: Path) -> None:
    store = Store(path)
    run = a_run(store)
    store.append(run, Measured(1, {"loss": 1.0}))
    store.close()
    store.close()
    assert not log_of(path).exists()
    for ask in (store.runs, store.flush, lambda: store.append(run, Noted("late"))):
        with pytest.raises(WorkbenchError, match="closed"):
            ask()
    with Store(path) as again:
        assert again.series(run, "loss") == ([1], [1.0])


# Other processes, damage, full disks.

CHILD = """
import sys
from pathlib import Path
from workbench.core.events import Measured, Started
from workbench.runs.store import Store
store = Store(Path(sys.argv[1]))
run = store.create("train", "victim", {})
store.mark(run, "running")
for step in range(1_000_000):
    store.append(run, Measured(step, {"loss": step / 2}))
    if step % 50 == 0:
        store.flush()
        print(step, flush=True)
"""


@pytest.fixture
def child(path: Path):
    """Another process that holds the database and writes; killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_kill_9_loses_nothing_that_was_acknowledged(child: subprocess.Popen, path: Path) -> None:
    acknowledged = [int(child.stdout.readline()) for _ in range(8)][-1]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    acknowledged = max([acknowledged, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
    with Store(path) as store:
        run = store.run("0001")
        assert run.status == "interrupted" and run.ended is not None
        steps, values = store.series("0001", "loss", points=10**6)
        assert steps == list(range(len(steps))) and len(steps) > acknowledged
        assert values == [step / 2 for step in steps]
        assert run.step == steps[-1] and run.metrics["loss"] == (0.0, values[-1])
        assert store.warnings == []


def test_a_second_process_is_told_who_holds_it_and_may_look_at_a_copy(child: subprocess.Popen, path: Path) -> None:
    child.stdout.readline()
    with pytest.raises(InUse, match=f"process {child.pid}.*close it first") as error:
        Store(path)
    assert error.value.pid == child.pid
    with Store(path, copy=True) as look:
        assert look.run("0001").status == "running"
        assert look.series("0001", "loss")[0][0] == 0
        with pytest.raises(WorkbenchError, match="copy"):
            look.append("0001", Noted("no"))


def left_open(path: Path, tmp_path: Path) -> Path:
    """A database and its log as a kill would leave them: one run folded in, one in the log alone."""
    target = tmp_path / "left" / path.name
    target.parent.mkdir()
    with Store(path) as store:
        store.create("train", "folded in", {})
    with Store(path) as store:
        for _ in range(20):
            store.create("train", "in the log", {})
        for source in (path, log_of(path)):
            (target.parent / source.name).write_bytes(source.read_bytes())
    return target


def test_a_damaged_log_is_kept_aside_and_told(path: Path, tmp_path: Path) -> None:
    left = left_open(path, tmp_path)
    log = bytearray(log_of(left).read_bytes())
    log[2:40] = b"\xff" * 38
    log_of(left).write_bytes(log)
    with Store(left) as store:
        assert [run.name for run in store.runs()] == ["folded in"]
        assert len(store.warnings) == 1 and "damaged" in store.warnings[0]
        store.create("train", "goes on", {})
    kept = sorted(file.name.partition(".damaged-")[0] for file in left.parent.glob("*.damaged-*"))
    assert kept == ["workbench.duckdb", "workbench.duckdb.wal"]


def test_a_log_whose_end_is_missing_opens_with_all_that_came_before(path: Path, tmp_path: Path) -> None:
    left = left_open(path, tmp_path)
    log_of(left).write_bytes(log_of(left).read_bytes()[:-7])
    with Store(left) as store:
        assert len(store.runs()) == 20
        assert store.warnings == []


def test_a_file_that_is_no_database_is_a_plain_error(path: Path) -> None:
    path.write_text("hello " * 100)
    with pytest.raises(WorkbenchError, match="cannot be opened"):
        Store(path)
    assert path.read_text().startswith("hello")


def test_a_database_from_the_future_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path).close()
    monkeypatch.setattr("workbench.runs.schema.MIGRATIONS", ())
    with pytest.raises(WorkbenchError, match="newer workbench"):
        Store(path)


FULL = """
import resource, signal, sys
from pathlib import Path
from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured
from workbench.runs.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(Path(sys.argv[1])) as store:
    run = store.create("train", "", {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, -1))
    store.append(run, *(Measured(step, {"loss": float(step)}) for step in range(1000)))
    for _ in range(2):
        try:
            store.flush()
        except WorkbenchError as error:
            assert "cannot be written" in str(error), error
        else:
            raise SystemExit("the disk was not full, or the batch was dropped")
    store.append(run, Measured(1000, {"loss": 1000.0}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    store.flush()
    assert store.series(run, "loss", 10_000)[0] == list(range(1001))
    assert [warning[:27] for warning in store.warnings] == ["The database cannot be writ", "The database can be written"], store.warnings
"""


def test_a_full_disk_costs_patience_and_no_numbers(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_batch_is_written_whole_or_not_at_all() -> None:
    """The second table of the batch fails; the first must not stay, and the next try is the first one again."""
    connection = duckdb.connect()
    failing = [True]

    def ask(sql: str, values: object = None) -> list[tuple]:
        if "INSERT INTO notes" in sql and failing.pop():
            raise duckdb.IOException("no more room")
        return connection.execute(sql, values).fetchall()

    migrate(ask)
    recorder = Recorder(ask, connection.register)
    recorder.create("train", "", "{}", 0)
    batch = [hear(1, Measured(1, {"loss": 1.0})), hear(1, Noted("a word"))]
    with pytest.raises(duckdb.IOException):
        recorder.write(batch)
    assert ask("SELECT count(*) FROM metrics") == [(0,)]
    failing.append(False)
    recorder.write(batch)
    assert ask("SELECT seq, step FROM metrics") == [(1, 1)] and ask("SELECT text FROM notes") == [("a word",)]
