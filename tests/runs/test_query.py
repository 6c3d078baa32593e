"""A statement over the runs reads and does nothing else: what is refused, what is told, what the live database notices (nothing)."""

import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Made, Measured, Noted, Said, Started, Table
from workbench.core.ratings import Vote
from workbench.core.workspace import Workspace
from workbench.runs import query
from workbench.runs import store as engine
from workbench.runs.kept import forget, keep, kept
from workbench.runs.query import QueryError, Question, csv_lines, flat, named, told
from workbench.runs.store import Store
from workbench.runs.views import EXAMPLES, VIEWS

SPEC = {
    "kind": "train", "model": "pocket", "data": {"path": "quickstart"}, "adapter": {"method": "lora", "rank": 8},
    "loss": {"method": "cross_entropy"}, "update": {"method": "adamw", "lr": 1e-4}, "batch_size": 8, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("home") / "workbench.duckdb") as store:
        run = store.create("train", "first <b>", SPEC)
        store.mark(run, "running")
        store.append(run, Started(3), Measured(1, {"loss": 2.0, "grad_norm": 1.0, "tokens_per_s": 10.0}))
        store.append(run, Measured(2, {"loss": math.nan, "grad_norm": 0.0, "tokens_per_s": 900.0}))
        store.append(run, Measured(3, {"loss": 1.5, "validation_loss": 1.25, "grad_norm": 1.0, "tokens_per_s": 20.0}))
        store.append(
            run, Said(3, "run:0001", "Why?", "Because."), Made("adapter", "/there", 3), Noted("r is large", "watch", 2), Noted("!")
        )
        store.append(run, Table("layers", ["layer", "scale"], [["a", 0.5], ["b", None]]), Finished("finished", "3 steps."))
        found = store.create("evaluate", "", {"kind": "evaluate", "models": ["run:0001"]})
        store.append(found, Table("numbers", ["model", "measure", "value"], [["run 0001", "right", 0.75], ["run 0001", "lost", math.nan]]))
        store.append(found, Finished("finished"))
        store.vote(Vote("0001", "Why?", {"pocket": "base", "run:0001": "tuned"}, "better", "run:0001", 4, {}))
        store.create("merge", "both", {"kind": "merge", "merge": {"method": "ties"}})
        store.flush()
        yield store


def rows(store: Store, statement: str, most: int = 100) -> list[tuple]:
    return Question(statement).answer(store, most).rows


# What can be asked.


def test_the_tables_tell_of_the_runs_what_the_store_holds(store: Store) -> None:
    wanted = "run, name, kind, status, model, data, method, rank, objective, optimizer, lr, batch_size, seed, step, steps, loss, message"
    one = rows(store, f"SELECT {wanted} FROM runs WHERE run = '0001'")
    first = ("0001", "first <b>", "train", "finished", "pocket", "quickstart", "lora", 8, "cross_entropy", "adamw", 1e-4, 8, 3)
    assert one == [(*first, 3, 3, 1.5, "3 steps.")]
    assert rows(store, "SELECT run, method, lr, loss FROM runs WHERE kind = 'merge'") == [("0003", "ties", None, None)]
    assert rows(store, "SELECT spec->>'$.adapter.rank' FROM runs WHERE run = '0001'") == [("8",)]
    assert rows(store, "SELECT value FROM points WHERE name = 'tokens_per_s' ORDER BY step") == [(10.0,), (900.0,), (20.0,)]
    measured = rows(store, "SELECT count, first, last, lowest, lowest_step, highest, highest_step FROM measures WHERE name = 'loss'")
    assert measured == [(3, 2.0, 1.5, 1.5, 3, 2.0, 1)]
    assert rows(store, "SELECT run, model, measure, value FROM findings WHERE isfinite(value)") == [("0002", "run 0001", "right", 0.75)]
    assert rows(store, "SELECT place, cells->>'layer', cells->>'scale' FROM table_rows WHERE name = 'layers'") == [
        (1, "a", "0.5"),
        (2, "b", None),
    ]
    assert rows(store, "SELECT model, prompt, answer FROM answers") == [("run:0001", "Why?", "Because.")]
    assert rows(store, "SELECT run, winner, models->>'pocket' FROM votes") == [("0001", "run:0001", "base")]
    assert rows(store, "SELECT what, step, path FROM made") == [("adapter", 3, "/there")]
    assert sorted(rows(store, "SELECT level, step, text FROM notes")) == [("info", None, "!"), ("watch", 2, "r is large")]


