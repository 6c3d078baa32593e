"""What earlier runs on this machine held in memory beside what was estimated for them: the program, libraries, what an allocator keeps.

The estimate (`estimate.py`) counts tensors; the rest is learnt from the runs on record. What it is not: a measurement, which `trial.py`
takes. Tags: [O] our own choice.
"""

from dataclasses import dataclass, replace
from statistics import median

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import Estimate, estimate
from workbench.jobs.records import Records

MEASURED = "memory_gb"
RUNS = 5  # the newest runs of the same base that are asked [O]


@dataclass(frozen=True)
class Overhead:
    """bytes: what `runs` earlier runs held beside what was estimated, the middle one of them."""

    bytes: int
    runs: int


def overhead(records: Records, model: str, workspace: Workspace) -> Overhead | None:
    """Of the newest finished runs of this base; None where there is none, or where the estimates were too high rather than too low."""
    beside = []
    for run in records.runs("train"):
        if len(beside) == RUNS:
            break
        if run.status == "finished" and run.spec.get("model") == model and MEASURED in run.metrics:
            try:
                told = estimate(TrainSpec.parse(run.spec), workspace).bytes  # type: ignore[arg-type]
            except WorkbenchError:  # its base or a method of it is there no more
                continue
            beside.append(max(records.series(run.id, MEASURED)[1]) * 1e9 - told)
    middle = round(median(beside)) if beside else 0
    return Overhead(middle, len(beside)) if middle > 0 else None


def calibrated(found: Estimate, more: Overhead | None) -> Estimate:
    """The estimate with what the runs before it held beside theirs."""
    if more is None:
        return found
    runs = "1 earlier run" if more.runs == 1 else f"{more.runs} earlier runs"
    return replace(found, memory=[*found.memory, (f"program and libraries, as in {runs}", more.bytes)])
