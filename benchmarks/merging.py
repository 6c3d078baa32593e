"""Two skills in one model: every merge on the demo model's `skill_a` and `skill_b`, three seeds.

    python benchmarks/merging.py [--seeds 3] [--home FOLDER]

Trains both skills with LoRA from each seed (about a minute each on two cores; kept in FOLDER and taken up again), then tries every
merge of the shelf in memory. A method with a scale is tried at six of them and shown at the one with the lowest mean loss over all
tasks, LiNeS and plain task arithmetic at as many settings each; the others at their own settings. Scored on rows that no run has
trained on: right answers to the two new skills and to four that the base knew. Written to `benchmarks/results/merging.json`.
"""

import argparse
import json
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

import torch

from workbench.core.method import discover, shelf
from workbench.core.spec import MergeSpec, read_spec
from workbench.core.workspace import Workspace
from workbench.jobs import scoring
from workbench.jobs.tasted import BASE, MERGED, Tasted
from workbench.jobs.tasting import Tasting
from workbench.jobs.train import train

RESULT = ROOT / "benchmarks" / "results" / "merging.json"
SKILLS = ("skill_a", "skill_b")
ROWS = 24  # of each task, for the loss and for the answers
SCALES = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    discover()
    torch.set_num_threads(1)
    scoring.READ = scoring.ASKED = ROWS
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(given.home or Path(folder))
        for seed in range(given.seeds):
            models = [tuned(skill, seed, workspace) for skill in SKILLS]
            for name, row in merged(models, workspace):
                found.setdefault(name, []).append(row)
                print(
                    f"seed {seed}  {name:<22} new {row['new']:.0%}  known {row['known']:.0%}  loss {row['loss']:.3f}  {row['knobs']}",
                    flush=True,
                )
    rows = [{"merge": name, **summary(of)} for name, of in found.items()]
    rows.sort(key=lambda row: -row["mean"][0])
    RESULT.write_text(json.dumps({**about(given.seeds), "rows": rows, "runs": found}, indent=1) + "\n")
    print(table(rows))


def tuned(skill: str, seed: int, workspace: Workspace) -> str:
    """A run that learnt the skill, as a reference; trained if it is not there yet."""
    number = f"{1 + 2 * seed + SKILLS.index(skill):04d}"
    folder = workspace.run(number)
    if not (folder / "adapter").exists():
        spec = read_spec(ROOT / "assets" / "demos" / f"{skill}.yaml", [f"seed={seed}"])
        (folder / "spec.yaml").write_text(spec.to_yaml())
        for _ in train(spec, folder, workspace):  # type: ignore[arg-type]
            pass
    return f"run:{number}"


def merged(models: list[str], workspace: Workspace) -> Any:
    """(name, what came of it) of the base, each model alone, and every merge of the shelf."""

    def spec_of(method: str, **knobs: Any) -> MergeSpec:
        return MergeSpec.parse({"base": "pocket", "models": [{"model": model} for model in models], "merge": {"method": method, **knobs}})

    tasting = Tasting(spec_of("linear"), [], workspace)
    for name, scores in tasting.scores.items():
        yield (name if name == BASE else SKILLS[tasting.labels.index(name)] + " alone"), row_of(scores, tasting, {})
    for method, kind in shelf("merges").items():
        if not kind.least <= len(models) <= kind.most:
            continue
        first, more = kind.ends or ("", "")
        settings: list[dict[str, Any]] = [{first: scale, more: 0.0} for scale in SCALES] if first else [{}]
        if method == "lines":  # as many settings as plain task arithmetic has: half of what was summed, and the rest with depth
            settings = [{first: scale / 2, more: scale / 2} for scale in SCALES]
        tried = [(next(tasting.taste(spec_of(method, **knobs))), knobs) for knobs in settings]
        _, knobs = min(tried, key=lambda pair: mean_loss(pair[0]))
        *_, best = tasting.taste(spec_of(method, **knobs))
        yield kind.title(), row_of(best.scores[MERGED], tasting, knobs)


def mean_loss(tasted: Tasted) -> float:
    return statistics.fmean(score.loss for score in tasted.scores[MERGED])


def row_of(scores: list[scoring.Score], tasting: Tasting, knobs: dict[str, Any]) -> dict[str, Any]:
    by_task = {task.name: score for task, score in zip(tasting.tasks, scores, strict=True)}
    new = [by_task[name].right or 0.0 for name in SKILLS]
    known = [score.right or 0.0 for name, score in by_task.items() if name not in SKILLS]
    mean = (statistics.fmean(new) + statistics.fmean(known)) / 2
    loss = statistics.fmean(score.loss for score in scores)
    return {"new": statistics.fmean(new), "known": statistics.fmean(known), "mean": mean, "loss": loss, "knobs": knobs}


def summary(of: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, least and most over the seeds."""
    return {
        name: [round(figure([row[name] for row in of]), 4) for figure in (statistics.fmean, min, max)]
        for name in ("new", "known", "mean", "loss")
    }


def about(seeds: int) -> dict[str, Any]:
    return {
        "what": "share of right answers: new is the mean of the two new skills, known that of four the base knew, mean that of both; "
        "[mean, least, most] of the seeds",
        "seeds": seeds,
        "rows_of_a_task": ROWS,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = "| merge | new skills | known skills | mean | loss |\n|---|---:|---:|---:|---:|\n"
    return head + "\n".join(
        f"| {row['merge']} | {row['new'][0]:.0%} | {row['known'][0]:.0%} | {row['mean'][0]:.0%} | {row['loss'][0]:.3f} |" for row in rows
    )


if __name__ == "__main__":
    main()