@pytest.mark.parametrize("name", VIEWS)
def test_each_table_has_the_columns_that_are_named_and_they_need_no_quotes(store: Store, name: str) -> None:
    view = VIEWS[name]
    whole = Question(f"FROM {name}").answer(store, 1)
    assert [column.name for column in whole.columns] == [column.name for column in view.columns]
    assert all(column.says for column in view.columns)
    names = ", ".join(column.name for column in view.columns)
    assert Question(f"SELECT {names} FROM {name} ORDER BY {names}").answer(store, 5)
    assert {kind for kind, *_ in rows(store, f"SELECT column_type FROM (DESCRIBE {name})")} <= {one.kind for one in view.columns} | {
        "VARCHAR"
    }


@pytest.mark.parametrize("title", EXAMPLES)
def test_each_example_has_an_answer(store: Store, title: str) -> None:
    assert Question(EXAMPLES[title]).answer(store, 100).rows


def test_a_speed_is_told_only_of_steps_that_had_a_gradient(store: Store) -> None:
    assert rows(store, EXAMPLES["Tokens per second by method"]) == [("lora", 20.0, 1)]


def test_only_what_is_named_is_copied(store: Store) -> None:
    assert named("SELECT * FROM runs JOIN Points USING (run)") == ["runs", "points"]
    assert named("SELECT 1") == [] and set(named("FROM query('FROM ' || 'points')")) == set(VIEWS)
    assert rows(store, "SELECT count(*) FROM query_table('poi' || 'nts')") == [(10,)]
    assert {name for (name,) in rows(store, "SHOW TABLES")} == set(VIEWS)


# What is refused.

