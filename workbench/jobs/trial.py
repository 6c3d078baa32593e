"""Three real steps of a run before it starts: how long a step and the run will take, and how much memory.

It is the run's own code on the run's own first batches, and all of it is thrown away: no checkpoint, no adapter, no file is
written, in the workspace or elsewhere, and the random state is put back. `trial` works in this process; `tried` does it in one of
its own, as a page needs it: there nothing was held before, and what runs out of memory takes nothing else with it.
What it is not: a promise. Other work on the machine slows it down, and memory is that of the batches it saw.
"""

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch

from workbench.core.environment import alone
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import discover
from workbench.core.parts import StopSpec
from workbench.core.spec import TrainSpec
from workbench.core.words import duration, size
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.audit import audit
from workbench.jobs.probing import Probing
from workbench.jobs.train import begin
from workbench.methods.contracts import Probe

TIMED = 3  # steps whose time counts
STEPS = TIMED + 2  # one before them warms up, one behind them reads every probe
SEEN = 20  # of the run's steps, evenly spread, whose length is looked at
SAME = 1.05  # times as many tokens are no news
PAUSE = 0.002  # seconds between two looks at the resident memory
MARKS = {"safe": "✓", "watch": "!", "act": "✗"}


@dataclass(frozen=True)
class Trial:
    """What three steps showed.

    step: seconds of a step of average length, with the probes at their average share. run: seconds of the whole run with
    loading, evaluations and sample answers, without writing. bytes: the most that was held; on a CPU how far the process's
    resident memory grew, which counts what the allocator keeps and code that was loaded on the way. tokens: in the largest
    forward pass that was tried. longest: in the largest that the rows can make.
    """

    step: float
    run: float
    bytes: int
    tokens: int
    longest: int
    device: str


def planned(spec: TrainSpec, workspace: Workspace) -> Iterator[Progress | str]:
    """All that can be said before the start, a sentence each, first what is known without trying.

    Raises:
        WorkbenchError: something stops the start, or the steps cannot be taken.
    """
    findings = audit(spec, workspace)
    yield from (f"{MARKS[finding.level]} {finding.text}" for finding in findings)
    if any(finding.level == "act" for finding in findings):
        raise WorkbenchError("The run cannot start: see what is marked with ✗ above.")
    yield from told((yield from trial(spec, workspace)))


def told(found: Trial) -> list[str]:
    """A trial in sentences."""
    held = f"Memory grew by {size(found.bytes)} at the most" if found.device == "cpu" else f"The GPU held {size(found.bytes)} at the most"
    step = f"{found.step:.2g} s" if found.step < 10 else duration(found.step)
    seen = f"{held}, with {found.tokens:,} tokens in the largest batch"
    more = (
        f" The longest rows together would make {found.longest:,} tokens and need more than was seen: the figure is that of the rows drawn."
    )
    return [
        f"A step takes {step}: three were tried, and the probes are counted at their average share.",
        f"The whole run takes about {duration(found.run)}, with loading, evaluations and sample answers, without writing checkpoints.",
        f"{seen}.{more if found.longest > SAME * found.tokens else ''}",
    ]


def trial(spec: TrainSpec, workspace: Workspace) -> Generator[Progress, None, Trial]:
    """Take the steps in this process and forget them.

    Raises:
        WorkbenchError: the run cannot be prepared, or a step does not fit into memory.
    """
    random = checkpoint.random_state()
    watch = MemoryWatch()
    try:
        with TemporaryDirectory() as folder, ExitStack() as ends:
            return (yield from _steps(spec, workspace, Path(folder), watch, ends))
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise WorkbenchError(
            f"Three steps do not fit into the memory of this machine ({str(error).splitlines()[0]}). Lower the batch size or the longest "
            "row, or compute activations anew (gradient checkpointing)."
        ) from error
    finally:
        watch.stop()
        checkpoint.set_random_state(random)
        gc.collect()


