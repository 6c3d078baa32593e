"""Every adapter on the demo model: what it learns of a new skill, what it forgets of the old ones, and what a step costs.

    python benchmarks/adapters.py scores [--only lora,full] [--seeds 3]     what is learnt and forgotten
    python benchmarks/adapters.py costs [--only lora,full] [--rounds 7]     time of a step and memory, on a quiet machine
    python benchmarks/adapters.py picture                                   draws the plane from the result file

Each adapter with its defaults learns `doubles` (say every word twice) in 120 steps of 8 rows: with the first seed at all learning rates of
one grid, with the others at those that learnt something and broke nothing. What is in the result file already is not run again. Learnt:
the share of right answers on 60 held-out rows, and the validation loss. Forgotten: the loss on what the base knew, and the share of right
answers on the skills it was pretrained on. A learning rate means another thing to each adapter, so the whole grid is kept, and the table
shows each at the rate with the lowest validation loss, and what has been forgotten when the new skill's loss is down to 0.05 nats.

What it is not: a claim about large models. The demo model has 6 small blocks, and most papers' claims are of 7 B and more.
"""

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
from transformers import AutoTokenizer

from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured
from workbench.core.job import drain
from workbench.core.method import discover, find, shelf
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import Run, begin, train
from workbench.jobs.trial import trial
from workbench.materials.models import load, resolve
from workbench.materials.world.scoring import score
from workbench.materials.world.skills import SKILLS, World

RESULT = ROOT / "benchmarks" / "results" / "adapters.json"
PICTURE = RESULT.with_suffix(".svg")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STEPS = 120
LEARNT = 0.05  # nats per token of the new skill, at which forgetting is compared; about nine answers in ten are right
NOTHING, BROKEN = 1.0, 3.0  # nats: of the new skill, and of what was known, beyond which a rate is not tried with more seeds
KNOWN = [name for name, skill in SKILLS.items() if skill.kind == "known" and skill.by == "exact match"]
SETTINGS: dict[str, list[dict[str, Any]]] = {"modules": [{"part": "attention"}, {"part": "MLP gate and up"}]}
"""Adapters that stand in the table with other knobs than their defaults."""
LEFT_OUT = {"grasp": "needs an earlier run", "fpf": "mends an earlier run", "polytropon": "goes by tasks, and there is one here"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["scores", "costs", "picture", "memory"])
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    discover()
    wanted = {label: adapter for label, adapter in cases() if not given.only or adapter["method"] in given.only.split(",")}
    if given.part == "memory":
        print(grown(dict(cases())[given.only]))
    elif given.part == "scores":
        scores(wanted, given.seeds)
    elif given.part == "costs":
        costs(wanted, given.rounds)
    else:
        PICTURE.write_text(picture(read()["scores"]), encoding="utf-8")


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """(what it is called in the table, the adapter as a spec has it)."""
    for name in shelf("adapters"):
        for knobs in SETTINGS.get(name, [{}]) if name not in LEFT_OUT else []:
            yield " ".join([name, *map(str, knobs.values())]), {"method": name, **knobs}


def spec_of(adapter: dict[str, Any], rate: float, seed: int) -> TrainSpec:
    return TrainSpec.parse(
        {
            "kind": "train", "model": "pocket", "data": {"path": "skill_a"}, "adapter": adapter, "update": {"method": "adamw", "lr": rate},
            "steps": STEPS, "batch_size": 8, "seed": seed, "probes": ["forgetting"], "prompts": [],
            "evaluate_every": STEPS, "sample_every": 100_000, "checkpoint_every": 100_000,
        }
    )  # fmt: skip


# What is learnt and forgotten.


def scores(wanted: dict[str, dict[str, Any]], seeds: int) -> None:
    """Fill the result file in, a run at a time; a rate that does not work is kept as its reason."""
    for seed in range(seeds):
        for label, adapter in wanted.items():
            for rate in RATES:
                held = read().get("scores", {}).get(label, {}).get(f"{rate:g}", {})
                if str(seed) not in held and worth(held):
                    found = one(adapter, rate, seed)
                    print(label, rate, seed, found, flush=True)
                    keep(["scores", label, f"{rate:g}", str(seed)], found)
    write(read() | {"base": base(), "table": table(read()["scores"])})