READS_FILES = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv_auto('{file}')",
    "SELECT * FROM '{file}'",
    "FROM '{file}'",
    'FROM "{file}"',
    "FROM read_text('{file}')",
    "FROM read_blob('{file}')",
    "FROM read_json('{file}')",
    "FROM read_json_auto('{file}')",
    "FROM read_ndjson('{file}')",
    "FROM read_parquet('{file}')",
    "FROM parquet_scan(['{file}'])",
    "FROM parquet_metadata('{file}')",
    "FROM sniff_csv('{file}')",
    "FROM glob('{folder}/*')",
    "FROM read_duckdb('{folder}/workbench.duckdb')",
    "FROM 'https://example.org/x.parquet'",
    "FROM read_csv('s3://bucket/x.csv')",
    "FROM sqlite_scan('{file}', 'x')",
    "FROM duckdb_extensions()",
    "WITH x AS (SELECT * FROM read_text('{file}')) SELECT content FROM x",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM runs WHERE name IN (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM runs UNION ALL BY NAME SELECT content AS run FROM read_text('{file}')",
    "SELECT run FROM runs, LATERAL (SELECT * FROM read_text('{file}'))",
    "FROM query('FROM read_text(''{file}'')')",
    "FROM query_table('{file}')",
    "SELECT/**/*/**/FROM/**/read_text('{file}')-- a comment",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{file}')",
    "SUMMARIZE SELECT * FROM read_text('{file}')",
    "DESCRIBE '{file}'",
    "PIVOT (FROM read_text('{file}')) ON filename IN ('x') USING count(*)",
    "SELECT getenv('HOME')",
]
DOES_MORE = [
    "COPY runs TO '{target}'",
    "COPY (SELECT 1) TO '{target}' (FORMAT parquet)",
    "COPY runs FROM '{file}'",
    "EXPLAIN COPY runs TO '{target}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{target}'",
    "EXPORT DATABASE '{target}'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{folder}/workbench.duckdb' AS other",
    "ATTACH '{target}'",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET memory_limit = '64GB'",
    "RESET memory_limit",
    "PRAGMA database_list",
    "PRAGMA threads = 8",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "CREATE TABLE more AS SELECT 1",
    "CREATE VIEW runs AS SELECT 1",
    "CREATE MACRO twice(x) AS 2 * x",
    "CREATE SECRET (TYPE s3)",
    "INSERT INTO runs (run) VALUES ('9999')",
    "UPDATE runs SET name = 'x'",
    "DELETE FROM runs",
    "DROP TABLE runs",
    "DROP VIEW points",
    "ALTER TABLE votes ADD COLUMN x INTEGER",
    "TRUNCATE runs",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "COMMENT ON TABLE runs IS 'x'",
    "WITH gone AS (DELETE FROM votes RETURNING *) SELECT * FROM gone",
    "WITH more AS (INSERT INTO made (run) VALUES ('9999') RETURNING *) SELECT * FROM more",
    "EXPLAIN ANALYZE CREATE TABLE more AS SELECT 1",
    "EXPLAIN ANALYZE INSERT INTO votes (run) VALUES ('9999')",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY runs TO '{target}'",
    "SELECT 1; -- nothing\nDROP TABLE runs",
    "SELECT $$;$$; SET threads = 8",
    "SELECT ?",
    "SELECT $name",
    "",
    "  \n",
    "-- only a comment",
    "/* and */ ;",
    "SELEC 1",
    "SELECT * FROM store",
    "SELECT * FROM frames",
    "PIVOT points ON name USING avg(value)",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT '" + "x" * query.LONGEST + "'",
]


@pytest.fixture(scope="module")
def there(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("other")
    (folder / "secret.txt").write_text("a\nb\n")
    with Store(folder / "workbench.duckdb"):
        pass
    return {"folder": folder, "file": folder / "secret.txt", "target": folder / "written"}


@pytest.mark.parametrize("statement", [*READS_FILES, *DOES_MORE], ids=lambda text: text[:60])
def test_what_does_more_than_read_the_runs_is_refused_in_words(store: Store, there: dict[str, Path], statement: str) -> None:
    before = sorted(there["folder"].iterdir())
    written = statement
    for name, path in there.items():
        written = written.replace(f"{{{name}}}", str(path))
    with pytest.raises(QueryError) as refused:
        Question(written).answer(store, 10)
    says = refused.value.says
    assert says.endswith((".", "!", "?", "value)", "runs", "VARCHAR")) and "\n" not in says and "Error:" not in says and "SET " not in says
    assert sorted(there["folder"].iterdir()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "select 1;",
        "SELECT 1 -- ; DROP TABLE runs",
        "/* ; */ FROM runs",
        "FROM runs SELECT run",
        "TABLE runs",
        "VALUES (1), (2)",
        "WITH x AS (FROM points) SELECT count(*) FROM x",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) FROM n",
        "SELECT ';' AS mark, 'DROP TABLE runs' AS words",
        "SELECT * FROM main.runs",
        'SELECT r."run" FROM "runs" r',
        "SELECT * FROM runs UNION BY NAME SELECT * FROM made",
        "PIVOT points ON name IN ('loss', 'lr') USING avg(value) GROUP BY run",
        "UNPIVOT measures ON first, last",
        "SUMMARIZE points",
        "DESCRIBE runs",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM runs",
        "EXPLAIN ANALYZE SELECT * FROM runs",
        "SELECT prompt FROM answers WHERE prompt NOT LIKE '%COPY%'",
        "SELECT row_number() OVER (ORDER BY loss) FROM runs",
        "SELECT now() - created < INTERVAL 7 DAYS FROM runs",
        "SELECT [value] AS held, {'a': step} AS record FROM points",
        "SELECT 'infinity'::TIMESTAMP, DATE '5000000-01-01', INTERVAL 3 DAYS, 'x'::BLOB, uuid(), 1::DECIMAL(9, 2), MAP {'a': 1}",
    ],
)  # fmt: skip
def test_what_reads_is_answered(store: Store, statement: str) -> None:
    answer = Question(statement).answer(store, 1000)
    assert answer.columns and all(len(row) == len(answer.columns) for row in answer.rows)
    json.dumps([[flat(value) for value in row] for row in answer.rows])


