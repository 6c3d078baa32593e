"""A claim checked on a pico model, through the runner and the store: what is kept, what is taken away, and how it is stopped."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.core import claim as declared
from workbench.core.claim import FOUND, GAINS, SPECS, VERDICT, Claim, ClaimSpec, Expected, Measure, training
from workbench.core.errors import SpecError
from workbench.core.events import Event, Finished, Noted, Progress, Started, Table
from workbench.core.job import Job
from workbench.core.spec import TrainSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.claim import DONE, claim, jobs_of, keep, kept, size
from workbench.jobs.registry import JOBS
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.claiming import spec_of

LEARNT = Measure("validation loss", ("validation_loss",))
ASKED = Measure("loss when asked", ("tale.jsonl, held back · loss",))


@pytest.fixture
def toy(pico_folder: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    """A few steps learn more than one, and half of what they learnt lies between the two."""

    def run(steps: int) -> dict[str, Any]:
        more = {"model": str(pico_folder), "batch_size": 4, "update": {"method": "adamw", "lr": 1e-2}}
        return training(str(rows), steps, adapter={"method": "lora", "rank": 2}, **more) | {"prompts": ["hm"]}

    half = {"kind": "merge", "base": str(pico_folder), "models": [{"model": "run:long"}], "merge": {"method": "wise_ft", "alpha": 0.5}}
    asked = {"kind": "evaluate", "models": ["run:long", "model:half"], "max_tokens": 2}
    found = Claim(
        "merges", "wise_ft", "arXiv:2109.01903", "More steps learn more.", "P", {"long": run(4), "short": run(1), "half": half},
        {"long": "run:long", "short": "run:short", "half": "model:half"},
        (Expected(LEARNT, "long", "short"), Expected(ASKED, "long", "half")), 10, "Not the demo model.", (asked,),
    )  # fmt: skip
    monkeypatch.setitem(declared.CLAIMS, "toy", found)
    yield found


def checked(spec: ClaimSpec, workspace: Workspace) -> list[Event]:
    return list(claim(spec, workspace.run("0001"), workspace))


def test_a_claim_goes_through_every_layer_and_leaves_its_verdict(toy: Claim, workspace: Workspace) -> None:
    with Store(workspace.database) as store, Runner(store, workspace, JOBS) as runner:
        run = runner.wait(runner.submit(ClaimSpec(claim="toy", seeds=2)))
        assert run.status == "finished" and run.kind == "claim" and run.message.startswith("Shows here")
        tables = {table.name: table for table in store.tables(run.id)}
        assert tables[VERDICT].rows == [["shows here", 2, 2]]
        assert [row[:2] for row in tables[FOUND].rows] == [[name, seed] for name in toy.models for seed in (0, 1)]
        assert all(row[4] is True and row[2] > 0 for row in tables[GAINS].rows) and len(tables[GAINS].rows) == 4
        assert store.notes(run.id)[0].text == run.message
        assert [row[:2] for row in tables[SPECS].rows] == [["long", "train"], ["short", "train"], ["half", "merge"], ["asking", "evaluate"]]
        assert spec_of([*tables.values()], "long") == {**TrainSpec.parse(toy.specs(0)["long"]).model_dump(mode="json")}
    assert [path.name for path in workspace.run(run.id).iterdir()] == ["spec.yaml"], "its own runs are taken away"
    assert list(workspace.model().iterdir()) == []


def test_its_progress_is_in_steps_and_ends_whole(toy: Claim, workspace: Workspace) -> None:
    events = checked(ClaimSpec(claim="toy", seeds=1), workspace)
    (started,) = [event for event in events if isinstance(event, Started)]
    steps = [event for event in events if isinstance(event, Progress)]
    assert started.total == sum(size(job) for _, job in jobs_of(toy, 0)) == 25 and {event.total for event in steps} == {25}
    done = [event.done for event in steps]
    assert done == sorted(done) and done[-1] == 25 and done.count(25) == 1, "a seed is done when it is kept, and not before"
    assert any("long, seed 1 of 1" in event.what for event in steps)
    assert isinstance(events[-1], Finished) and all(isinstance(event, Noted) for event in events[-5:-1])


def test_a_check_that_is_stopped_takes_its_runs_away_and_begins_anew(toy: Claim, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    work = claim(ClaimSpec(claim="toy", seeds=1), folder, workspace)
    next(event for event in work if isinstance(event, Progress))
    assert (folder / "lab").exists()
    work.close()
    assert not (folder / "lab").exists()
    (folder / "lab" / "seed-0" / "runs" / "long").mkdir(parents=True)  # of one that was killed
    (folder / "lab" / "seed-0" / "runs" / "long" / "spec.yaml").write_text("kind: nonsense")
    assert isinstance(checked(ClaimSpec(claim="toy", seeds=1), workspace)[-1], Finished)


def test_a_check_that_was_stopped_goes_on_with_the_seeds_that_are_not_done(
    toy: Claim, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(toy, runs={"long": toy.runs["long"], "short": toy.runs["short"]}, expected=toy.expected[:1], asks=())
    monkeypatch.setitem(declared.CLAIMS, "toy", replace(small, models={"long": "run:long", "short": "run:short"}))
    whole = found_in(checked(ClaimSpec(claim="toy", seeds=2), Workspace(workspace.home / "beside")))
    trained, train = list[tuple[str, int]](), JOBS["train"]

    def watched(spec: TrainSpec, folder: Path, inner: Workspace) -> Iterator[Event]:
        trained.append((spec.name, spec.seed))
        if trained == [("long", 0), ("short", 0), ("long", 1)]:
            runner.stop(run)
        return train.work(spec, folder, inner)

    monkeypatch.setitem(JOBS, "train", Job(watched, train.lane))
    with Store(workspace.database) as store, Runner(store, workspace, JOBS) as runner:
        run = runner.submit(ClaimSpec(claim="toy", seeds=2))
        stopped = runner.wait(run)
        assert stopped.status == "stopped" and stopped.total == 10 and 5 <= stopped.step < 10
        assert {row[1] for row in found_in(store.tables(run))} == {0}, "the tables hold the seed that is done"
        assert {file.name for file in workspace.run(run).iterdir()} == {"spec.yaml", DONE}
        trained.clear()
        runner.resume(run)
        over = runner.wait(run)
        assert over.status == "finished" and trained == [("long", 1), ("short", 1)], "the second seed alone"
        assert found_in(store.tables(run)) == whole, "as if it had not been stopped"
        assert store.notes(run)[0].text == over.message and len(store.notes(run)) == 3
    assert [path.name for path in workspace.run(run).iterdir()] == ["spec.yaml"]


def found_in(events: Sequence[Event]) -> list[list[Any]]:
    return [event for event in events if isinstance(event, Table) and event.name == FOUND][-1].rows


def test_what_another_claim_of_that_name_has_found_is_not_counted(toy: Claim, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    keep(folder, toy, [{"long": {"validation_loss": math.nan}}])
    assert len(kept(folder, toy)) == 1 and math.isnan(kept(folder, toy)[0]["long"]["validation_loss"])
    assert kept(folder, replace(toy, expected=toy.expected[:1])) == [] == kept(workspace.run("0002"), toy)


def test_the_verdict_follows_the_numbers(toy: Claim, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Claim(**{**vars(toy), "expected": (Expected(LEARNT, "short", "long"),), "asks": ()})
    monkeypatch.setitem(declared.CLAIMS, "toy", turned)
    events = checked(ClaimSpec(claim="toy", seeds=1), workspace)
    assert events[-1] == Finished("finished", "Does not show here: all that is expected holds with 0 of 1 seed.")
    (verdict,) = [event for event in events if isinstance(event, Table) and event.name == VERDICT]
    assert verdict.rows == [["does not show here", 0, 1]]


def test_a_number_that_is_none_is_left_empty(toy: Claim, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never said of a model, or is not finite, is no number in the tables, which go through JSON."""
    odd = Claim(**{**vars(toy), "expected": (Expected(Measure("nothing", ("never said",)), "long", "short"),), "asks": ()})
    monkeypatch.setitem(declared.CLAIMS, "toy", odd)
    tables = [event for event in checked(ClaimSpec(claim="toy", seeds=1), workspace) if isinstance(event, Table)]
    values = [cell for table in tables for row in table.rows for cell in row if isinstance(cell, float)]
    assert all(map(math.isfinite, values)) and [row[2] for table in tables if table.name == FOUND for row in table.rows] == [None] * 3


def test_a_setting_that_is_gone_is_told_before_anything_is_trained(
    toy: Claim, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Claim(**{**vars(toy), "runs": {**toy.runs, "half": {**toy.runs["half"], "merge": {"method": "wise_ft", "beta": 1}}}})
    monkeypatch.setitem(declared.CLAIMS, "toy", wrong)
    with pytest.raises(SpecError, match="beta"):
        checked(ClaimSpec(claim="toy", seeds=1), workspace)
    assert not (workspace.run("0001") / "lab").exists()


def test_every_spec_can_be_read_again_as_it_is_written(toy: Claim, workspace: Workspace) -> None:
    (written,) = [
        event for event in checked(ClaimSpec(claim="toy", seeds=1), workspace) if isinstance(event, Table) and event.name == SPECS
    ]
    assert [parse_spec(yaml.safe_load(text)) for *_, text in written.rows] == [job for _, job in jobs_of(toy, 0)]
