"""Intruder dimensions on the demo model: whether LoRA brings more of them than full tuning, and what they cost.

    python benchmarks/intruders.py [--seeds 3] [--only lora,full] [--steps 120] [--out benchmarks/results/intruders.json]

LoRA at three ranks, all at alpha = 2 · rank, and full tuning learn `doubles` (say every word twice) in 120 steps of 8 rows, at a grid of
learning rates. Of each tuned model: the loss on the new skill and on what the base knew, and, over the 42 matrices of the blocks, how many
of the ten strongest left singular vectors match none of the base's at 0.5 or better (`methods/inspections/intruder_dimensions.py`); then
what is added to both losses when these directions are taken out (`intruder_removal.py`). A learning rate means another thing to each, so
they are to be compared where they have learnt as much, which the table does at the loss nearest to 0.1 nats, and at the lowest loss. What
is in the result file is not run again.

What it is not: a claim about large models. The matrices have 96 to 512 rows, where a random direction matches one of the base's at 0.16 to
0.31, and the paper's are thousands wide.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured
from workbench.core.job import drain
from workbench.core.method import discover
from workbench.core.spec import InspectSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.inspect import laid_out
from workbench.jobs.train import train

RESULT = ROOT / "benchmarks" / "results" / "intruders.json"
LORA = (3e-4, 1e-3, 3e-3, 1e-2)
CASES: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "lora rank 2": ({"method": "lora", "rank": 2, "alpha": 4}, LORA),
    "lora rank 16": ({"method": "lora", "rank": 16, "alpha": 32}, LORA),
    "lora rank 64": ({"method": "lora", "rank": 64, "alpha": 128}, LORA),
    "full": ({"method": "full"}, (1e-4, 3e-4, 1e-3, 3e-3)),
}
"""The adapter as a spec has it, and its learning rates."""
READ = {"known": "known", "most_rows": 100}  # by the inspection that takes intruders out: what the run held back, and what the base knew
ALIKE = 0.1  # nats of the new skill's loss, near which the cases are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    discover()
    held = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"runs": {}}
    for seed in range(given.seeds):
        for label, (adapter, rates) in CASES.items():
            if not given.only or label in given.only.split(","):
                for rate in rates:
                    name = f"{label}, {rate:g}, {seed}"
                    if name not in held["runs"]:
                        held["runs"][name] = {"case": label, "rate": rate, "seed": seed, **one(adapter, rate, seed, given.steps)}
                        print(name, held["runs"][name], flush=True)
                        write(given.out, held)
    for row in table(held["runs"].values()):
        print(row)


def one(adapter: dict[str, Any], rate: float, seed: int, steps: int) -> dict[str, Any]:
    """A model tuned and looked at; one that cannot be, with the reason."""
    spec = TrainSpec.parse(
        {
            "kind": "train", "model": "pocket", "data": {"path": "skill_a"}, "adapter": adapter, "update": {"method": "adamw", "lr": rate},
            "steps": steps, "batch_size": 8, "seed": seed, "probes": ["forgetting"], "prompts": [],
            "evaluate_every": steps, "sample_every": 100_000, "checkpoint_every": 100_000,
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        workspace, values = Workspace(Path(home)), dict[str, float]()
        folder = workspace.run("0001")
        (folder / "spec.yaml").write_text(spec.to_yaml(), encoding="utf-8")
        try:
            for event in train(spec, folder, workspace):
                if isinstance(event, Measured):
                    values |= event.values
            counted, removed = looked_at("intruder_dimensions", workspace), looked_at("intruder_removal", workspace, **READ)
        except WorkbenchError as error:
            return {"failed": str(error)}
    found = {"loss": values["validation_loss"], "forgotten": values["base_loss"], **counted}
    found |= {"loss added without": removed["loss added without them"], "forgotten added without": removed["added to it without them"]}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def looked_at(inspection: str, workspace: Workspace, **knobs: Any) -> dict[str, float]:
    """The numbers of one inspection of the run."""
    spec = InspectSpec.parse({"kind": "inspect", "models": ["run:0001"], "inspection": {"method": inspection, **knobs}})
    finding = drain(spec.inspection.inspect(laid_out(spec, workspace)))
    return next(iter(finding.numbers.values()))


def table(runs: Any) -> list[dict[str, Any]]:
    """For each case the means over the seeds at two of its rates: nearest to `ALIKE`, and with the lowest loss."""
    rows = []
    for label, (_, rates) in CASES.items():
        means = {rate: mean([run for run in runs if (run["case"], run["rate"]) == (label, rate) and "failed" not in run]) for rate in rates}
        there = {rate: own for rate, own in means.items() if own}
        if there:
            near = min(there, key=lambda rate: abs(math.log(there[rate]["loss"] / ALIKE)))
            best = min(there, key=lambda rate: there[rate]["loss"])
            rows += [{"case": label, "rate": rate, "chosen": why, **there[rate]} for why, rate in (("alike", near), ("best", best))]
    return rows


def mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in (runs[0] if runs else {}) if name not in ("case", "rate", "seed")]
    found = {name: float(f"{statistics.fmean(run[name] for run in runs):.3g}") for name in names}
    return found | {"intruders of each seed": [run["intruders"] for run in runs], "seeds": len(runs)} if runs else {}


def write(path: Path, held: dict[str, Any]) -> None:
    about = {
        "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "table": table(held["runs"].values()), "runs": held["runs"]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
