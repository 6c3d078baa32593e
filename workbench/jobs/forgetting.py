"""How forgetting went along with learning over the runs on record, and how it grew with what was tuned and for how long.

Runs are held together whose specs are the same but for the adapter, the update, the steps and what readings cost (`FREE`). Forgetting is
the loss on what the model knew at the last evaluation, learning the validation loss there. The laws are `materials/forgetting_law.py`'s.
What it is not: it starts no run and opens no database (it is given one to read). Tags: [O] our own choice.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.picture import Picture
from workbench.core.spec import TrainSpec
from workbench.core.words import number
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import estimate
from workbench.jobs.records import Records
from workbench.materials.forgetting_law import FEWEST, Law, Line, Tuned, fit, line

LEARNT, FORGOTTEN = "validation_loss", "base_loss"
FREE = (
    "name", "adapter", "update", "steps", "schedule", "warmup", "seed", "evaluate_every", "sample_every", "checkpoint_every", "prompts",
    "stop", "probes", "changes",
)  # fmt: skip
"""What may differ between the runs of a law [O]."""
COLUMNS = ["run", "adapter", "numbers tuned", "steps", "validation loss", "loss on what was known", "by the line", "by the law"]
PICTURE = Picture(
    "runs", "points", "What was forgotten by what was learnt", x="validation loss", y="loss on what was known", each="adapter"
)


@dataclass(frozen=True)
class Measured:
    """A finished run with both losses on record."""

    run: str
    spec: Mapping[str, Any]
    tuned: Tuned

    @property
    def task(self) -> str:
        """What runs of one law have in common."""
        return json.dumps({name: value for name, value in self.spec.items() if name not in FREE}, sort_keys=True, default=str)


@dataclass(frozen=True)
class Account:
    """Runs of one task, the line through them, and the law where they tell one; `why` says why they do not."""

    title: str
    runs: list[Measured]
    line: Line
    law: Law | None
    why: str = ""


def measured(records: Records, workspace: Workspace) -> list[Measured]:
    """Every finished training run with both losses, the oldest first; one whose base or method is gone is left out."""
    found = []
    for run in reversed(records.runs("train")):
        losses = [run.metrics.get(name, (0, 0))[1] for name in (LEARNT, FORGOTTEN)]
        if run.status == "finished" and all(0 < loss < math.inf for loss in losses) and run.step > 0:
            try:
                trained = estimate(TrainSpec.parse(run.spec), workspace).trained  # type: ignore[arg-type]
            except WorkbenchError:
                continue
            found.append(Measured(run.id, run.spec, Tuned(trained, run.step, *losses)))
    return found


def accounts(runs: Sequence[Measured]) -> list[Account]:
    """An account of each task with enough runs, in the order of the first runs.

    Raises:
        WorkbenchError: there is none; it says how near the nearest is.
    """
    groups: dict[str, list[Measured]] = {}
    for one in runs:
        groups.setdefault(one.task, []).append(one)
    whole = [own for own in groups.values() if len(own) >= FEWEST]
    if not whole:
        most = max(map(len, groups.values()), default=0)
        raise WorkbenchError(
            f"How forgetting goes along with learning is told from {FEWEST} finished runs on the same data with the same base, each with a "
            f"validation loss and a loss on known skills; the most so far are {most}. Vary the adapter, its size, the learning rate or the "
            "steps: 'Vary one setting' on the Train tab starts several."
        )
    return [_account(own) for own in whole]


def _account(runs: list[Measured]) -> Account:
    points, spec = [one.tuned for one in runs], runs[0].spec
    title = f"{spec['model']} on {spec['data']['path']}"
    try:
        return Account(title, runs, line(points), fit(points))
    except WorkbenchError as error:  # all of one size, or all of as many steps: the line is there all the same
        return Account(title, runs, line(points), None, str(error))


def told(account: Account) -> list[str]:
    """The line and the law in sentences."""
    way, law = account.line, account.law
    said = [
        f"Loss on what was known = {number(way.start)} − {number(way.slope)} · validation loss over {len(account.runs)} runs, "
        f"{number(way.error)} nats off on average: each nat that was learnt cost {number(way.slope)}."
    ]
    if law is None:
        return [*said, account.why]
    said.append(
        f"It grew with the numbers tuned to the power of {law.parameters_power:.2f} and with the steps to the power of "
        f"{law.steps_power:.2f}, from {number(law.floor)}; {law.error:.1%} off on average."
    )
    (_, most), (_, longest) = law.seen
    now, longer, larger = law(most, longest), law(most, 2 * longest), law(2 * most, longest)
    return [
        *said,
        f"By the law the largest and longest of them forget {number(now)}; with twice the steps {number(longer)}, with twice the numbers "
        f"{number(larger)}.",
    ]


def table(account: Account) -> Table:
    """The runs beside what the line and the law say of them."""
    rows = []
    for one in account.runs:
        own = one.tuned
        law = account.law(own.parameters, own.steps) if account.law else None
        adapter = str(one.spec["adapter"]["method"])
        rows.append([one.run, adapter, own.parameters, own.steps, own.loss, own.forgetting, account.line(own.loss), law])
    return Table(PICTURE.table, COLUMNS, rows)
