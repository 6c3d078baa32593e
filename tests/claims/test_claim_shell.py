"""`python -m workbench claim`: what there is and what was found here, and a check in the words of the card."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from workbench import claim_shell
from workbench.__main__ import app
from workbench.core.claim import VERDICT, ClaimSpec, claims
from workbench.core.events import Event, Finished, Noted, Started, Table
from workbench.core.job import Job
from workbench.core.workspace import Workspace
from workbench.jobs import registry
from workbench.runs.store import Store


def cli(workspace: Workspace, *words: str) -> Result:
    return CliRunner().invoke(app, ["claim", *words, "--home", str(workspace.home)])


def toy(spec: ClaimSpec, folder: object, workspace: Workspace) -> Iterator[Event]:
    yield Started(1)
    yield Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [["mixed", 1, spec.seeds]])
    yield Noted("Mixed: as it is.")
    yield Finished("finished", "Mixed: as it is.")


def test_without_a_name_every_claim_is_listed_with_its_newest_verdict_here(workspace: Workspace) -> None:
    assert all(name in cli(workspace).stdout for name in claims()) and "not checked yet" in cli(workspace).stdout
    first = next(iter(claims()))
    with Store(workspace.database) as store:
        for verdict in ("mixed", "shows here"):
            run = store.create("claim", "", ClaimSpec.of(first).model_dump(mode="json"))
            store.append(run, Table(VERDICT, ["verdict"], [[verdict]]), Finished("finished"))
    said = {row["name"]: row["verdict"] for row in json.loads(cli(workspace, "--json").stdout)}
    assert said == {name: "shows here" if name == first else None for name in claims()}


def test_with_a_name_it_is_checked_and_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.JOBS, "claim", Job(toy, "device"))
    name = next(iter(claims()))
    result = cli(workspace, name, "--seeds", "2")
    assert result.exit_code == 0 and result.stdout.startswith("Mixed: as it is.") and VERDICT in result.stdout
    with Store(workspace.database) as store:
        (run,) = store.runs("claim")
    assert run.spec == {"kind": "claim", "name": f"claim: {name}", "claim": name, "seeds": 2}


def test_an_unknown_claim_is_a_sentence(workspace: Workspace) -> None:
    result = cli(workspace, "nonsense")
    assert result.exit_code == 1 and "there are: " in result.stderr and "Traceback" not in result.stderr


def test_a_check_that_was_stopped_goes_on_under_its_own_number(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.JOBS, "claim", Job(toy, "device"))
    first = next(iter(claims()))
    with Store(workspace.database) as store:
        run = store.create("claim", "", ClaimSpec.of(first, 2).model_dump(mode="json"))
        store.append(run, Finished("stopped"))
    result = cli(workspace, "--resume", run)
    assert result.exit_code == 0 and result.stdout.startswith("Mixed: as it is.")
    with Store(workspace.database) as store:
        assert [(found.id, found.status) for found in store.runs("claim")] == [(run, "finished")]
    both = cli(workspace, first, "--resume", run)
    assert both.exit_code == 1 and "--resume" in both.stderr


def test_what_came_out_on_our_machine_stands_beside_what_came_out_here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = list(claims())[:2]
    monkeypatch.setattr(claim_shell, "outcome_of", lambda name, claim: Shipped("mixed") if name == first else None)
    rows = {row["name"]: row["ours"] for row in json.loads(cli(workspace, "--json").stdout)}
    assert rows[first] == "mixed" and rows[second] is None
    assert "on our machine" in cli(workspace).stdout and "mixed" in cli(workspace).stdout


class Shipped(NamedTuple):
    verdict: str
