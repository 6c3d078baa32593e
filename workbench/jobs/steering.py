"""What a person asks of a run while it trains: to save, evaluate or answer now, or to go on with other settings.

A wish is a small file in the run's folder, so the page, a shell and another machine ask in the same way, and a paused run
hears it when it goes on. Settings that changed are kept beside it with the step from which they hold: a resumed run makes the
same turns at the same steps. What it is not: pausing and stopping, which are the runner's.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import knobs_of
from workbench.core.parts import Change
from workbench.core.spec import TrainSpec, may_change, read_spec

WISHES = "wishes"
TAKEN = "changes.json"
Deed = Literal["save", "evaluate", "sample"]


@dataclass(frozen=True)
class Wish:
    """Something to do after the step at work, or settings (by dotted name) to go on with."""

    do: Deed | None = None
    set: Mapping[str, Any] = field(default_factory=dict)


def wish(folder: Path, wanted: Wish) -> None:
    """Leave a wish for the run of that folder.

    Raises:
        WorkbenchError: there is no training run; `SpecError`: a setting that may not change, or a value that it cannot take.
    """
    if not (folder / "spec.yaml").is_file():
        raise WorkbenchError(f"No run has begun in {folder.name} yet. Wait for its first step, then ask again.")
    if wanted.do is not None and wanted.do not in get_args(Deed):
        raise WorkbenchError(f"A run can be asked to {', '.join(get_args(Deed))}, not to {wanted.do!r}.")
    if wanted.set:
        _check(folder, wanted.set)
    path = folder / WISHES / f"{time.time_ns():020d}.json"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"do": wanted.do, "set": dict(wanted.set)}), encoding="utf-8")
    os.replace(partial, path)


def present(folder: Path, step: int) -> dict[str, Any]:
    """Every setting that may change, by dotted name, with the value that holds at a step; none before the run has begun."""
    if not (folder / "spec.yaml").is_file():
        return {}
    spec = read_spec(folder / "spec.yaml")
    if not isinstance(spec, TrainSpec):
        return {}
    now = Steering.of(folder, spec).spec_at(step)
    parts = (("update", now.update), ("stop", now.stop))
    found = {f"{part}.{knob.name}": vars(held)[knob.name] for part, held in parts for knob in knobs_of(type(held))}
    found |= {knob.name: vars(now)[knob.name] for knob in knobs_of(TrainSpec)}
    return {name: value for name, value in found.items() if may_change(name)}


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    fixed = [name for name in settings if not may_change(name)]
    if fixed:
        raise SpecError([f"{name} cannot change while a run works" for name in fixed])
    spec = read_spec(folder / "spec.yaml")
    if not isinstance(spec, TrainSpec):
        raise WorkbenchError("Only a training run can be steered. Stop this one instead.")
    spec.changed(Change(at=1, set=dict(settings)))


@dataclass
class Steering:
    """The wheel of one run: `spec` as it was started, and the turns `taken` since."""

    folder: Path
    spec: TrainSpec
    taken: list[Change]

    @classmethod
    def of(cls, folder: Path, spec: TrainSpec) -> "Steering":
        kept = folder / TAKEN
        taken = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        return cls(folder, spec, [Change(**change) for change in taken])

    def spec_at(self, step: int) -> TrainSpec:
        """The spec in force at a step (from 1)."""
        turns = sorted([*self.spec.changes, *self.taken], key=lambda change: change.at)
        return self.spec.changed(*(change for change in turns if change.at <= step))

    def turns_at(self, step: int) -> list[Change]:
        """What changes at exactly this step."""
        return [change for change in [*self.spec.changes, *self.taken] if change.at == step]

    def wishes(self) -> Iterator[Wish]:
        """What was asked since the last time, oldest first; each is heard once."""
        waiting = self.folder / WISHES
        for path in sorted(waiting.glob("*.json")) if waiting.is_dir() else ():
            said = json.loads(path.read_text(encoding="utf-8"))
            yield Wish(said["do"], said["set"])
            path.unlink()  # now that it is granted; a crash before leaves it for the next start

    def take(self, wanted: Wish, step: int) -> str:
        """Take a turn from `step` on and keep it; why it cannot be taken, as a sentence, or nothing."""
        turn = Change(at=step, set=dict(wanted.set))
        try:
            self.spec.changed(*self.taken, turn)
        except SpecError as error:
            return str(error)
        self.taken.append(turn)
        kept = self.folder / TAKEN
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps([change.model_dump() for change in self.taken], indent=1), encoding="utf-8")
        os.replace(partial, kept)
        return ""


def in_words(turns: Mapping[str, Any]) -> str:
    """`update.lr = 0.0001, evaluate_every = 5`."""
    return ", ".join(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in turns.items())