# What is told.


def test_a_mistake_is_told_with_its_place(store: Store) -> None:
    with pytest.raises(QueryError) as wrong:
        Question("SELECT run,\n  lss\nFROM runs").answer(store, 10)
    error = wrong.value
    place = error.mark.index("^")
    assert '"lss" not found' in error.says and '"loss"' in error.says
    assert error.line[place : len(error.mark)] == "lss" and error.mark.strip("^ ") == ""
    assert error.line in str(error) and error.mark in str(error)


def test_what_leads_nowhere_here_is_told_otherwise() -> None:
    assert "points" in told("Permission Error: Cannot access file").says
    assert "Leave it out" in told("Catalog Error: it exists in the x extension.\nINSTALL x;").says
    assert told("Catalog Error: Table with name x does not exist!\nDid you mean y?").says == (
        "Table with name x does not exist! Did you mean y?"
    )
    assert told("Parser Error: syntax error").says == "Syntax error."


def test_columns_of_one_name_are_told_apart(store: Store) -> None:
    answer = Question('SELECT 1 AS a, 2 AS a, 3 AS "a 2"').answer(store, 1)
    assert len({column.name for column in answer.columns}) == 3 and answer.rows == [(1, 2, 3)]


def test_rows_are_bounded_and_it_is_said_that_there_are_more(store: Store) -> None:
    for many, more in ((9, True), (10, False), (11, False)):
        answer = Question("FROM range(10)").answer(store, many)
        assert (len(answer.rows), answer.more) == (min(many, 10), more)


def test_an_answer_without_end_begins_at_once(store: Store) -> None:
    assert Question("FROM range(1000000000000000)").answer(store, 3).rows == [(0,), (1,), (2,)]


def test_csv_has_every_row_and_says_a_mistake_before_it_begins(store: Store) -> None:
    lines = list(csv_lines(store, "SELECT 'a,\"b\"' AS t, true AS yes, NULL AS nothing, [1] AS held, range AS n FROM range(3000)"))
    assert lines[0] == "t,yes,nothing,held,n\n" and lines[1] == '"a,""b""",true,,[1],0\n' and len(lines) == 3001
    with pytest.raises(QueryError):
        next(csv_lines(store, "SELECT nothing FROM runs"))


def test_more_points_than_may_be_copied_are_refused_with_a_way_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MOST", 9)
    with pytest.raises(QueryError, match="measures"):
        Question("FROM points").answer(store, 1)
    assert Question("FROM runs").answer(store, 1)


# What it costs others.

ENDLESS = ["SELECT count(*) FROM range(1000000000000)", "SELECT max(a.range + b.range) FROM range(9999999) a, range(9999999) b",
           "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"]  # fmt: skip


@pytest.mark.parametrize("statement", ENDLESS)
def test_what_would_never_end_is_stopped_by_the_clock(store: Store, statement: str) -> None:
    with pytest.raises(QueryError, match="longer than"):
        Question(statement, seconds=0.3).answer(store, 1)


def test_a_person_can_stop_it_at_any_time(store: Store) -> None:
    question = Question(ENDLESS[0], seconds=60)
    threading.Timer(0.3, question.stop).start()
    with pytest.raises(QueryError, match="Stopped"):
        question.answer(store, 1)
    early = Question("SELECT 1")
    early.stop()
    with pytest.raises(QueryError, match="Stopped"):
        early.answer(store, 1)


