"""A learning rate ten thousand times too high, once and held: plain AdamW, clipped gradients, and the cap on r, side by side.

    python benchmarks/spike.py [--seeds 3]

The demo spec `assets/demos/spike.yaml` on the demo model, six ways and once without a spike. It shows whether what was learnt
survives: the validation loss before the spike and at the end, the worst r of a step that was taken, and the right answers on
held-out rows of the skill. What it is not: a comparison of speed. The claim is the paper's (arXiv:2603.13552, there on image
classifiers and a tiny transformer); this is it on a language model with LoRA.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
import yaml
from transformers import AutoTokenizer

from workbench.core.events import Measured
from workbench.core.method import discover
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import train
from workbench.materials.models import load, resolve
from workbench.materials.world.scoring import score
from workbench.materials.world.skills import World

RESULT = ROOT / "benchmarks" / "results" / "spike.json"
SPEC = yaml.safe_load((ROOT / "assets" / "demos" / "spike.yaml").read_text(encoding="utf-8"))
WAYS = {"plain": {"guard": "monitor", "clip": 0.0}, "clipped": {"guard": "monitor", "clip": 1.0}, "capped": {"guard": "cap", "clip": 0.0}}
ONCE, HELD, NONE = SPEC["changes"], SPEC["changes"][:1], []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    discover()
    found = {name: [one(changes, way, seed) for seed in range(given.seeds)] for name, changes, way in cases()}
    result = {
        "what": "of each seed: validation loss before the spike and at the end (nats per token), the largest r of a step taken, "
        "share of right answers on 60 held-out rows",
        **found,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def cases() -> Iterator[tuple[str, list[dict], dict]]:
    yield "no spike, plain", NONE, WAYS["plain"]
    for name, way in WAYS.items():
        yield f"once, {name}", ONCE, way
        yield f"held, {name}", HELD, way


def one(changes: list[dict], way: dict, seed: int) -> dict[str, float | str]:
    """One run; a run that fails says why instead of its end."""
    spec = TrainSpec(**{**SPEC, "seed": seed, "changes": changes, "update": {**SPEC["update"], **way}})
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(Path(home))
        loss, taken = {}, [0.0]
        for event in train(spec, workspace.run("0001"), workspace):
            if isinstance(event, Measured):
                taken.append(event.values.get("step_ratio_taken", event.values.get("step_ratio", 0.0)))
                if "validation_loss" in event.values:
                    loss[event.step] = event.values["validation_loss"]
        tuned = load(resolve("run:0001", workspace), torch.device("cpu"), torch.float32).eval()
        right = score(tuned, AutoTokenizer.from_pretrained(ROOT / "assets" / "pocket"), World(), "tale", 60, 200 + seed)
    before = max(step for step in loss if step < SPEC["changes"][0]["at"])
    values = {"before": loss[before], "end": loss[spec.steps], "largest_r": max(taken), "right": right}
    print(way, len(changes), values, flush=True)
    return {name: float(f"{value:.4g}") for name, value in values.items()}


if __name__ == "__main__":
    main()
