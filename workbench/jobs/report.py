"""What a model learnt and what it lost, in one go: it and its base answer the same questions, then inspections say where the change sits.

Put together from `evaluate.py` and `inspect.py`, whose tables it passes on; it adds what to read first, `CHANGED` and its sentences.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.core.events import Event, Finished, Noted, Progress, Started, Table
from workbench.core.picture import Picture
from workbench.core.spec import EvaluateSpec, InspectSpec, ReportSpec
from workbench.core.workspace import Workspace
from workbench.jobs.evaluate import PICTURES, evaluate
from workbench.jobs.inspect import NUMBERS, base_of, inspect, pictures_of

CHANGED = "learnt and lost"
HEAD = ["set", "what became of it", "right before", "right after", "loss before", "loss after"]
HARDLY = 0.01  # share of the loss within which it counts as kept


def report(spec: ReportSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Answers first, then the inspections; each table is kept as soon as it is whole."""
    base = spec.base or base_of(spec.model, workspace)
    yield Started(1, {"model": spec.model, "base": base})
    shared: dict[str, Any] = {"max_length": spec.max_length, "seed": spec.seed}
    asking = EvaluateSpec(models=[base, spec.model], sets=spec.sets, max_tokens=spec.max_tokens, **shared)
    numbers, says = list[list[Any]](), list[str]()
    for event in evaluate(asking, folder, workspace):
        if isinstance(event, Table) and event.name == NUMBERS:
            numbers = event.rows
        elif isinstance(event, Progress | Table):
            yield event
    found = changed(numbers)
    yield Table(CHANGED, HEAD, found)
    for inspection in spec.inspections:
        looking = InspectSpec(models=[spec.model], base=base, inspection=inspection, **shared)
        for event in inspect(looking, folder, workspace):
            if isinstance(event, Noted):
                says.append(event.text)
            elif isinstance(event, Table) and event.name == NUMBERS:
                numbers = [*numbers, *event.rows]
            elif isinstance(event, Progress | Table):
                yield event
    yield Table(NUMBERS, ["model", "measure", "value"], numbers)
    says = [*told(found), *says]
    yield from (Noted(sentence) for sentence in says)
    yield Finished("finished", says[0])


def pictures(inspections: list[str]) -> list[Picture]:
    """How the tables of a report with these inspections are drawn."""
    return [*PICTURES, *(picture for name in inspections for picture in pictures_of(name))]


def changed(numbers: list[list[Any]]) -> list[list[Any]]:
    """A row for each set, from the `NUMBERS` of an evaluation of two models: what was learnt first, what was lost last."""
    if not numbers:  # sets of questions alone, of which nobody knows what is right
        return []
    before, after = dict.fromkeys(model for model, *_ in numbers)
    value = {(model, measure): number for model, measure, number in numbers}
    rows = []
    for name in dict.fromkeys(measure.rpartition(" · ")[0] for _, measure, _ in numbers):
        right, loss = ([value.get((model, f"{name} · {kind}")) for model in (before, after)] for kind in ("right", "loss"))
        rows.append([name, _became(right, loss), *right, *loss])
    order = {"learnt": 0, "kept": 1, "lost": 2}
    return sorted(rows, key=lambda row: order[row[1]])


def _became(right: list[Any], loss: list[Any]) -> str:
    """By the loss, which tells finer; by the answers where there is none."""
    if None in loss:
        return "kept" if right[0] == right[1] else "learnt" if right[1] > right[0] else "lost"
    before, after = loss
    return "kept" if abs(after - before) <= HARDLY * before else "learnt" if after < before else "lost"


def told(rows: list[list[Any]]) -> list[str]:
    """A sentence for each set."""
    found = []
    for name, became, *values in rows:
        right = "{:.1%} of the answers right before, {:.1%} after".format(*values[:2])
        loss = "" if None in values[2:] else "; {:.3g} nats a token before, {:.3g} after".format(*values[2:])
        found.append(f"{became.capitalize()}: {name}. {right}{loss}.")
    return found
