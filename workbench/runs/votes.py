"""Votes in SQL: one is written, all are read. Names no engine: `ask(sql, values)` runs a statement and gives its rows.

A vote belongs to nobody's run: it stays when the run that was voted on is deleted.
"""

import json
from datetime import UTC

from workbench.core.ratings import Vote
from workbench.runs.records import number_of
from workbench.runs.rows import now, plain
from workbench.runs.schema import Ask


def write(ask: Ask, vote: Vote) -> None:
    """Put one vote on record, with this moment. Called by the writing thread alone."""
    models, decoder = (plain(json.dumps(dict(part))) for part in (vote.models, vote.decoder))
    ask(
        "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [now(), number_of(vote.run), plain(vote.prompt), models, vote.outcome, plain(vote.winner), vote.seed, decoder],
    )


def read(ask: Ask) -> list[Vote]:
    """All votes in the order in which they were given."""
    rows = ask("SELECT run, prompt, models, outcome, winner, seed, decoder, wall FROM votes ORDER BY wall, rowid")
    return [
        Vote(f"{run:04d}", prompt, json.loads(models), outcome, winner, seed, json.loads(decoder), wall.replace(tzinfo=UTC))
        for run, prompt, models, outcome, winner, seed, decoder, wall in rows
    ]