def worth(held: dict[str, Any]) -> bool:
    """Whether a rate is worth another seed: with the first it has neither learnt next to nothing nor broken the model."""
    first = held.get("0")
    return first is None or (isinstance(first, dict) and first["loss"] < NOTHING and first["forgotten"] < BROKEN)


def one(adapter: dict[str, Any], rate: float, seed: int) -> dict[str, float] | str:
    spec = spec_of(adapter, rate, seed)
    with tempfile.TemporaryDirectory() as home:
        workspace, values = Workspace(Path(home)), dict[str, float]()
        try:
            for event in train(spec, workspace.run("0001"), workspace):
                if isinstance(event, Measured):
                    values |= event.values
            tuned = load(resolve("run:0001", workspace), torch.device("cpu"), torch.float32)
        except WorkbenchError as error:
            return str(error)
    shares = answered(tuned, 200 + seed)
    names = {"loss": "validation_loss", "forgotten": "base_loss", "kl": "base_kl"}
    found = {name: values[key] for name, key in names.items()}
    return {name: float(f"{value:.4g}") for name, value in {**found, **shares}.items()}


def base() -> dict[str, float]:
    """What the demo model knows before it learns anything."""
    return answered(load(resolve("pocket", Workspace(Path(tempfile.mkdtemp()))), torch.device("cpu"), torch.float32), 200)


def answered(model: torch.nn.Module, seed: int) -> dict[str, float]:
    """Shares of right answers: of the new skill, and the mean over the known ones."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "assets" / "pocket")
    known = [score(model, tokenizer, World(), name, 30, seed) for name in KNOWN]
    return {"right": score(model, tokenizer, World(), "doubles", 60, seed), "still right": sum(known) / len(known)}


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each adapter at the rate whose mean validation loss is lowest; means over the seeds."""
    rows = []
    for label, rates in found.items():
        most = max(map(len, rates.values()))
        whole = {rate: list(seeds.values()) for rate, seeds in rates.items() if len(seeds) == most}
        means = {rate: mean(seeds) for rate, seeds in whole.items() if all(isinstance(own, dict) for own in seeds)}
        best = min(means, key=lambda rate: means[rate]["loss"])
        row = {"adapter": label, "rate": float(best), **means[best], "forgotten when learnt": crossing(list(means.values()))}
        rows.append({name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in row.items()})
    return sorted(rows, key=lambda row: (row["forgotten when learnt"] is None, row["forgotten when learnt"] or 0))


def mean(seeds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(own[name] for own in seeds) for name in seeds[0]}


def crossing(points: list[dict[str, float]]) -> float | None:
    """What has been forgotten where the new skill's loss crosses `LEARNT`, between two rates of the grid on logarithmic scales."""
    for before, after in itertools.pairwise(points):
        if before["loss"] > LEARNT >= after["loss"]:
            share = math.log(before["loss"] / LEARNT) / math.log(before["loss"] / after["loss"])
            low, high = (max(point["forgotten"], 1e-4) for point in (before, after))
            return low * (high / low) ** share
    return None


# What a step costs.


def costs(wanted: dict[str, dict[str, Any]], rounds: int) -> None:
    """Steps of all adapters in turn, in one process; memory of each in a process of its own."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(Path(home))
        runs = {
            label: drain(begin(spec_of(adapter, 1e-3, 0), workspace.run(f"{number:04}"), workspace))
            for number, (label, adapter) in enumerate(wanted.items())
        }
        for run in runs.values():
            run.advance()
        seconds = [{label: timed(run) for label, run in runs.items()} for _ in range(rounds)]
    for label, run in runs.items():
        ratios = [turn[label] / turn["lora"] for turn in seconds if "lora" in turn]
        row = {
            "trained": sum(parameter.numel() for _, parameter in run.attachment.trained()),
            "step of lora": float(f"{statistics.median(ratios):.3g}") if ratios else None,
            "memory": memory(label),
        }
        print(label, row, flush=True)
        keep(["costs", label], row)


def timed(run: Run) -> float:
    began = time.perf_counter()
    run.advance()
    return time.perf_counter() - began


def memory(label: str) -> int:
    """Bytes that a trial's process grows by, where malloc gives back what is let go."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "memory", "--only", label]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def grown(adapter: dict[str, Any]) -> int:
    """By how much a trial makes this process grow; a first one brings in what is loaded on the way."""
    workspace = Workspace(Path(tempfile.mkdtemp()))
    return [drain(trial(spec_of(adapter, 1e-3, 0), workspace)).bytes for _ in range(2)][1]


