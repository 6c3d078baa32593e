"""Claims of papers from a shell: `python -m workbench claim` lists them, with a name it checks one on the demo model.

A check is a run like any other; what it found goes to stdout in the words of the method's card. Not here: the claims (`workbench/claims/`).
"""

from pathlib import Path
from typing import Annotated

import typer

from workbench.core.claim import SEEDS, VERDICT, ClaimSpec, claims
from workbench.core.errors import WorkbenchError
from workbench.core.outcome import NOT_CHECKED, outcome_of
from workbench.core.words import duration
from workbench.runs.store import Store
from workbench.runs.text import as_json, grid
from workbench.shell import finish, looking, registry


def claim(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Which claim; all are listed if not given.")] = "",
    seeds: Annotated[int, typer.Option(min=1, max=20, help="How often everything is trained, each time with another seed.")] = SEEDS,
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with a check that was stopped: with the seeds that are not done.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON; numbers that are not finite become text.")] = False,
    home: Annotated[Path | None, typer.Option("--home", help="The workspace folder; WORKBENCH_HOME or ./workspace if not given.")] = None,
) -> None:
    """Check a paper's claim on the demo model, in about a minute; without a name, list the claims and their verdicts here."""
    if name and resume:
        raise WorkbenchError("A check is resumed as it is, so give either the name of a claim or --resume RUN.")
    if name or resume:
        registry()
        finish(ClaimSpec.of(name, seeds) if name else resume, home, kind="claim", json=json)
        return
    with looking(home) as store:
        verdicts = verdicts_in(store)
    ours = {own: found.verdict if (found := outcome_of(own, one)) else None for own, one in claims().items()}
    if json:
        rows = [
            {"name": own, "method": one.method, "paper": one.paper, "claim": one.says, "seconds": one.seconds}
            | {"verdict": verdicts.get(own), "ours": ours[own]}
            for own, one in claims().items()
        ]
        typer.echo(as_json(rows))
        return
    lines = [
        [own, one.method, one.paper, duration(one.seconds), verdicts.get(own) or "not checked yet", ours[own] or NOT_CHECKED]
        for own, one in claims().items()
    ]
    typer.echo(grid(lines, ["name", "method", "paper", "about", "here", "on our machine"]))


def verdicts_in(store: Store) -> dict[str, str]:
    """The newest verdict of each claim that was checked in this workspace."""
    found: dict[str, str] = {}
    for run in reversed(store.runs("claim")):
        for table in store.tables(run.id) if run.status == "finished" else []:
            if table.name == VERDICT:
                found[run.spec["claim"]] = str(table.rows[0][0])
    return found
