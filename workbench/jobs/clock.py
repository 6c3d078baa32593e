"""Where a step's time and memory go, and whether it moved what it should: what a speed must stand beside to mean anything.

Carried by a run through its steps. Parts are timed at one step of `EVERY` alone, because on a GPU both ends of a part wait until the
device is idle; on the steps between nothing waits. What it is not: a profiler, or what a figure is worth (`core/performance.py`).
Tags: [O] our own choice.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor, nn

from workbench.jobs.machine import Gpu, memory_used
from workbench.materials.packing import IGNORED
from workbench.methods.contracts import Attachment, Stepper

EVERY = 10  # steps between two that are looked at part by part [O]
FIRST = 2  # of them: step 1 also warms up, and from here on none falls on those at which probes are due as they come
REST, PROBES = "rest", "probes"
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
Batch = dict[str, Tensor]
Trained = Sequence[tuple[str, nn.Parameter]]


@dataclass
class Clock:
    """One run's. `seconds` and `tokens` are those of the step that ended last; a token that fills up is none."""

    gpu: Gpu = field(default_factory=Gpu.here)
    seconds: float = 0.0
    tokens: int = 0
    _looks: bool = False  # whether the step at work is looked at
    _part: str = REST  # at work
    _began: float = 0.0
    _since: float = 0.0  # when the part at work began, or went on
    _spent: dict[str, float] = field(default_factory=dict)
    _values: dict[str, float] = field(default_factory=dict)
    _probed: list[float] | None = None  # seconds by step since the last look; none before the first step is over, which also warms up

    def begin(self, step: int) -> None:
        self._looks, self._part = step % EVERY == FIRST, REST
        self._spent, self._values = {}, {}
        self._began = self._since = self._now()

    def counted(self, window: list[Batch]) -> list[Batch]:
        """The window as it is, counted; on the CPU, where no count has to wait for a GPU."""
        places = sum(batch["rows"].numel() for batch in window)
        learnt = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in window)
        self.tokens = sum(int((batch["rows"] >= 0).sum()) for batch in window)
        self._values |= {"padding_share": 1 - self.tokens / places, "learnt_share": learnt / self.tokens}
        return window

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The time of the `with` counts to `name`, and not to the part around it."""
        if not (self._looks or name == PROBES):
            yield
            return
        around = self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(around)

    @contextmanager
    def stepping(self, trained: Trained) -> Iterator[None]:
        """The optimizer's part. `tensors_moved`: the share of the trained tensors of which the step changed any number."""
        before = self._marks(trained)
        with self.part("optimizer"):
            yield
        after = self._marks(trained)
        if before:
            moved = torch.stack([(one != other).any() for one, other in zip(before, after, strict=True)])
            self._values["tensors_moved"] = moved.float().mean().item()

    def end(self, attachment: Attachment, stepper: Stepper) -> dict[str, float]:
        """What is told of the step; its parts, `step_ms/PART` and `memory_gb/PART`, only where it was looked at.

        Probes are read now and then, so what they take is told as the mean of the steps since the last look.
        """
        self._turn_to(REST)
        self.seconds = self._since - self._began
        probed = self._spent.get(PROBES, 0.0)
        self._probed = [] if self._probed is None else [*self._probed, probed]
        values = {"tokens_per_s": self.tokens / self.seconds, "memory_gb": memory_used() / 1e9, **self.gpu.figures(), **self._values}
        if self._looks:
            spent = self._spent | {PROBES: fmean(self._probed or [probed])}
            values |= {f"step_ms/{name}": 1000 * seconds for name, seconds in spent.items()}
            values |= {f"memory_gb/{name}": size / 1e9 for name, size in held(attachment, stepper).items()}
            self._probed = []
        return values

    def _turn_to(self, name: str) -> str:
        """The time until now counts to the part at work, from now on to `name`; returns which it was."""
        before = self._part
        now = self._now(waits=PROBES in (before, name))
        self._spent[before] = self._spent.get(before, 0.0) + now - self._since
        self._part, self._since = name, now
        return before

    def _now(self, waits: bool = False) -> float:
        """Of a GPU when it has done what it was given, where the step is looked at; at a probe always, which waits for it anyway."""
        if (self._looks or waits) and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _marks(self, trained: Trained) -> list[Tensor]:
        """A checksum of the bits of each tensor's rows, far smaller than the copy that would say the same; none where nobody looks."""
        if not self._looks:
            return []
        with self.part(PROBES), torch.no_grad():
            bits = [parameter.detach().view(BITS[parameter.element_size()]) for _, parameter in trained]
            return [own.sum(-1, dtype=own.dtype) for own in bits]  # which wraps; summed in wider numbers a CPU took ten times as long


def held(attachment: Attachment, stepper: Stepper) -> dict[str, int]:
    """Bytes that lie there from step to step: the frozen weights, the numbers that are trained, and the optimizer's state."""
    trained = [parameter for _, parameter in attachment.trained()]
    own = {id(parameter) for parameter in trained}
    frozen = [parameter for parameter in attachment.model.parameters() if id(parameter) not in own]
    parts = {"weights": frozen, "trained": trained, "optimizer": [*stepper.state().values()]}
    return {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in parts.items()}
