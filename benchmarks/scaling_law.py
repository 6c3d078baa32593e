"""Whether the scaling law and accept-then-stop of the workbench give what the paper's authors report on their own measurements.

    python benchmarks/scaling_law.py PATH --out benchmarks/results/scaling_law.json

PATH is the folder `benchmark` of github.com/linhaowei1/Fine-tuning-Scaling-Law (arXiv:2402.02314), with flan.csv, gigaword.csv and
wmt19.csv: the test losses of 30 models, each tuned on 200 to 1,638,400 rows. Of each set: how far the rectified and the plain law lie
from ln L (root of the mean square, mean over models), and how well accept-then-stop foretells the loss of all rows from a share of them:
Pearson's correlation with what was measured, and the loss of the chosen model between that of the worst (0) and of the best (1). Beside
them what the authors print in results/tab2.txt. Not a benchmark of speed.
"""

import argparse
import csv
import json
import platform
import statistics
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARES = (8, 64, 512)
AUTHORS = {"flan": (0.909, 0.611, 0.456), "wmt19": (0.989, 0.860, 0.615), "gigaword": (0.989, 0.920, 0.910)}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("path", type=Path)
    given.add_argument("--out", type=Path)
    asked = given.parse_args()
    sys.path[:0] = [str(ROOT)]
    found = [measured(name, asked.path / f"{name}.csv") for name in AUTHORS]
    for one in found:
        print(f"{one['set']:9} {one['models']} models  error of the law {one['law']:.4f}, of the plain one {one['plain']:.4f}")
        for row in one["accept_then_stop"]:
            told = f"Pearson {row['pearson']:.3f} (authors {row['authors']:.3f})  relative accuracy {row['accuracy']:.3f}"
            print(f"  1/{row['share']:<4} {told}")
    if asked.out:
        about = {"machine": platform.machine(), "python": platform.python_version(), "date": str(date.today())}
        asked.out.write_text(json.dumps({**about, "data": "linhaowei1/Fine-tuning-Scaling-Law benchmark", "sets": found}, indent=1) + "\n")


def measured(name: str, path: Path) -> dict[str, object]:
    """One of the authors' three sets."""
    from workbench.materials.scaling import fit

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    sizes = sorted(int(column) for column in rows[0] if column.isdigit() and int(column) > 0)
    losses = [[float(row[str(size)]) for size in sizes] for row in rows]
    laws = [fit(sizes, own).error for own in losses]
    plain = [fit(sizes, own, plain=True).error for own in losses]
    return {
        "set": name,
        "models": len(rows),
        "law": statistics.mean(laws),
        "plain": statistics.mean(plain),
        "accept_then_stop": [foretold(sizes, losses, share, authors) for share, authors in zip(SHARES, AUTHORS[name], strict=True)],
    }


def foretold(sizes: list[int], losses: list[list[float]], share: int, authors: float) -> dict[str, float]:
    """The loss of all rows, from those of at most a share of them."""
    from workbench.materials.scaling import accept_then_stop

    seen = [size for size in sizes if size <= sizes[-1] // share]
    told = [accept_then_stop(seen, own[: len(seen)])(sizes[-1]) for own in losses]
    true = [own[-1] for own in losses]
    chosen = true[told.index(min(told))]
    accuracy = (max(true) - chosen) / (max(true) - min(true))
    return {"share": share, "pearson": statistics.correlation(told, true), "authors": authors, "accuracy": accuracy}


if __name__ == "__main__":
    main()
