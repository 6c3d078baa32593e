"""Adapters merged and cut by their factors, beside the dense decomposition that peft's `svd` takes.

    python benchmarks/lora_merge.py [--rounds 3] [--rank 16] [--shapes 1024x1024 2048x2048 2048x5632] [--out FILE]

Three random adapters of rank 16 (the shape of LoRA's: B has unit numbers, A 1/√in) are summed with the weights 0.7, 0.3, −0.5 and cut to
`--rank`, for each shape of a weight matrix: by `workbench.materials.factors.cut` (float64), by a dense singular value decomposition of
the summed change (float32, full matrices, which is peft's default), and by the same without the parts that are thrown away. In turns, in
one process; CPU seconds of each on one thread, medians of the rounds, and how far apart the results are. Written to
`benchmarks/results/lora_merge.json`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
from workbench.materials.factors import added, cut
from workbench.materials.lora import Factors

RESULT = ROOT / "benchmarks" / "results" / "lora_merge.json"
SHARES = (0.7, 0.3, -0.5)
ADAPTER = 16  # rank
GOAL = 0.02  # of the dense decomposition's CPU seconds, for 2048×5632


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--shapes", nargs="+", default=["1024x1024", "2048x2048", "2048x5632"])
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    shapes = [tuple(map(int, shape.split("x"))) for shape in given.shapes]
    torch.set_num_threads(1)  # as in a merge, where each thread has a matrix of its own; and what waits for another costs CPU time
    measured(64, 64, 4, 1)  # the libraries' own beginning
    about = {
        "what": f"three rank-{ADAPTER} adapters summed and cut to rank {given.rank}: CPU seconds a matrix, medians of the rounds",
        "goals": {"factors over dense, 2048x5632": GOAL},
        "rounds": given.rounds,
        "rows": [measured(rows, columns, given.rank, given.rounds) for rows, columns in shapes],
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "threads": 1,
        "versions": {"torch": version("torch"), "python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    given.out.write_text(json.dumps(about, indent=1) + "\n")


def measured(rows: int, columns: int, rank: int, rounds: int) -> dict[str, Any]:
    """One shape: seconds of each way, and the distance of ours from the dense result over its norm."""
    torch.manual_seed(0)
    parts = [
        (share, Factors(torch.randn(rows, ADAPTER).double(), (torch.randn(ADAPTER, columns) / columns**0.5).double())) for share in SHARES
    ]
    ways: dict[str, Callable[[], Factors]] = {
        "factors": lambda: cut(added(parts), rank).factors,
        "dense": lambda: dense(parts, rank, full=True),
        "dense_reduced": lambda: dense(parts, rank, full=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Factors] = {}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            began = time.process_time()
            found[name] = ways[name]()
            seconds[name].append(time.process_time() - began)
    ours, theirs = (found[name].left.double() @ found[name].right.double() for name in ("factors", "dense"))
    apart = float((ours - theirs).norm() / theirs.norm())
    row = {name: round(statistics.median(took), 4) for name, took in seconds.items()}
    told = {
        "shape": [rows, columns], "cpu_s": row, "factors_over_dense": round(row["factors"] / row["dense"], 5), "apart": apart,
        "lost": cut(added(parts), rank).lost,
    }  # fmt: skip
    print(told, flush=True)
    return told


def dense(parts: list[tuple[float, Factors]], rank: int, full: bool) -> Factors:
    """As peft does it: the change written out, decomposed, and cut; the singular values go to B."""
    whole = sum(share * (pair.left.float() @ pair.right.float()) for share, pair in parts)
    assert isinstance(whole, Tensor)
    u, sizes, v = torch.linalg.svd(whole, full_matrices=full)
    return Factors(u[:, :rank] * sizes[:rank], v[:rank])


if __name__ == "__main__":
    main()
