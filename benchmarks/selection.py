"""Does a selection help? 5 % of a pool chosen by a selector beside 5 % drawn at random, trained alike, measured on the target skill.

    python benchmarks/selection.py [--seeds 3] [--steps 60] [--out benchmarks/results/selection.json]

The pool: rows of many skills of the pocket world in equal parts, one of which (`doubles`, unknown to the pocket model) is the target's. The
target set that selectors see has 40 rows of that skill that are not in the pool. Each way picks as many rows of the pool; a LoRA of the
pocket model learns them for as many steps with the same seed; then 60 held-out rows of the skill are asked, and their loss is read. Told
are mean and spread (largest less smallest) over seeds, which fix the pool, the draw and the training.
"""

import argparse
import json
import platform
import random
import statistics
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
SKILLS = ("facts", "words", "arithmetic", "style", "chat", "tale", "ends", "doubles")
TARGET, EACH, SHARE, TESTS = "doubles", 150, 0.05, 60
WAYS: dict[str, dict[str, object] | None] = {
    "random": None,
    "GOT-D": {"method": "got_d", "target": "target", "share": SHARE},
    "RDS+": {"method": "rds_plus", "target": "target", "share": SHARE},
    "DSIR": {"method": "dsir", "target": "target", "share": SHARE},
    "k-center": {"method": "k_center", "share": SHARE},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    from workbench.core.method import discover

    discover()
    found = {way: [] for way in WAYS}
    for seed in range(given.seeds):
        for way, numbers in one_seed(seed, given.steps).items():
            found[way].append(numbers)
            print(seed, way, numbers, flush=True)
    told = {way: {name: summary([one[name] for one in runs]) for name in runs[0]} for way, runs in found.items()}
    for way, numbers in told.items():
        print(f"{way:10}", "  ".join(f"{name} {values['mean']:.3f} ({values['spread']:.3f})" for name, values in numbers.items()))
    if given.out:
        about = {
            "machine": f"{platform.machine()}, CPU", "python": platform.python_version(), "torch": version("torch"),
            "date": str(date.today()), "seeds": given.seeds, "steps": given.steps, "share": SHARE, "pool": EACH * len(SKILLS),
        }  # fmt: skip
        given.out.write_text(json.dumps({**about, "ways": told}, indent=1) + "\n")


def summary(values: list[float]) -> dict[str, object]:
    return {"mean": statistics.mean(values), "spread": max(values) - min(values), "each": values}


def one_seed(seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Every way on one pool: the share of target rows among those picked, and what the model has learnt of the skill."""
    from workbench.core.job import drain
    from workbench.core.parts import DataSpec
    from workbench.core.workspace import Workspace
    from workbench.jobs.steps import sifted
    from workbench.materials.world.skills import World

    world, folder = World(), Path(mkdtemp())
    workspace, draw = Workspace(folder / "home"), random.Random(seed)
    pool = [row for skill in SKILLS for row in world.rows(skill, EACH, seed=100 + seed, held_out=False)]
    own = {row.prompt for row in pool}
    target = [row for row in world.rows(TARGET, 400, seed=200 + seed, held_out=False) if row.prompt not in own][:40]
    tests = world.rows(TARGET, TESTS, seed=300 + seed, held_out=True)
    draw.shuffle(pool)
    for name, rows in (("pool", pool), ("target", target)):
        write(folder / f"{name}.jsonl", rows)
    found = {}
    for way, step in WAYS.items():
        if step is None:
            picked = draw.sample(pool, round(SHARE * len(pool)))
        else:
            step = {**step, **({"target": str(folder / "target.jsonl")} if "target" in step else {})}
            kept = drain(sifted(DataSpec(path=str(folder / "pool.jsonl"), selectors=[step]), workspace)).kept
            picked = [pool[row] for row in kept]
        write(folder / "picked.jsonl", picked)
        learnt = trained(folder / "picked.jsonl", workspace, seed, steps, tests, folder / f"run-{way}")
        found[way] = {"of the target": sum(row.skill == TARGET for row in picked) / len(picked), **learnt}
    return found


def write(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in rows))


def trained(path: Path, workspace: object, seed: int, steps: int, tests: list, folder: Path) -> dict[str, float]:
    """What a LoRA of the pocket model that learnt the rows says of the tests: share of right answers, nats a token."""
    import torch

    from workbench.core.spec import TrainSpec
    from workbench.jobs.train import train
    from workbench.materials import models
    from workbench.materials.world.scoring import loss, share_right

    data = {"path": str(path), "validation_share": 0.0}
    spec = TrainSpec(data=data, steps=steps, seed=seed, evaluate_every=10**6, sample_every=10**6, probes=[])
    folder.mkdir(parents=True)
    for _ in train(spec, folder, workspace):
        pass
    base = models.resolve("pocket", workspace)
    ref = models.ModelRef("tuned", "tuned", base.path, folder / "adapter")
    model, tokenizer = models.load(ref, torch.device("cpu"), torch.float32), models.tokenizer(base)
    return {"right": share_right(model, tokenizer, tests), "loss": loss(model, tokenizer, tests)}


if __name__ == "__main__":
    main()
