"""One training run over several processes of this machine: a GPU each, or without one an equal part of the cores each.

What it is: data parallelism in its plainest form, without a wrapper around the model. Every process holds the whole model, adapter,
optimizer and plan. Of the forward passes of a step each takes its share. The trained tokens of the whole window, by which a loss is
divided, are known to all from the plan, so sums are all that is exchanged: losses, the gradients of what is trained, and what an adapter
counts over the tokens of a step. From there on everybody takes the same step for itself. So nothing has to be told of what an update or
an adapter does between two steps, and updates that go by losses alone exchange a few numbers and no gradient [D].

Process 0 is the run. It alone tells, evaluates, answers and writes, and asks the others (`following.py`) for each step over a pipe: a pause
is an order that does not come, and a pipe that closes ends who listens, however the run died. What a process cannot know by itself is
decided by process 0 (`decided`), which alone reads probes. That all hold the same numbers is checked to the bit where a checkpoint is due.

Dropout and noises are drawn by each process for itself, so with them a run is another draw with another number of processes; the random
state behind a step is the same in all of them, and a checkpoint holds it once.

What it is not: weights or optimizer states that are shared out, several machines, or gradients that travel during the backward pass. On
several GPUs it was never run: what was is gloo on a CPU [V], and nccl is written by its documentation [P]. Tags: [P] documentation of
torch.distributed, [D] derived, [V] held by the tests, [O] our own choice.
"""

import datetime
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from workbench.core.errors import WorkbenchError
from workbench.core.guard import READ
from workbench.jobs import checkpoint
from workbench.jobs.clock import BITS
from workbench.methods.contracts import Attachment

BUCKET = 32_000_000  # numbers of gradients that are summed at once, 128 MB [O]
NAP = 0.0002  # seconds between two looks whether a sum is there and everybody lives [O]
PATIENCE = 10.0  # seconds in which a process that broke off is known to be dead [O]
LONGEST = datetime.timedelta(hours=1)  # that one process waits for another within a step [O]
Batch = dict[str, Tensor]


