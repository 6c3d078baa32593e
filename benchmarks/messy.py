"""How well cleaning steps find what is wrong with the demo set `messy`: precision and recall of each against the truth beside it.

    python benchmarks/messy.py --out benchmarks/results/messy.json

Each step runs alone on all rows, with the knobs written below. A row counts as rightly dropped (or changed) if the truth names it with the
flaw that the step is for. Of copies, whichever of a group is dropped is right, as long as one stays. Not a benchmark of speed.
"""

import argparse
import csv
import json
import platform
import sys
from collections import Counter
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS: list[tuple[str, dict[str, object], tuple[str, ...]]] = [
    ("exact duplicates, letter by letter", {"method": "exact_duplicates", "ignore_case": False, "ignore_spaces": False}, ("duplicate",)),
    ("exact duplicates, case and spaces aside", {"method": "exact_duplicates"}, ("duplicate", "near duplicate")),
    ("near duplicates", {"method": "near_duplicates"}, ("duplicate", "near duplicate")),
    (
        "near duplicates, groups of four characters",
        {"method": "near_duplicates", "unit": "characters", "group": 4},
        ("duplicate", "near duplicate"),
    ),
    ("semantic duplicates", {"method": "semantic_duplicates"}, ("duplicate", "near duplicate")),
    ("language", {"method": "language", "text": "row"}, ("other language",)),
    ("private data", {"method": "private_data"}, ("private data",)),
    ("length", {"method": "length", "most": 1000}, ("too long",)),
    ("decontamination by questions", {"method": "decontamination", "against": "known"}, ("leaked test row",)),
    ("decontamination by whole rows", {"method": "decontamination", "against": "known", "compare": "row"}, ("leaked test row",)),
    ("perplexity", {"method": "perplexity"}, ("wrong answer",)),
    ("instruction-following difficulty", {"method": "ifd", "share": 1.0}, ("wrong answer",)),
]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path)
    out = given.parse_args().out
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    from workbench.core.method import discover

    discover()
    found = [measured(title, step, flaws) for title, step, flaws in STEPS]
    for row in found:
        print(f"{row['step']:46} precision {row['precision']:.2f}  recall {row['recall']:.2f}  ({row['right']} of {row['dropped']})")
    if out:
        about = {"machine": platform.machine(), "python": platform.python_version(), "date": str(date.today())}
        out.write_text(json.dumps({**about, "data": "assets/demos/messy.jsonl", "steps": found}, indent=1) + "\n")


def measured(title: str, step: dict[str, object], flaws: tuple[str, ...]) -> dict[str, object]:
    """One step alone on `messy`."""
    from tempfile import mkdtemp

    from workbench.core.job import drain
    from workbench.core.parts import DataSpec
    from workbench.core.workspace import Workspace
    from workbench.materials.around import Around
    from workbench.materials.corpus import load

    workspace = Workspace(Path(mkdtemp()))
    truth = {int(row["line"]): row for row in csv.DictReader((ROOT / "assets/demos/truth/messy.csv").open())}
    examples = load("messy", workspace).examples
    selection = drain(DataSpec(selectors=[step]).selectors[0].keep(examples, Around(workspace)))
    dropped = [examples[row].line for row in sorted({*selection.reasons, *selection.changed})]
    there = [example.line for example in examples]
    if "duplicate" in flaws:
        group = {line: int(truth[line]["copy_of_line"] or line) if truth[line]["flaw"] in flaws else line for line in there}
        sizes, gone = Counter(group.values()), Counter(group[line] for line in dropped)
        wanted, right = sum(size - 1 for size in sizes.values()), sum(min(count, sizes[own] - 1) for own, count in gone.items())
    else:
        wanted = sum(truth[line]["flaw"] in flaws for line in there)
        right = sum(truth[line]["flaw"] in flaws for line in dropped)
    return {
        "step": title, "knobs": step, "flaws": list(flaws), "dropped": len(dropped), "right": right, "wanted": wanted,
        "precision": right / len(dropped) if dropped else 1.0, "recall": right / wanted,
        "dropped by flaw": dict(Counter(truth[line]["flaw"] for line in dropped)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