# The file.


def read() -> dict[str, Any]:
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"what": __doc__.split("\n\n")[2].replace("\n", " ")}


def keep(path: list[str], value: Any) -> None:
    """Put a value where the names lead."""
    place = whole = read()
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value
    write(whole)


def write(whole: dict[str, Any]) -> None:
    machine = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULT.write_text(json.dumps(whole | machine, indent=1) + "\n", encoding="utf-8")


# The picture.

WIDE, HIGH, LEFT, TOP, KEY = 640, 460, 60, 20, 230
X, Y = (8e-3, 4.0), (3e-3, 6.0)  # nats: forgotten, and the new skill's loss
COLOURS = {"beside": "#2a6fdb", "turned": "#8a4fd0", "part": "#0d8a6a", "whole": "#c2551e"}


def picture(found: dict[str, Any]) -> str:
    """As SVG: to the right what is forgotten, downwards what is learnt; a line over each adapter's rates, numbered at its best."""
    lines, key = [], []
    for number, (label, rates) in enumerate(found.items(), start=1):
        points = [mean(list(seeds.values())) for seeds in rates.values() if all(isinstance(own, dict) for own in seeds.values())]
        points = [point for point in points if point["forgotten"] < BROKEN]
        best = min(points, key=lambda point: point["loss"])
        colour = COLOURS[find("adapters", label.split()[0]).family]
        way = " ".join(f"{x:.0f},{y:.0f}" for x, y in map(at, points))
        x, y = at(best)
        lines.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-opacity="0.35"/>')
        key.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="8" fill="{colour}"/><text x="{x:.0f}" y="{y + 3:.0f}" class="n">{number}</text>')
        row = TOP + 14 * number
        key.append(f'<text x="{LEFT + WIDE + 20}" y="{row}" fill="{colour}">{number} {label}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + KEY} {TOP + HIGH + 50}" '
        'font-family="sans-serif" font-size="11">'
        "<style>.n { fill: white; text-anchor: middle; font-size: 9px } .t { fill: #777 }</style>"
        f'<rect width="100%" height="100%" fill="white"/><g>{axes()}{"".join(lines)}{"".join(key)}</g></svg>\n'
    )


def at(point: dict[str, float]) -> tuple[float, float]:
    return LEFT + WIDE * share(point["forgotten"], X), TOP + HIGH * (1 - share(point["loss"], Y))


def share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return math.log(min(max(value, low), high) / low) / math.log(high / low)


def axes() -> str:
    found = [f'<rect x="{LEFT}" y="{TOP}" width="{WIDE}" height="{HIGH}" fill="none" stroke="#bbb"/>']
    for value in (0.01, 0.1, 1.0):
        x, y = LEFT + WIDE * share(value, X), TOP + HIGH * (1 - share(value, Y))
        found.append(f'<text class="t" x="{x:.0f}" y="{TOP + HIGH + 16}" text-anchor="middle">{value:g}</text>')
        found.append(f'<text class="t" x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
    found.append(
        f'<text x="{LEFT + WIDE / 2}" y="{TOP + HIGH + 36}" text-anchor="middle">loss on what the base knew (nats per token)</text>'
    )
    middle = TOP + HIGH / 2
    found.append(f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">loss on the new skill</text>')
    return "".join(found)


if __name__ == "__main__":
    main()