class Group:
    """The processes of a run as one of them sees it. This one is alone: nothing is shared, and nothing costs anything."""

    rank, size = 0, 1

    def order(self, taken: Sequence[Mapping[str, Any]]) -> None:
        """Before a step: the others take it too, by the settings that a person has `taken` on."""

    def mine(self, window: Sequence[Batch]) -> Sequence[int]:
        """The places of the batches in a window that this process reads, in order."""
        return range(len(window))

    @contextmanager
    def chance(self) -> Iterator[None]:
        """For the length of a `with`, random numbers of this process's own; behind it all have the same again."""
        yield

    def add(self, values: dict[str, float], parameters: Sequence[nn.Parameter], tallies: Sequence[Tensor] = ()) -> dict[str, float]:
        """The values summed over all processes; the parameters' gradients and an adapter's tallies are, too, from here on."""
        return values

    def decided(self, values: Sequence[float]) -> Sequence[float]:
        """These numbers as process 0 has them."""
        return values

    def guided(self, values: Mapping[str, float]) -> dict[str, float]:
        """What a guard goes by, as process 0 has read it; the others read no probes."""
        return {}

    def compare(self, attachment: Attachment, step: int, every: int) -> None:
        """After each so many steps: nothing, where all hold the same numbers.

        Raises:
            WorkbenchError: they do not.
        """

    def close(self) -> None:
        """The others end. Calling it again does nothing."""

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Together(Group):
    """One process of several, each with a rank from 0."""

    def __init__(self, rank: int, size: int, device: torch.device, meeting: Path):
        self.rank, self.size, self.device = rank, size, device
        self.store = dist.FileStore(str(meeting), size)
        self.open = False

    def join(self) -> None:
        """Call all of them together; returns when all are there."""
        if self.device.type == "cuda":  # else a watchdog of torch ends the whole program, page and all, where one process dies [P]
            os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"
        else:  # nobody outside this machine is asked
            own = [name for name, places in psutil.net_if_addrs().items() if any(place.address == "127.0.0.1" for place in places)]
            os.environ.setdefault("GLOO_SOCKET_IFNAME", (own or ["lo"])[0])
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=self.store, rank=self.rank, world_size=self.size, timeout=LONGEST)
        self.open = True

    def mine(self, window: Sequence[Batch]) -> Sequence[int]:
        return shares([batch["input_ids"].numel() for batch in window], self.size)[self.rank]

    @contextmanager
    def chance(self) -> Iterator[None]:
        seed = int(torch.randint(1 << 62, ()))  # the same everywhere
        common = checkpoint.random_state()
        torch.manual_seed(seed + self.rank)
        try:
            yield
        finally:
            checkpoint.set_random_state(common)

    @torch.no_grad()
    def add(self, values: dict[str, float], parameters: Sequence[nn.Parameter], tallies: Sequence[Tensor] = ()) -> dict[str, float]:
        """A gradient that nobody has stays none, as it does where one process reads everything; who has none of a sum's gets it too."""
        there = [float(parameter.grad is not None) for parameter in parameters]
        told = torch.tensor([*values.values(), *there], dtype=torch.float64, device=self.device)
        self._done(dist.all_reduce(told, async_op=True))
        sums = told.tolist()
        learning = [parameter for parameter, count in zip(parameters, sums[len(values) :], strict=True) if count]
        for bucket in buckets(learning):
            own = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in bucket]
            flat = torch.cat([gradient.float().flatten() for gradient in own])
            self._done(dist.all_reduce(flat, async_op=True))
            for parameter, part in zip(bucket, flat.split([gradient.numel() for gradient in own]), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)
        for tally in tallies:
            self._done(dist.all_reduce(tally, async_op=True))
        return dict(zip(values, sums[: len(values)], strict=True))

    def decided(self, values: Sequence[float]) -> Sequence[float]:
        said = torch.tensor(values, dtype=torch.float64, device=self.device)
        self._done(dist.broadcast(said, 0, async_op=True))
        return said.tolist()

    def guided(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(zip(READ, self.decided([values.get(name, math.nan) for name in READ]), strict=True))

    @torch.no_grad()
    def compare(self, attachment: Attachment, step: int, every: int) -> None:
        if step % every:
            return
        state = [tensor.detach().reshape(-1) for tensor in attachment.state().values()]
        marks = torch.stack([own.view(BITS[own.element_size()]).sum(dtype=torch.int64).to(self.device) for own in state])
        both = torch.stack([marks, -marks])  # all are equal where the largest is the smallest
        self._done(dist.all_reduce(both, dist.ReduceOp.MAX, async_op=True))
        if bool((both[0] + both[1]).any()):
            raise WorkbenchError(
                f"After step {step} the {self.size} processes of the run do not hold the same numbers any more, so their gradients do not "
                "belong together, and no checkpoint is kept of it. Start the run again with processes at 1, and report which adapter "
                "and update it was."
            )

    def close(self) -> None:
        if self.open:
            self.open = False
            dist.destroy_process_group()

    def _done(self, work: dist.Work) -> None:
        """Wait for it, with an eye on whether everybody lives."""
        while not work.is_completed():
            self._look()
            time.sleep(NAP)
        try:
            work.wait()
        except RuntimeError as error:  # gloo's, where a connection broke
            self._broke(error)

    def _look(self) -> None:
        """Nothing, as far as this process knows."""

    def _broke(self, error: Exception) -> None:
        """Process 0 is left the time to see who has died, before everybody else dies of it."""
        time.sleep(PATIENCE)
        raise broken(error) from error


def shares(sizes: Sequence[int], processes: int) -> list[list[int]]:
    """Who reads which of a window's batches: the largest first, each to whoever has the least to read; a step is as slow as the last."""
    loads, found = [0] * processes, [list[int]() for _ in range(processes)]
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        rank = loads.index(min(loads))
        loads[rank] += sizes[place]
        found[rank].append(place)
    return [sorted(own) for own in found]


def broken(error: Exception) -> WorkbenchError:
    return WorkbenchError(f"The connection between the processes of the run broke ({error}). Resume the run from its checkpoint.")


def ready(rank: int) -> str:
    """What a process writes into the store when it could take a step."""
    return f"ready-{rank}"


def buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in order, so many at a time that a copy of their gradients is no burden."""
    bucket, size = list[nn.Parameter](), 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket
