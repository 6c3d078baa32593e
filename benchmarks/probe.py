"""What the step-safety probe costs: a run that reads ρ_a at its default interval beside one without, and the spread of the logits alone.

    python benchmarks/probe.py [--segments 5] [--only demo] [--out FILE]
    python benchmarks/probe.py --out $OUT/probe_gpu.json          on a GPU; what to carry there: train_gpu.py

Two runs of one spec, one with the probe `step_safety` as a spec has it by default and one without any, take turns in a process, a step of
the one and a step of the other. The first step of each, which also warms up, does not count; the steps behind it fall into segments of 20,
in which a reading every 10 steps is due twice. The probe keeps its own time below a share of the run's and skips readings that would cost
more: how many were made is told. The cost is the time of all steps with the probe over those without, less one; the segments show the
spread. On a CPU: the page's demo run, and a Llama of 7 million parameters with packed rows (`train_cpu_case.py`). On a GPU: the shape of
Qwen2.5-0.5B (`train_gpu_case.py`).

The spread of the logits along a step, of 512 tokens: `workbench_kernels.logit_spread`, which holds no (N, V) tensor, beside the same
numbers from all logits at once; in turns, medians of the rounds; memory as in `head.py`. Both are held against float64 first.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import told
import torch
import train_cpu_case
import train_gpu_case
import yaml
from torch import Tensor
from workbench_kernels import roofline
from workbench_kernels.logit_spread import logit_spread

from workbench.core.events import Measured
from workbench.core.job import drain
from workbench.core.method import discover
from workbench.core.spec import TrainSpec
from workbench.core.workspace import ASSETS, Workspace
from workbench.jobs.train import Run, begin

SEGMENT, TOKENS = 20, 512
PROBED, PLAIN = "with the probe", "without"
SHAPES = {  # (vocabulary, width)
    "cpu": {"V 4,096 D 256": (4_096, 256), "V 32,000 D 256": (32_000, 256), "Qwen2.5-0.5B": (151_936, 896)},
    "cuda": {"Qwen2.5-0.5B": (151_936, 896), "Llama-3.2-1B": (128_256, 2048), "Llama-3.1-8B": (128_256, 4096)},
}
TOLERANCE = 1e-4  # of the widest spread and the largest variance


# The probe within a run.


def demo(home: Path, steps: int) -> TrainSpec:
    return TrainSpec.parse(yaml.safe_load((ASSETS / "demos" / "quickstart.yaml").read_text(encoding="utf-8")) | {"steps": steps})


def small(home: Path, steps: int) -> TrainSpec:
    train_cpu_case.make(home, "7M", 18)
    return train_cpu_case.spec_of(home, packing=True, steps=steps)


def large(home: Path, steps: int) -> TrainSpec:
    train_gpu_case.make(home, "Qwen2.5-0.5B", steps)
    return train_gpu_case.spec_of(home, "Qwen2.5-0.5B", steps, [])


RUNS: dict[str, dict[str, Callable[[Path, int], TrainSpec]]] = {
    "cpu": {"demo": demo, "7M, packed": small},
    "cuda": {"Qwen2.5-0.5B, packed 2,048 × 8": large},
}


def within_a_run(make: Callable[[Path, int], TrainSpec], segments: int) -> dict[str, Any]:
    steps = 1 + SEGMENT * segments
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        given = make(home, steps).model_dump(mode="json")
        if told.device() == "cuda":
            stack.enter_context(train_gpu_case.in_memory(home))
        specs = {name: TrainSpec.parse(given | {"probes": probes}) for name, probes in ((PROBED, ["step_safety"]), (PLAIN, []))}
        runs = {name: drain(begin(spec, home / name, Workspace(home))) for name, spec in specs.items()}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        readings = []
        for step in range(steps):
            for name in list(runs)[:: 1 if step % 2 else -1]:
                began = told.clock()
                values = advance(runs[name])
                took[name].append(told.between(began, told.clock()))
                readings += [values["probe_ms"]] if "probe_ms" in values and step else []
    wall, cpu = ({name: [spent[clock] for spent in each[1:]] for name, each in took.items()} for clock in (0, 1))
    parts = [slice(start, start + SEGMENT) for start in range(0, len(wall[PLAIN]), SEGMENT)]
    return {
        "steps": steps - 1,
        "step_ms": 1e3 * statistics.median(wall[PLAIN]),
        "readings": len(readings),
        "readings_due": 2 * segments,
        "reading_ms": statistics.median(readings) if readings else None,
        "cost": sum(wall[PROBED]) / sum(wall[PLAIN]) - 1,
        "cost_in_cpu_time": sum(cpu[PROBED]) / sum(cpu[PLAIN]) - 1,
        "cost_of_segments": told.spread([sum(wall[PROBED][part]) / sum(wall[PLAIN][part]) - 1 for part in parts]),
    }


def advance(run: Run) -> dict[str, float]:
    return next(event.values for event in run.advance() if isinstance(event, Measured))


# The spread alone.


def inputs(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """hidden and its derivative (N, D) in float32, as the probe has them, and the head (V, D) in the model's numbers."""
    vocabulary, width = shape
    chance = torch.Generator(told.device()).manual_seed(0)
    drawn = [torch.randn(rows, width, generator=chance, device=told.device()) for rows in (TOKENS, TOKENS, vocabulary)]
    return drawn[0], 0.1 * drawn[1], (drawn[2] / width**0.5).to(train_gpu_case.numbers())


def streamed(hidden: Tensor, derivative: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    found = logit_spread(hidden, derivative, weight)
    return found.width, found.variance


@torch.no_grad()
def at_once(hidden: Tensor, derivative: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each token's width max a − min a, and the variance of a under its probabilities."""
    wide = weight.to(hidden.dtype)
    a, p = derivative @ wide.T, (hidden @ wide.T).softmax(-1)
    mean = (p * a).sum(-1, keepdim=True)
    return a.amax(-1) - a.amin(-1), (p * (a - mean) ** 2).sum(-1)


WAYS = {"streamed": streamed, "all logits": at_once}


def spread_alone(name: str, rounds: int) -> dict[str, Any]:
    shape = SHAPES[told.device()][name]
    given = inputs(shape)
    true = at_once(*(one.double() for one in given))
    runs = {way: partial(run, *given) for way, run in WAYS.items()}
    off = {way: apart(run(), true) for way, run in runs.items()}
    times = told.in_turns(runs, rounds)
    found: dict[str, Any] = {
        way: {
            "off": off[way],
            "right": off[way] <= TOLERANCE,
            "ms": statistics.median(turn[way]["ms"] for turn in times),
            "times_as_fast": told.spread([turn["all logits"]["ms"] / turn[way]["ms"] for turn in times]),
            "extra_mib": told.peak_on_gpu(runs[way]) if told.device() == "cuda" else told.alone(__file__, "--memory", way, name),
        }
        for way in runs
    }
    if told.device() == "cuda":
        ceilings = roofline.measured_ceilings(torch.device("cuda"), train_gpu_case.numbers())
        floor = roofline.floor_seconds(roofline.logit_spread(TOKENS, shape[1], shape[0]), ceilings)
        found |= {"share_of_products": 1e3 * floor / found["streamed"]["ms"]}
    return found


def apart(found: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> float:
    """Of both numbers the greatest difference of a token, over the greatest value."""
    return max(((one - own).abs().max() / own.abs().max()).item() for one, own in zip(found, true, strict=True))


def grown(way: str, name: str) -> float:
    """MiB in this process; a first few tokens bring in what is loaded on the way."""
    hidden, derivative, weight = inputs(SHAPES["cpu"][name])
    WAYS[way](hidden[:8], derivative[:8], weight)
    return told.growth(lambda: WAYS[way](hidden, derivative, weight))


# What is told.


def goals(runs: dict[str, dict[str, Any]], spreads: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    most = 0.03 if told.device() == "cuda" else 0.05
    found = [told.goal(f"{name}: cost of the probe, share of the run's time", run["cost"], at_most=most) for name, run in runs.items()]
    shares = {name: spread["share_of_products"] for name, spread in spreads.items() if "share_of_products" in spread}
    return found + [told.goal(f"spread, {name}: share of this machine's products", share, at_least=0.6) for name, share in shares.items()]


def table(result: dict[str, Any]) -> str:
    lines = ["| run | step ms | reading ms | readings | cost | in CPU time | of the segments |", "|---|" + "---:|" * 6]
    for name, run in result["runs"].items():
        reading = "" if run["reading_ms"] is None else f"{run['reading_ms']:.1f}"
        cost = f"{run['cost']:.1%} | {run['cost_in_cpu_time']:.1%} | {run['cost_of_segments'][1]:.1%} to {run['cost_of_segments'][2]:.1%}"
        lines.append(f"| {name} | {run['step_ms']:.1f} | {reading} | {run['readings']} of {run['readings_due']} | {cost} |")
    lines += ["", "| spread | way | ms | times as fast | extra MiB | off |", "|---|---|" + "---:|" * 4]
    for name, spread in result["spread"].items():
        for way in WAYS:
            one = spread[way]
            speed = f"{one['ms']:.1f} | {one['times_as_fast'][0]:.2f}" if one["right"] else "wrong | wrong"
            lines.append(f"| {name} | {way} | {speed} | {one['extra_mib']:.0f} | {one['off']:.1e} |")
    return "\n".join(lines + told.in_words(result["goals"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=5, help=f"of {SEGMENT} steps each")
    parser.add_argument("--rounds", type=int, default=9, help="of the spread alone")
    parser.add_argument("--only", default="", help="runs and shapes whose name begins so")
    parser.add_argument("--out", type=Path, help="else benchmarks/results/probe.json, of a GPU probe_gpu.json")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if told.device() == "cpu":
        torch.set_num_threads(1)
    if given.memory:
        print(grown(*given.memory))
        return
    discover()
    where = told.machine()
    spreads, runs = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for name in SHAPES[told.device()]:
        if name.startswith(given.only):
            spreads[name] = spread_alone(name, given.rounds)
            print(f"spread, {name}: " + ", ".join(f"{way} {spreads[name][way]['ms']:.1f} ms" for way in WAYS), flush=True)
    for name, make in RUNS[told.device()].items():
        if name.startswith(given.only):
            runs[name] = within_a_run(make, given.segments)
            print(f"{name}: {runs[name]['cost']:.1%}", flush=True)
    result = {
        "what": "what the step-safety probe adds to a run's time at its default interval, as a share; and the spread of the logits alone",
        "runs": runs,
        "spread": spreads,
        "goals": goals(runs, spreads),
        **told.about(("torch", "triton", "transformers"), where),
    }
    out = given.out or told.RESULTS / ("probe_gpu.json" if told.device() == "cuda" else "probe.json")
    told.keep(result, out)
    print(f"{table(result)}\n→ {out}")


if __name__ == "__main__":
    main()
