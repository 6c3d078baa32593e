"""Starting the other processes of a run, asking them for every step, and noticing when one of them dies: process 0's side of `together.py`.

They are started when everything is ready here, because then they find it made: the rows as tokens in a file, the model in the system's
memory of files, what an adapter found in the rows in the run's folder. What it is not: what they do (`following.py`).
Tags as there: [P] documentation of torch.distributed, [O] our own choice.
"""

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
import torch.distributed as dist

from workbench.core.environment import alone
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.spec import TrainSpec
from workbench.core.words import count
from workbench.core.workspace import Workspace
from workbench.jobs.prepare import Prepared
from workbench.jobs.together import PATIENCE, Group, Together, broken, ready
from workbench.methods.contracts import Attachment

SOON = 0.1  # seconds between two looks whether everybody is ready [O]


@dataclass(frozen=True)
class Hello:
    """What a process must know to be one of a run's; `prepared` is without the model and without what only process 0 reads."""

    spec: TrainSpec
    folder: Path
    workspace: Workspace
    prepared: Prepared
    weights: torch.dtype


@dataclass
class Other:
    """A process that process 0 has started, and the file in which its last words are."""

    rank: int
    process: "subprocess.Popen[str]"
    words: IO[str]

    def ended(self, size: int) -> WorkbenchError | None:
        """That it has died, and of what; None while it lives."""
        status = self.process.poll()
        if status is None:
            return None
        self.words.seek(0)
        last = (self.words.read().strip().splitlines() or ["it said nothing"])[-1]
        why = "was killed, most likely because memory ran out" if status == -9 else f"ended before its time: {last.rstrip('.')}"
        return WorkbenchError(
            f"Process {self.rank + 1} of the run's {size} {why}. The others cannot go on without it. Resume the run from its checkpoint; "
            "if it happens again, start it with a lower batch_size (and accumulate higher by as much) or with fewer processes."
        )


class Leading(Together):
    """Process 0, which has started the others."""

    def __init__(self, size: int, device: torch.device, place: TemporaryDirectory[str]):
        super().__init__(0, size, device, Path(place.name) / "meeting")
        self.place, self.hello = place, Path(place.name) / "hello"
        self.others: list[Other] = []

    def start(self, hello: Hello) -> None:
        with self.hello.open("wb") as file:
            pickle.dump(hello, file)
        for rank in range(1, self.size):
            words = (Path(self.place.name) / f"words-{rank}").open("w+", encoding="utf-8", errors="replace")
            command = [*alone("workbench.jobs.following"), str(self.hello), str(rank), str(self.size), str(self.store.path)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=words, stderr=words, env=_environment(rank, torch.get_num_threads()), text=True,
                start_new_session=True,  # Ctrl-C is process 0's to hear
            )  # fmt: skip
            self.others.append(Other(rank, process, words))

    def waits(self) -> bool:
        """Whether one of them is not ready yet."""
        self._look()
        return not self.store.check([ready(other.rank) for other in self.others])

    def order(self, taken: Sequence[Mapping[str, Any]]) -> None:
        line = json.dumps(list(taken)) + "\n"
        for other in self.others:
            assert other.process.stdin
            try:
                other.process.stdin.write(line)
                other.process.stdin.flush()
            except BrokenPipeError as error:
                self._broke(error)

    def close(self) -> None:
        """They hold nothing that is not here too, so they are ended where they are."""
        for other in self.others:
            other.process.kill()
            other.process.wait()
            other.words.close()
            if other.process.stdin:
                with suppress(BrokenPipeError):
                    other.process.stdin.close()
        self.others = []
        super().close()
        self.place.cleanup()

    def _look(self) -> None:
        for other in self.others:
            if (error := other.ended(self.size)) is not None:
                self._abort()
                raise error

    def _broke(self, error: Exception) -> None:
        """Who has died says more than which connection broke, and is known a moment later."""
        tired = time.monotonic() + PATIENCE
        while time.monotonic() < tired:
            self._look()
            time.sleep(0.01)
        self._abort()
        raise broken(error) from error

    def _abort(self) -> None:
        """A GPU would wait for the dead for ever, and so would whoever waits for the GPU [P]."""
        if self.open and self.device.type == "cuda":
            dist.distributed_c10d._abort_process_group()
            self.open = False


def called(
    spec: TrainSpec, folder: Path, workspace: Workspace, prepared: Prepared, attachment: Attachment
) -> Generator[Progress, None, Group]:
    """The group of a run that is ready to go here; returns when the other processes are, too.

    Raises:
        WorkbenchError: a process could not begin.
    """
    if spec.processes == 1:
        return Group()
    group = Leading(spec.processes, prepared.model.device, TemporaryDirectory())
    own = replace(prepared, model=None, validation=[], by_task={}, known=[], prompts=[])  # type: ignore[arg-type]
    with ExitStack() as undo:
        undo.enter_context(group)
        group.start(Hello(spec, folder, workspace, own, prepared.model.dtype))
        while group.waits():
            yield Progress(0, 1, f"starting {spec.processes - 1} more of {spec.processes} processes")
            time.sleep(SOON)
        group.hello.unlink()
        group.join()
        group.compare(attachment, 0, 1)
        undo.pop_all()
    return group


def possible(spec: TrainSpec) -> None:
    """Nothing, where this machine can share the run out.

    Raises:
        WorkbenchError: there are fewer GPUs than processes.
    """
    if torch.cuda.is_available() and spec.processes > (gpus := torch.cuda.device_count()):
        raise WorkbenchError(
            f"The run is to be shared by {spec.processes} processes with a GPU each, and this machine has {count(gpus, 'GPU')}. "
            f"Set processes to {gpus} or less."
        )


def _environment(rank: int, threads: int) -> dict[str, str]:
    """Of process `rank`: the modules that are known here, its share of the cores, and one of the GPUs that are seen here, as if there were
    no other."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpu = {"CUDA_VISIBLE_DEVICES": seen.split(",")[rank].strip()} if torch.cuda.is_available() else {}
    return {**os.environ, **gpu, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(threads)}
