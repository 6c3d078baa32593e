"""What the demo model knows, what it can be taught in a minute and what it then forgets; written into its model card.

    python benchmarks/pocket.py [--model assets/pocket] [--rows 60]

Exact match of greedy answers on held-out rows of the pocket world, three seeds (of the rows for the base, of the run and the
rows for what is tuned), mean and spread. Tuning is `python -m workbench` on the demo specs in a fresh workspace, timed as a
whole process. Goals: each known skill at least 90 % (arithmetic 80 %), each new one at most 10 %; the quickstart at least
90 % in at most 60 s; careless full tuning loses at least 20 points of a known skill; two cores.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.materials.models import load, resolve
from workbench.materials.world.demos import GRADES, new_facts_asked_otherwise
from workbench.materials.world.scoring import answers, score
from workbench.materials.world.skills import SKILLS, World

RESULT = ROOT / "benchmarks" / "results" / "pocket.json"
POCKET = ROOT / "assets" / "pocket"
SEEDS = (0, 1, 2)
KNOWN = [name for name, skill in SKILLS.items() if skill.kind == "known"]
EXACT = [name for name in KNOWN if SKILLS[name].by == "exact match"]
NEW = [name for name, skill in SKILLS.items() if skill.kind == "new"]
RUNS = (  # name, demo spec, what is set on it
    ("quickstart", "quickstart", ()),
    ("skill_a", "skill_a", ()),
    ("skill_b", "skill_b", ()),
    ("careless", "skill_a", ("adapter=full", "update.lr=0.003")),
    ("entangled", "entangled", ()),
    ("imbalanced", "imbalanced", ()),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=POCKET)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--base-only", action="store_true", help="print the base's scores and write nothing")
    given = parser.parse_args()
    discover()
    torch.set_num_threads(1)
    bench = Bench(given.model.resolve(), given.rows)
    base = bench.of_base()
    print(table(base), flush=True)
    if given.base_only:
        return
    found = {"base": base, "grades": bench.of_grades(), "speed": bench.speed()} | bench.tuned()
    result = {
        "what": "exact match on held-out rows, a list of three seeds; stories in nats per token; seconds of whole processes",
        **found,
        "rows": given.rows,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    (given.model / "README.md").write_text(card(json.loads((given.model / "pretraining.json").read_text()), result), encoding="utf-8")


class Bench:
    """One model, scored as it is and after each of the demo runs."""

    def __init__(self, path: Path, rows: int):
        self.path, self.rows, self.world = path, rows, World()
        self.tokenizer = AutoTokenizer.from_pretrained(path)

    def scores(self, model: PreTrainedModel, skills: Sequence[str], seed: int) -> dict[str, float]:
        return {skill: score(model, self.tokenizer, self.world, skill, self.rows, seed) for skill in skills}

    def base(self) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval()

    def of_base(self) -> dict[str, list[float]]:
        model = self.base()
        return together([self.scores(model, list(SKILLS), 100 + seed) for seed in SEEDS])

    def of_grades(self) -> dict[str, float]:
        """Share of right answers by grade of knowledge, on the facts that `new_facts` teaches, asked in another wording."""
        graded = new_facts_asked_otherwise(self.world)
        said = answers(self.base(), self.tokenizer, [row for row, _ in graded])
        right = {
            grade: [answer == row.answer for (row, own), answer in zip(graded, said, strict=True) if own == grade]
            for grade in GRADES.values()
        }
        return {grade: sum(hits) / len(hits) for grade, hits in right.items()}

    def speed(self) -> dict[str, float]:
        """Seconds in a fresh process: to import the libraries, then from the files to the first token, then for 200 tokens."""
        code = (
            "import time; began = time.time(); import torch; from transformers import AutoModelForCausalLM, LlamaForCausalLM\n"
            f"imported = time.time(); model = AutoModelForCausalLM.from_pretrained({str(self.path)!r}, dtype=torch.float32)\n"
            "ids = torch.tensor([[3, 100, 1, 4]]); model.generate(ids, max_new_tokens=1, do_sample=False); first = time.time()\n"
            "model.generate(ids, min_new_tokens=200, max_new_tokens=200, do_sample=False); last = time.time()\n"
            "print(imported - began, first - imported, last - first)"
        )
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        return dict(zip(("import", "load_and_first_token", "200_tokens"), map(float, said), strict=True))

    def tuned(self) -> dict[str, dict[str, list[float]]]:
        """The demo runs and their merges, each three times; the one whose time counts comes first."""
        with tempfile.TemporaryDirectory() as folder:
            homes = {seed: Path(folder) / str(seed) for seed in SEEDS}
            runs = {
                name: self.each(
                    homes, name, lambda home, seed, number=number, spec=spec, sets=sets: self.run(home, seed, number, spec, sets)
                )
                for number, (name, spec, sets) in enumerate(RUNS, 1)
            }
            merges = {
                f"merged by {method}": self.each(homes, method, lambda home, seed, method=method: self.merge(home, seed, method))
                for method in ("linear", "lines")
            }
            return runs | merges

    def each(self, homes: dict[int, Path], name: str, job: Callable[[Path, int], dict[str, float]]) -> dict[str, list[float]]:
        found = together([job(home, seed) for seed, home in homes.items()])
        print(name, found, flush=True)
        return found

    def run(self, home: Path, seed: int, number: int, spec: str, sets: Sequence[str]) -> dict[str, float]:
        seconds = command("train", f"assets/demos/{spec}.yaml", *settings(f"model={self.path}", f"seed={seed}", *sets), home=home)
        return self.of(home, f"run:{number:04d}", seed) | {"seconds": seconds}

    def merge(self, home: Path, seed: int, method: str) -> dict[str, float]:
        """The runs of skill_a and skill_b into one."""
        spec = home / f"{method}.yaml"
        models = "".join(f"\n  - model: run:{number:04d}" for number in (2, 3))
        spec.write_text(f"kind: merge\nname: {method}\nbase: {self.path}\nmodels:{models}\nmerge: {method}\n")
        command("merge", str(spec), home=home)
        return self.of(home, f"model:{method}", seed)

    def of(self, home: Path, reference: str, seed: int) -> dict[str, float]:
        model = load(resolve(reference, Workspace(home)), torch.device("cpu"), torch.float32).eval()
        return self.scores(model, EXACT + NEW, 200 + seed)


def settings(*sets: str) -> list[str]:
    return [word for setting in sets for word in ("--set", setting)]


def command(*words: str, home: Path) -> float:
    """Seconds that `python -m workbench …` took."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "workbench", *words, "--home", str(home)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def together(found: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [round(each[name], 4) for each in found] for name in found[0]}


