"""How fast a run goes and where its time and memory go, from what it measured; no speed at all where its steps train nothing.

A benchmark once told the speed of a run whose gradient was zero. So a speed is the median of steps with a gradient, in tokens that are read
and not filled up, and stands beside what a step moved. What it is not: the measuring (`jobs/clock.py`) or the drawing
(`ui/performance.py`). Tags: [O] our own choice.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from workbench.core.words import count, number, size

FIRST = 2  # the first step also pays for warming up
RECENT = 100  # steps that count, the newest [O]
WRONG = 0.1  # of these steps without a gradient, above which no speed is told [O]: float16 leaves one out now and then
WHOLE = 0.99  # of the trained tensors; a step that moves fewer is not compared with one that moves all [O]
SPEED, PADDING, LEARNT, GRADIENT, MOVED, HELD = "tokens_per_s", "padding_share", "learnt_share", "grad_norm", "tensors_moved", "memory_gb"
WORK, CEILING = "gflop_per_token", "ceiling_tflop_per_s"
"""What whoever counts the arithmetic and measures the machine leaves once in a run: 1e9 operations of a trained step by token, and how many
1e12 a second the machine's matrix products reach in the run's number format."""
PARTS = {
    "step_ms/draw": "drawing the batch", "step_ms/forward": "forward pass", "step_ms/backward": "backward pass",
    "step_ms/exchange": "exchange between processes", "step_ms/optimizer": "optimizer", "step_ms/probes": "probes",
    "step_ms/rest": "everything else",
}  # fmt: skip
MEMORY = {
    "memory_gb/weights": "frozen weights", "memory_gb/trained": "trained numbers", "memory_gb/optimizer": "optimizer’s state",
}  # fmt: skip
REST = "activations, gradients, the program"
Parts = list[tuple[str, float]]
Lines = Callable[[list[str], int], Mapping[str, tuple[list[int], list[float]]]]
"""Lines of the run from a step on: (names, first step) → steps and values by name."""


@dataclass(frozen=True)
class Performance:
    """`refused` says why there is no speed; `idle`: because the steps train nothing. Of what was not measured there is no part.

    steps: the first and the last that count. places: shares of the places of a batch. time: milliseconds of a step. memory: bytes.
    work, ceiling: floating-point operations a second, done and within reach; NaN where nobody counted them. warns: beside the speed.
    """

    steps: tuple[int, int]
    refused: str = ""
    idle: bool = False
    tokens_per_s: float = math.nan
    warns: str = ""
    places: Parts = field(default_factory=list)
    time: Parts = field(default_factory=list)
    memory: Parts = field(default_factory=list)
    work: float = math.nan
    ceiling: float = math.nan


def performance(ends: Mapping[str, tuple[float, float]], step: int, lines: Lines) -> Performance:
    """Of a run that stands at `step`. `ends`: the first and the last value of all that it measured by name."""
    names = [name for name in (SPEED, GRADIENT, MOVED, PADDING, LEARNT, *PARTS) if name in ends]
    line = {name: dict(zip(*found, strict=True)) for name, found in lines(names, max(FIRST, step - RECENT + 1)).items()}
    speeds, norms, moved = (line.get(name, {}) for name in (SPEED, GRADIENT, MOVED))
    idle = _idle(speeds, norms, moved)
    refused = idle or _unknown(speeds, moved)
    speed = math.nan if refused else median(told for at, told in speeds.items() if _trains(norms, at))
    return Performance(
        steps=(min(speeds, default=0), max(speeds, default=0)),
        refused=refused,
        idle=bool(idle),
        tokens_per_s=speed,
        warns="" if refused else _warning(median(moved.values())),
        places=_places(line.get(PADDING, {}), line.get(LEARNT, {})),
        time=[(words, median(own.values())) for part, words in PARTS.items() if (own := line.get(part))],
        memory=_memory({name: last for name, (_, last) in ends.items()}),
        work=ends[WORK][1] * 1e9 * speed if WORK in ends else math.nan,
        ceiling=ends[CEILING][1] * 1e12 if CEILING in ends else math.nan,
    )


def told(found: Performance) -> list[str]:
    """It in sentences, as a shell shows it."""
    first, last = found.steps
    speed = f"{number(found.tokens_per_s)} tokens/s without padding, the median of steps {first:,} to {last:,}."
    lines = [f"No speed is shown: {found.refused}" if found.refused else speed]
    lines += [found.warns] if found.warns else []
    if (share := found.work / found.ceiling) > 0:
        lines.append(f"{percent(share)} of what this machine’s matrix products reach ({rate(found.work)} of {rate(found.ceiling)}).")
    lines += [f"A batch holds {shares(found.places)}."] if found.places else []
    lines += [f"A step takes {number(total(found.time))} ms: {shares(found.time)}."] if found.time else []
    lines += [f"Memory {size(total(found.memory))}: {shares(found.memory)}."] if found.memory else []
    return lines


def shares(parts: Parts) -> str:
    """`forward pass 41 % · backward pass 38 %`, in shares of all of them."""
    return " · ".join(f"{what} {percent(amount / total(parts))}" for what, amount in parts)


def total(parts: Parts) -> float:
    return sum(amount for _, amount in parts)


def percent(share: float) -> str:
    """`41 %`; what is there but hardly is `< 1 %`."""
    return f"{100 * share:.0f} %" if share >= 0.005 or not share else "< 1 %"


def rate(operations: float) -> str:
    """`3.1 TFLOP/s`."""
    return f"{number(operations / 1e12)} TFLOP/s" if operations >= 1e11 else f"{number(operations / 1e9)} GFLOP/s"


def _trains(norms: Mapping[int, float], step: int) -> bool:
    """Whether a step has a gradient; of one whose gradient nobody read, `tensors_moved` has to say."""
    norm = norms.get(step, 1.0)
    return math.isfinite(norm) and norm > 0


def _idle(speeds: Mapping[int, float], norms: Mapping[int, float], moved: Mapping[int, float]) -> str:
    """That these steps train nothing, and what to do; empty where nothing speaks for it."""
    without = [norms[at] for at in speeds if not _trains(norms, at)]
    if len(without) > WRONG * len(speeds):
        seen = f"in {len(without):,} of the last {count(len(speeds), 'step')}, so nothing was learnt in them"
        if 0.0 in without:
            return f"the gradient was zero {seen}. Look at the loss and at what the adapter trains."
        return f"the gradient was not a finite number {seen}. Lower the learning rate."
    if moved and not moved[max(moved)]:
        return (
            f"step {max(moved):,} changed nothing of what is trained, not even the last bit. Raise the learning rate, or look at the "
            "gradient norm."
        )
    return ""


def _unknown(speeds: Mapping[int, float], moved: Mapping[int, float]) -> str:
    """What is not known yet of steps that may well be fine."""
    if not speeds:
        return "it is taken from the second step on, because the first also pays for warming up."
    return "" if moved else "this run did not check whether its steps change what is trained. Runs that are started now do."


def _warning(share: float) -> str:
    return "" if share >= WHOLE else f"A step moves {percent(share)} of the trained tensors: compare only with runs that move as many."


def _places(padding: Mapping[int, float], learnt: Mapping[int, float]) -> Parts:
    """What the places of a batch hold on average; shares of the learnt are of its tokens."""
    both = [(padding[at], learnt[at]) for at in padding if at in learnt]
    if not both:
        return []
    filled, taught = (sum(values) / len(both) for values in ([p for p, _ in both], [(1 - p) * own for p, own in both]))
    return [("tokens that are learnt", taught), ("tokens that are only read", 1 - filled - taught), ("padding", filled)]


def _memory(last: Mapping[str, float]) -> Parts:
    parts = [(words, 1e9 * held) for part, words in MEMORY.items() if (held := last.get(part))]
    rest = 1e9 * last.get(HELD, 0.0) - total(parts)
    return [*parts, (REST, rest)] if parts and rest > 0 else parts
