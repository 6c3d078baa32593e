"""What `head.py`, `probe.py` and `train_gpu.py` do alike: clocks, memory, turns, goals held against what was found, where and when it was.

What it is not: what is measured.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def spread(each: Sequence[float]) -> list[float]:
    """[median, least, most]."""
    return [statistics.median(each), min(each), max(each)]


def goal(what: str, found: float, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    bound = {name: value for name, value in (("at_least", at_least), ("at_most", at_most)) if value is not None}
    reached = (at_least is None or found >= at_least) and (at_most is None or found <= at_most)  # NaN reaches nothing
    return {"what": what, "found": found, **bound, "reached": reached}


def in_words(goals: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each goal."""
    told = []
    for one in goals:
        bound = f"at least {one['at_least']:g}" if "at_least" in one else f"at most {one['at_most']:g}"
        told.append(f"{one['what']}: {one['found']:.3g}; the goal is {bound}, {'reached' if one['reached'] else 'missed'}")
    return told


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """To be asked before the measuring begins: the load is then that of others."""
    processor = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    here = f"{torch.cuda.get_device_name(0)}, {processor}" if device() == "cuda" else processor
    return f"{here}, load {os.getloadavg()[0]:.1f} at the start"


def about(packages: Iterable[str], where: str) -> dict[str, Any]:
    """The end of a result: machine, versions of those packages that are here, date."""
    found = {name: told for name in packages if (told := _version(name))}
    return {"machine": where, "versions": found | {"python": platform.python_version()}, "date": date.today().isoformat()}


def keep(result: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# Time.


def clock() -> tuple[float, float]:
    """Wall and CPU seconds, when the GPU has nothing left to do."""
    if device() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def between(began: tuple[float, float], ended: tuple[float, float]) -> tuple[float, float]:
    return ended[0] - began[0], ended[1] - began[1]


def milliseconds(run: Callable[[], object]) -> dict[str, float]:
    """Of a CPU wall and CPU time, of a GPU its own."""
    if device() == "cpu":
        began = clock()
        run()
        return {name: 1e3 * spent for name, spent in zip(("ms", "cpu_ms"), between(began, clock()), strict=True)}
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return {"ms": begin.elapsed_time(end)}


def in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> list[dict[str, dict[str, float]]]:
    """What each took in each round, to and fro through them; a first round, which is left out, warms up."""
    found = []
    for number in range(rounds + 1):
        found.append({name: milliseconds(runs[name]) for name in list(runs)[:: 1 if number % 2 else -1]})
    return found[1:]


# Memory, in MiB.


def peak_on_gpu(run: Callable[[], object]) -> float:
    """The most that the allocator held above what it holds now."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def growth(run: Callable[[], object]) -> float:
    """By how much this process's resident memory grows at its peak; the process should be one of `alone`'s."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    run()
    return (resident("VmHWM") - before) / 2**10


def resident(what: str) -> int:
    """KiB. `VmRSS`: now. `VmHWM`: the most so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1])


def alone(script: str, *arguments: str) -> float:
    """The number that a script prints last, in a process where malloc gives back what is let go (glibc)."""
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | settings)
    return float(done.stdout.splitlines()[-1])