def test_what_needs_too_much_memory_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.SEALED[0] == "memory_limit = '512MB'"
    monkeypatch.setattr(engine, "SEALED", ("memory_limit = '32MB'", *engine.SEALED[1:]))
    for statement in ("SELECT list(range) FROM range(1000000000)", "FROM range(1000000000) ORDER BY hash(range)"):
        with pytest.raises(QueryError, match="memory"):
            Question(statement, seconds=60).answer(store, 1)


def test_nothing_of_the_store_changes_and_no_thread_stays(tmp_path: Path) -> None:
    path = tmp_path / "workbench.duckdb"
    with Store(path) as store:
        store.append(store.create("train", "", SPEC), Measured(1, {"loss": 1.0}))
    before = hashlib.sha256(path.read_bytes()).digest()
    with Store(path, copy=True) as looked:
        Question("FROM points").answer(looked, 9)
        with pytest.raises(WorkbenchError):
            Question("DELETE FROM points").answer(looked, 9)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "query-watch"]


def test_a_run_writes_on_while_a_statement_is_answered(tmp_path: Path) -> None:
    with Store(tmp_path / "workbench.duckdb") as store:
        run = store.create("train", "", SPEC)
        store.append(run, Measured(1, {"loss": 1.0}))
        store.flush()
        question = Question(f"SELECT count(*) FROM points, ({ENDLESS[0]})", seconds=60)
        ended: list[str] = []

        def ask() -> None:
            try:
                question.answer(store, 1)
            except QueryError as error:
                ended.append(error.says)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
        for step in range(2, 50):
            store.append(run, Measured(step, {"loss": 1.0}))
            store.flush()
        assert asking.is_alive(), "the statement was answered before the run had written"
        assert len(store.series(run, "loss")[0]) == 49
        question.stop()
        asking.join()
        assert ended == ["Stopped. The statement is as it was."]


def test_tables_are_of_one_moment(tmp_path: Path) -> None:
    """Every run has as many points as its measures count, however fast they come in."""
    with Store(tmp_path / "workbench.duckdb") as store:
        run, over = store.create("train", "", SPEC), threading.Event()

        def write() -> None:
            step = 0
            while not over.wait(0.001):
                step += 1
                store.append(run, Measured(step, {"loss": 1.0}))
                store.flush()

        writing = threading.Thread(target=write)
        writing.start()
        try:
            both = "SELECT (SELECT count(*) FROM points), coalesce((SELECT sum(count) FROM measures), 0)"
            found = [Question(both).answer(store, 1).rows[0] for _ in range(8)]
        finally:
            over.set()
            writing.join()
        assert all(points == counted for points, counted in found) and found[-1] > found[0]


# What is kept.


def test_a_statement_is_kept_as_a_file_and_forgotten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert kept(workspace) == {}
    assert keep(workspace, " best runs ", "SELECT 1\n\n") == "best-runs"
    assert (tmp_path / "queries" / "best-runs.sql").read_text() == "SELECT 1\n"
    keep(workspace, "best-runs", "SELECT 2")
    assert kept(workspace) == {"best-runs": "SELECT 2\n"} and len(list((tmp_path / "queries").iterdir())) == 1
    forget(workspace, "best-runs")
    forget(workspace, "best-runs")
    assert kept(workspace) == {}


@pytest.mark.parametrize(("name", "statement"), [("", "SELECT 1"), ("../x", "SELECT 1"), ("a/b", "SELECT 1"), ("x", " ")])
def test_what_cannot_be_kept_is_refused(tmp_path: Path, name: str, statement: str) -> None:
    with pytest.raises(WorkbenchError):
        keep(Workspace(tmp_path), name, statement)
    assert kept(Workspace(tmp_path)) == {}