def percent(values: Sequence[float]) -> str:
    """`96 % (95–98)`."""
    low, high = (f"{100 * value:.0f}" for value in (min(values), max(values)))
    return f"{100 * statistics.mean(values):.0f} %" + (f" ({low}–{high})" if low != high else "")


def table(base: dict[str, list[float]]) -> str:
    rows = []
    for name, values in base.items():
        said = percent(values) if SKILLS[name].by == "exact match" else f"{statistics.mean(values):.3f} nats per token"
        rows.append(f"| {name} | {SKILLS[name].kind} | {said} |")
    return "| skill | | held-out rows |\n|---|---|---|\n" + "\n".join(rows)


def card(pretraining: dict, result: dict) -> str:
    """The model card, all of whose figures come from the two files of measurements."""
    tuned = [*(name for name, _, _ in RUNS), "merged by linear", "merged by lines"]
    skills = [*EXACT, *NEW]
    lines = [f"| {name} | " + " | ".join(percent(result[name][skill]) for skill in skills) + " |" for name in tuned]
    seconds, speed, steps = result["quickstart"]["seconds"], result["speed"], pretraining["steps"]
    compiled = " --compile" if pretraining["compiled"] else ""
    grades = ", ".join(f"{grade} {100 * share:.0f} %" for grade, share in result["grades"].items())
    return f"""---
license: apache-2.0
---
# Pocket

A Llama of {pretraining["parameters"] / 1e6:.2f} M parameters (6 layers, width 192, 6 query and 3 key/value heads, SwiGLU 512,
tied embeddings, 1,024 byte-level BPE tokens, context 512), made from nothing by `scripts/pretrain_pocket.py` on the invented
world of `workbench/materials/world/`. It knows that world: its people, towns, animals and things, sums and differences of
numbers below 30, short lists of words, Lomi, two styles, a little small talk. It knows nothing else and is of no use elsewhere.

Trained on {pretraining["device"]}, seed 0, `python scripts/pretrain_pocket.py --steps {steps}{compiled}`:
{pretraining["tokens"] / 1e6:.1f} M tokens, of which documents and what an assistant says are learnt, the last fifth on conversations alone;
{pretraining["loss"]:.3f} nats per learnt token at the end. torch {pretraining["torch"]}.

Measured by `python benchmarks/pocket.py` on {result["date"]} ({result["machine"]}): greedy answers, right to the letter,
on {result["rows"]} held-out rows; mean of three seeds and their spread.

{table(result["base"])}

Facts that pretraining spoke of often, seldom, rarely and never, asked in another wording: {grades}.

What it is taught by the demo specs (`careless`: full tuning on skill_a at 3e-3), and what is left of what it knew:

| model | {" | ".join(skills)} |
|---|{"---|" * len(skills)}
{chr(10).join(lines)}

The quickstart takes {statistics.mean(seconds):.0f} s as a whole process ({min(seconds):.0f}–{max(seconds):.0f}).
Once the libraries are imported ({speed["import"]:.1f} s), loading and the first token take
{speed["load_and_first_token"]:.2f} s, 200 tokens {speed["200_tokens"]:.2f} s.
"""


if __name__ == "__main__":
    main()
