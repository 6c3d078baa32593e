"""What a person's statement can ask of: tables made for reading, each with its columns, what they mean and where they come from.

One place says them all: the editor's list, the shell's and the snapshot are read from here. What it is not: the tables as they lie in the
database (`schema.py`), which may change; these are what statements that people keep rely on. Times are in UTC. Tag: [M] measured.
"""

from dataclasses import dataclass

MOST = 10_000_000  # rows of one table that are copied for a statement: of points about 46 bytes each [M]


@dataclass(frozen=True)
class Column:
    """`kind`: DuckDB's type. `of`: the expression over the database's own tables."""

    name: str
    kind: str
    of: str
    says: str


@dataclass(frozen=True)
class View:
    """`source`: what stands after FROM, and before LIMIT."""

    name: str
    says: str
    source: str
    columns: tuple[Column, ...]

    def question(self) -> str:
        """The whole table, and one row more where it is too long."""
        wanted = ", ".join(f'CAST({column.of} AS {column.kind}) AS "{column.name}"' for column in self.columns)
        return f"SELECT {wanted} FROM {self.source} LIMIT {MOST + 1}"

    def empty(self) -> str:
        """The statement that makes this table without rows."""
        columns = ", ".join(f'"{column.name}" {column.kind}' for column in self.columns)
        return f"CREATE TABLE {self.name} ({columns})"


def _run(source: str = "run") -> Column:
    return Column("run", "VARCHAR", f"format('{{:04d}}', {source})", "the run's number, as everywhere: '0042'")


def _own(name: str, kind: str, says: str) -> Column:
    """As it lies in the database, under the same name."""
    return Column(name, kind, name, says)


def _spec(name: str, kind: str, path: str, says: str) -> Column:
    return Column(name, kind, f"TRY_CAST(spec::JSON->>'$.{path}' AS {kind})", says)


def _last(name: str, says: str) -> Column:
    return Column(name, "DOUBLE", f"TRY_CAST(ends::JSON->>'$.{name}[1]' AS DOUBLE)", says)


TIME = Column("time", "TIMESTAMP", "wall", "when, in UTC")
STEP = _own("step", "BIGINT", "at which step")
PROMPT = _own("prompt", "VARCHAR", "what was asked")

