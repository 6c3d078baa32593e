"""Votes on record: they come back as given, in order, outlive their run and the program, and an older database takes them up."""

from pathlib import Path

import duckdb
import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished
from workbench.core.ratings import Vote
from workbench.runs.store import Store

GIVEN = Vote(
    "0001", "Why \ud800 “so”?", {"run:0001": "a 'name'", "pocket": "pocket"}, "best", "run:0001", 7, {"method": "plain", "share": 0.5}
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workbench.duckdb"


def as_given(vote: Vote) -> Vote:
    """Without the moment, which the store adds, and with the halves of characters that no database keeps made plain."""
    return Vote(vote.run, vote.prompt.replace("\ud800", "?"), vote.models, vote.outcome, vote.winner, vote.seed, vote.decoder)


def test_votes_come_back_in_their_order(path: Path) -> None:
    others = [Vote("0002", f"{number}", {"a": "a", "b": "b"}, "tie") for number in range(20)]
    with Store(path) as store:
        for vote in (GIVEN, *others):
            store.vote(vote)
        assert [as_given(vote) for vote in store.votes()] == [as_given(vote) for vote in (GIVEN, *others)]
        assert list(store.votes()[0].models) == ["run:0001", "pocket"], "in the order in which they were shown"
    with Store(path) as again:
        found = again.votes()
        assert len(found) == 21 and all(vote.wall is not None and vote.wall.tzinfo for vote in found)


def test_votes_outlive_the_run_they_were_given_on(path: Path) -> None:
    with Store(path) as store:
        run = store.create("compare", "", {})
        store.append(run, Finished("finished"))
        store.vote(Vote(run, "?", {"a": "a", "b": "b"}, "bad"))
        store.delete(run)
        assert store.runs() == [] and [vote.run for vote in store.votes()] == [run]


VERSION_2 = """
CREATE TABLE version (number INTEGER); INSERT INTO version VALUES (1), (2);
CREATE TABLE last_number (number INTEGER); INSERT INTO last_number VALUES (7);
CREATE TABLE runs (number INTEGER, name VARCHAR, kind VARCHAR, status VARCHAR, step BIGINT, total BIGINT, unit VARCHAR, spec VARCHAR,
  message VARCHAR, traceback VARCHAR, created TIMESTAMP, started TIMESTAMP, ended TIMESTAMP, seq BIGINT, reset_seq BIGINT, ends VARCHAR);
INSERT INTO runs VALUES (7, 'from before', 'train', 'finished', 1, 1, 'step', '{}', '', '', now(), NULL, NULL, 0, 0, '{}');
CREATE TABLE metrics (run INTEGER, seq BIGINT, name VARCHAR, step BIGINT, value DOUBLE, wall TIMESTAMP);
CREATE TABLE said (run INTEGER, seq BIGINT, step BIGINT, speaker VARCHAR, prompt VARCHAR, answer VARCHAR, tokens VARCHAR, wall TIMESTAMP);
CREATE TABLE tables (run INTEGER, name VARCHAR, head VARCHAR, body VARCHAR, wall TIMESTAMP);
CREATE TABLE made (run INTEGER, what VARCHAR, path VARCHAR, step BIGINT, wall TIMESTAMP);
CREATE TABLE notes (run INTEGER, level VARCHAR, text VARCHAR, wall TIMESTAMP, step BIGINT DEFAULT -1);
"""  # as a workbench that knew no votes left it behind


def test_a_database_from_before_there_were_votes_takes_them_up(path: Path) -> None:
    with duckdb.connect(path) as before:
        before.execute(VERSION_2)
    with Store(path) as store:
        assert store.votes() == [] and [run.name for run in store.runs()] == ["from before"]
        store.vote(GIVEN)
        assert len(store.votes()) == 1 and store.create("train", "", {}) == "0008"


def test_a_copy_shows_votes_and_takes_none(path: Path) -> None:
    with Store(path) as store:
        store.vote(GIVEN)
        with Store(path, copy=True) as look:
            assert len(look.votes()) == 1
            with pytest.raises(WorkbenchError, match="copy"):
                look.vote(GIVEN)


def test_a_vote_on_what_is_no_run_is_refused(path: Path) -> None:
    with Store(path) as store, pytest.raises(WorkbenchError, match="no run"):
        store.vote(Vote("seven", "?", {"a": "a", "b": "b"}, "tie"))