def _steps(spec: TrainSpec, workspace: Workspace, folder: Path, watch: "MemoryWatch", ends: ExitStack) -> Generator[Progress, None, Trial]:
    parts = STEPS + 2
    began = time.perf_counter()
    run = yield from begin(spec.model_copy(update={"steps": max(spec.steps, STEPS), "stop": StopSpec()}), folder, workspace)
    ends.enter_context(run.group)
    loading = time.perf_counter() - began
    spent, eager, quiet = [], Eager(spec.probes), Quiet(spec.probes)
    for step in range(1, STEPS + 1):
        yield Progress(step, parts, "steps tried")
        run.probing = quiet if 1 < step <= 1 + TIMED else eager
        spent.append(_timed(run.advance))
    yield Progress(STEPS + 1, parts, "an evaluation tried")
    run.probing = quiet
    evaluation = _timed(run.evaluate)
    yield Progress(parts, parts, "sample answers tried")
    samples = _timed(lambda: list(run.samples()))
    tokens = {
        step: [batch["labels"].numel() for batch in run.batches.window(step)] for step in {*_spread(spec.steps), *range(1, STEPS + 1)}
    }
    average = sum(sum(tokens[step]) for step in _spread(spec.steps)) / len(_spread(spec.steps))
    plain = sum(spent[1 : 1 + TIMED]) * average / sum(sum(tokens[step]) for step in range(2, 2 + TIMED))
    each = plain + sum(_share(probe, spec, eager.spent, plain) for probe in spec.probes)
    rounds = [1 + -(-spec.steps // every) for every in (spec.evaluate_every, spec.sample_every)]
    return Trial(
        step=each,
        run=loading + spec.steps * each + rounds[0] * evaluation + rounds[1] * samples,
        bytes=watch.stop(),
        tokens=max(max(tokens[step]) for step in range(1, STEPS + 1)),
        longest=spec.batch_size * max(sum(len(run.prepared.train[index].ids) for index in unit) for unit in run.batches.units),
        device=run.prepared.model.device.type,
    )


class Quiet(Probing):
    """Reads at steps only what a guarded step cannot do without."""

    def _wanted(self, probe: Probe, step: int) -> bool:
        return False


class Eager(Probing):
    """Reads every probe at every step."""

    def _wanted(self, probe: Probe, step: int) -> bool:
        return True


def _share(probe: Probe, spec: TrainSpec, spent: dict[str, float], step: float) -> float:
    """Seconds that a probe takes of a step on average; those of an evaluation, and of a guard, were timed with them."""
    if probe.when == "evaluation" or (probe.when == "step" and spec.update.guard != "monitor"):
        return 0.0
    looked = range(1, min(spec.steps, 1000) + 1)
    return min(spent.get(probe.name, 0.0) * sum(map(probe.due, looked)) / len(looked), probe.budget() * step)


def _spread(steps: int) -> list[int]:
    """At most `SEEN` steps of the run, from the first to the last."""
    return sorted({1 + place * (steps - 1) // max(1, SEEN - 1) for place in range(SEEN)})


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class MemoryWatch:
    """The most that is held from now until `stop`: what torch allocates on the GPU, else how far the resident memory grows."""

    def __init__(self) -> None:
        gc.collect()
        self._process, self._over, self._on_gpu = psutil.Process(), threading.Event(), torch.cuda.is_available()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._before = self._most = self._held()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        self._most = max(self._most, self._held())
        return self._most - self._before

    def _look(self) -> None:
        while not self._over.wait(PAUSE):
            self._most = max(self._most, self._held())

    def _held(self) -> int:
        return torch.cuda.max_memory_allocated() if self._on_gpu else self._process.memory_info().rss


# In a process of its own.


def tried(spec: TrainSpec, workspace: Workspace) -> Generator[Progress, None, list[str]]:
    """The trial for a page: progress, and in the end the sentences. Closing it ends the process.

    Raises:
        WorkbenchError: as `trial`, and where the process was killed, which is what a machine without memory does.
    """
    yield Progress(0, STEPS + 2, "starting a process for the trial")
    with TemporaryDirectory() as folder:
        wanted, errors = Path(folder) / "wanted.json", Path(folder) / "errors.txt"
        wanted.write_text(json.dumps({"spec": spec.model_dump(mode="json"), "home": str(workspace.home.resolve())}), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": folder}
        command = [*alone("workbench.jobs.trial"), str(wanted)]
        with errors.open("wb") as mistakes:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=mistakes, env=environment, text=True)
        assert child.stdout
        try:
            for line in child.stdout:
                kind, said = json.loads(line)
                if kind == "failed":
                    raise WorkbenchError(said)
                if kind == "found":
                    return told(Trial(**said))
                yield Progress(**said)
            raise WorkbenchError(_died(child.wait(), errors.read_text(encoding="utf-8", errors="replace")))
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _died(status: int, errors: str) -> str:
    if status == -9:
        return (
            "The trial was killed by the system, most likely because memory ran out. Lower the batch size or the longest row, or compute "
            "activations anew (gradient checkpointing)."
        )
    return f"The trial ended before it had a result (status {status}): {(errors.strip().splitlines() or ['it said nothing'])[-1]}"


def main() -> None:
    """Try what the file says, and write progress and the result to stdout, a JSON pair a line; what else is printed is an error's."""
    out = sys.stdout

    def say(kind: str, what: object) -> None:
        print(json.dumps([kind, what]), file=out, flush=True)

    discover()
    wanted = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with redirect_stdout(sys.stderr):
        work = trial(TrainSpec.parse(wanted["spec"]), Workspace(Path(wanted["home"])))
        try:
            while True:
                say("progress", asdict(next(work)))
        except StopIteration as end:
            say("found", asdict(end.value))
        except WorkbenchError as error:
            say("failed", str(error))