RUNS = View(
    "runs", "A row for each run, with its settings and where it stands.", "runs ORDER BY number",
    (
        _run("number"),
        _own("name", "VARCHAR", "what somebody called it"),
        _own("kind", "VARCHAR", "train, merge, compare, inspect, evaluate, report or claim"),
        _own("status", "VARCHAR", "queued, running, paused, finished, stopped, failed or interrupted"),
        _spec("model", "VARCHAR", "model", "the model that is tuned or looked at"),
        _spec("data", "VARCHAR", "data.path", "the data set that is learnt from"),
        Column(
            "method", "VARCHAR",
            "coalesce(spec::JSON->>'$.adapter.method', spec::JSON->>'$.merge.method', spec::JSON->>'$.inspection.method')",
            "the adapter that is trained, the merge, or the inspection",
        ),
        _spec("rank", "INTEGER", "adapter.rank", "the adapter's rank"),
        _spec("objective", "VARCHAR", "loss.method", "the loss that is minimized"),
        _spec("optimizer", "VARCHAR", "update.method", "the update rule"),
        _spec("lr", "DOUBLE", "update.lr", "learning rate"),
        _spec("batch_size", "INTEGER", "batch_size", "rows in one forward pass"),
        _spec("seed", "INTEGER", "seed", "what fixes chance"),
        _own("step", "BIGINT", "where it stands"),
        Column("steps", "BIGINT", "total", "where it ends"),
        _last("loss", "the last training loss"),
        _last("validation_loss", "the last validation loss"),
        _last("base_loss", "the last loss on what was known before"),
        Column("seconds", "DOUBLE", "epoch(ended - started)", "from its first step to its end"),
        _own("created", "TIMESTAMP", "when it was asked for, in UTC"),
        _own("message", "VARCHAR", "how it ended, in words"),
        _own("spec", "JSON", "every setting: spec->>'$.update.lr' is one"),
    ),
)  # fmt: skip
POINTS = View(
    "points", "Everything that was measured, step by step.", "metrics",
    (
        _run(),
        _own("name", "VARCHAR", "what was measured: loss, validation_loss, grad_norm, lr, step_ratio, tokens_per_s …"),
        STEP,
        _own("value", "DOUBLE", "the number, which may be NaN"),
        TIME,
    ),
)  # fmt: skip
MEASURES = View(
    "measures", "A row for each run and each thing that it measured.", "metrics GROUP BY run, name ORDER BY run, min(seq)",
    (
        _run(),
        _own("name", "VARCHAR", "what was measured, as in points"),
        Column("count", "BIGINT", "count(*)", "how often"),
        Column("first", "DOUBLE", "arg_min(value, step)", "the first value"),
        Column("last", "DOUBLE", "arg_max(value, step)", "the last value"),
        Column("lowest", "DOUBLE", "min(value) FILTER (isfinite(value))", "the lowest value that is a number"),
        Column("lowest_step", "BIGINT", "arg_min(step, value) FILTER (isfinite(value))", "at which step"),
        Column("highest", "DOUBLE", "max(value) FILTER (isfinite(value))", "the highest value that is a number"),
        Column("highest_step", "BIGINT", "arg_max(step, value) FILTER (isfinite(value))", "at which step"),
    ),
)  # fmt: skip
FINDINGS = View(
    "findings", "Each number that an inspection, an evaluation or a report found.",
    "(SELECT run, wall, unnest(body::JSON[]) AS cells FROM tables WHERE name = 'numbers')",
    (
        _run(),
        Column("model", "VARCHAR", "cells->>0", "of which model"),
        Column("measure", "VARCHAR", "cells->>1", "what was found"),
        Column("value", "DOUBLE", "TRY_CAST(cells->>2 AS DOUBLE)", "the number"),
        TIME,
    ),
)  # fmt: skip
TABLE_ROWS = View(
    "table_rows", "Each row of each table that a run left.",
    "(SELECT run, name, wall, head::VARCHAR[] AS heads, unnest(body::JSON[]) AS cells, "
    "generate_subscripts(body::JSON[], 1) AS place FROM tables)",
    (
        _run(),
        _own("name", "VARCHAR", "what the table is called"),
        _own("place", "BIGINT", "which of its rows, from 1"),
        Column("cells", "JSON", "to_json(map(heads, cells::JSON[]))", "the row by column: cells->>'model' is one of its cells"),
        TIME,
    ),
)  # fmt: skip
ANSWERS = View(
    "answers", "What models said, in comparisons and as they learnt.", "said ORDER BY run, step, seq",
    (
        _run(),
        STEP,
        Column("model", "VARCHAR", "speaker", "who answered"),
        PROMPT,
        _own("answer", "VARCHAR", "the whole answer"),
        TIME,
    ),
)  # fmt: skip
VOTES = View(
    "votes", "Votes on answers without names, in the order in which they were given.", "votes ORDER BY wall",
    (
        _run(),
        PROMPT,
        _own("outcome", "VARCHAR", "how the vote went"),
        _own("winner", "VARCHAR", "which model won, if one did"),
        _own("models", "JSON", "who stood for election, by reference"),
        _own("seed", "BIGINT", "what fixed the answers"),
        TIME,
    ),
)  # fmt: skip
MADE = View(
    "made", "What runs left on disk.", "made ORDER BY wall",
    (
        _run(),
        _own("what", "VARCHAR", "checkpoint, adapter, model or data"),
        STEP,
        _own("path", "VARCHAR", "where it lies"),
        TIME,
    ),
)  # fmt: skip
NOTES = View(
    "notes", "What runs said of themselves.", "notes ORDER BY wall",
    (
        _run(),
        _own("level", "VARCHAR", "info, watch or act"),
        Column("step", "BIGINT", "nullif(step, -1)", "of which step it speaks, if of one"),
        _own("text", "VARCHAR", "the sentence"),
        TIME,
    ),
)  # fmt: skip

VIEWS: dict[str, View] = {view.name: view for view in (RUNS, POINTS, MEASURES, FINDINGS, TABLE_ROWS, ANSWERS, VOTES, MADE, NOTES)}

EXAMPLES: dict[str, str] = {
    "Best by validation loss": """SELECT r.run, r.name, r.method, r.lr, m.lowest, m.lowest_step
FROM measures m JOIN runs r USING (run)
WHERE m.name = 'validation_loss'
ORDER BY m.lowest
LIMIT 20""",
    "Methods: mean ± sd over runs": """SELECT method, avg(validation_loss) AS mean, stddev_samp(validation_loss) AS sd, count(*) AS runs
FROM runs
WHERE kind = 'train' AND status = 'finished'
GROUP BY method
ORDER BY mean""",
    "Learning rate against loss": """SELECT method, lr, validation_loss, run
FROM runs
WHERE kind = 'train' AND validation_loss IS NOT NULL
ORDER BY method, lr""",
    "Tokens per second by method": """-- the median of steps that had a gradient; the first step also pays for warming up
SELECT r.method, median(p.value) AS tokens_per_s, count(DISTINCT p.run) AS runs
FROM points p JOIN runs r USING (run)
WHERE p.name = 'tokens_per_s' AND p.step > 1
  AND EXISTS (FROM points g WHERE g.run = p.run AND g.step = p.step AND g.name = 'grad_norm' AND g.value > 0)
GROUP BY r.method
ORDER BY tokens_per_s DESC""",
    "Longest runs": """SELECT run, name, kind, status, seconds / 60 AS minutes
FROM runs
WHERE seconds IS NOT NULL
ORDER BY seconds DESC
LIMIT 20""",
    "Loss curves of the newest three": """SELECT run, step, value AS loss
FROM points
WHERE name = 'loss' AND run IN (SELECT run FROM points WHERE name = 'loss' GROUP BY run ORDER BY run DESC LIMIT 3)
ORDER BY run, step""",
}
"""Statements to begin with, by what they tell."""
