"""What tuning did to some models: a base, those tuned from it, rows where the inspection reads any, and what it found as tables.

What it is not: how something is found (`methods/inspections/`), or drawn. What was found is kept with the job's run: its sentences as
notes, its tables as tables, and what can be held against other runs in the table `NUMBERS`.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Noted, Started, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import shelf
from workbench.core.picture import Finding, Picture
from workbench.core.spec import InspectSpec
from workbench.core.workspace import Workspace, named
from workbench.jobs.machine import share_cores
from workbench.jobs.scoring import held_back, of_runs
from workbench.materials.corpus import Example, load
from workbench.materials.models import POCKET, resolve, skeleton, tokenizer
from workbench.materials.subject import Subject
from workbench.materials.templates import Encoded, encode_all
from workbench.methods.contracts import Inspection

NUMBERS = "numbers"


def inspect(spec: InspectSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Inspect the models; progress comes from the inspection, tables and sentences when all is done."""
    subject = laid_out(spec, workspace)
    subject.folder = folder
    inspection = cast(Inspection, spec.inspection)
    yield Started(1, {"models": subject.labels, "base": subject.refs[0].label, "cost": inspection.costs()})
    finding = yield from inspection.inspect(subject)
    yield from told(finding)
    yield Finished("finished", finding.says[0])


def told(finding: Finding) -> Iterator[Event]:
    """What was found as events."""
    yield from finding.tables
    rows = [[model, measure, value] for model, numbers in finding.numbers.items() for measure, value in numbers.items()]
    if rows:
        yield Table(NUMBERS, ["model", "measure", "value"], rows)
    yield from (Noted(sentence) for sentence in finding.says)


def pictures_of(name: str) -> tuple[Picture, ...]:
    """How the tables of this inspection are drawn; none where this version does not know it any more."""
    known = cast(dict[str, type[Inspection]], shelf("inspections"))
    return known[name].pictures if name in known else ()


def laid_out(spec: InspectSpec, workspace: Workspace) -> Subject:
    """The models of the spec and the rows that its inspection reads; no model is loaded yet.

    Raises:
        WorkbenchError: a model or a data set is not there, or there are no rows to read.
    """
    base = spec.base or base_of(spec.models[0], workspace)
    refs = [resolve(reference, workspace) for reference in (base, *spec.models)]
    inspection = cast(Inspection, spec.inspection)
    rows, examples = dict[str, Sequence[Encoded]](), dict[str, Sequence[Example]]()
    for name in inspection.looks_at():
        examples[name], rows[name] = _read(name, spec, base, workspace)
    subject = Subject(refs[0], refs[1:], rows, examples, spec.seed)
    share_cores(skeleton(refs[0].path))
    return subject


def base_of(reference: str, workspace: Workspace) -> str:
    """Reference of the model that this one was tuned or merged from.

    Raises:
        WorkbenchError: it does not say.
    """
    for file in _recipes(reference, workspace):
        told = _plain(file)
        if told:
            return str(told.get("base") or told.get("model") or POCKET)
    ref = resolve(reference, workspace)
    if ref.adapter is not None:
        return ref.path
    raise WorkbenchError(f"{ref.label} does not say what it was tuned from. Name that model as the base.")


def _recipes(reference: str, workspace: Workspace) -> list[Path]:
    """Where it may be written what a run or a model of the workspace was made from."""
    kind, _, name = reference.partition(":")
    if kind == "run":
        return [workspace.home / "runs" / named(name) / "spec.yaml"]
    return [workspace.model(named(name)) / file for file in ("merge.yaml", "fold.yaml")] if kind == "model" else []


def _plain(file: Path) -> dict[str, Any]:
    """A recipe as plain values; nothing where it is missing or damaged."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(name: str, spec: InspectSpec, base: str, workspace: Workspace) -> tuple[list[Example], list[Encoded]]:
    """Some rows of a set, drawn by the seed, as they are written and as tokens; those without a token to learn are left out."""
    found = load(name, workspace, {}).examples if name else _held(spec, workspace)
    most = cast(LooksAtRows, spec.inspection).most_rows
    drawn = [found[place] for place in sorted(random.Random(spec.seed).sample(range(len(found)), min(most, len(found))))]
    encoded = list(encode_all(tokenizer(resolve(base, workspace)), drawn, "answers", spec.max_length))
    both = [(example, row) for example, row in zip(drawn, encoded, strict=True) if isinstance(row, Encoded) and any(row.trained[1:])]
    if not both:
        raise WorkbenchError(
            f"{spec.inspection.title()} reads rows, and {name or 'what the runs held back'} has none with an answer. "
            "Name another data set in its setting rows."
        )
    return [example for example, _ in both], [row for _, row in both]


def _held(spec: InspectSpec, workspace: Workspace) -> list[Example]:
    """What the runs among the models, or among those that they were merged from, held back."""
    origins = [origin for model in spec.models for origin in _origins(model, workspace)]
    found = [example for _, examples in held_back(of_runs(origins, workspace), workspace) for example in examples]
    if not found:
        raise WorkbenchError(
            f"{spec.inspection.title()} reads rows, and none of these models is a run here that held some back. "
            "Name a data set in its setting rows."
        )
    return found


def _origins(reference: str, workspace: Workspace) -> list[str]:
    """The model itself, or of a merged one those that it was merged from."""
    kind, _, name = reference.partition(":")
    merged = _plain(workspace.model(named(name)) / "merge.yaml").get("models") if kind == "model" else None
    return [str(given["model"]) for given in merged] if merged else [reference]
