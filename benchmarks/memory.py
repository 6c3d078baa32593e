"""The memory estimate held against memory: what `jobs.estimate` says, what a step holds, how far the process grows. CPU only.

    python benchmarks/memory.py [--out FILE]

The demo model learns synthetic conversations, tuned whole and with LoRA, at two batch sizes and two lengths, and once in half
precision; most rows are as long as allowed and some shorter, so that batches are filled up. Each setting has a process of its own,
which first tries a batch of one short row, so that what is loaded on the way is there before the clock of memory starts. Then
`jobs.trial` takes its real steps:

- `held` is the growth of the process's resident memory, looked at every 2 ms, where malloc gives back what is let go
  (`MALLOC_MMAP_THRESHOLD_=65536`, glibc). It is what the estimate is of.
- `resident` is the same as the process usually is: glibc keeps freed memory and its fragments, and what the first batch left behind
  is used again. It can be more or less than was held.

Goal: held within 25 % of the estimate.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch

from workbench.core.job import drain
from workbench.core.method import discover
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.curate import look, tokenizer_of
from workbench.jobs.estimate import Rows, estimate
from workbench.jobs.trial import trial

RESULT = ROOT / "benchmarks" / "results" / "memory.json"
ADAPTERS = ("lora", "full")
SHAPES = ((4, 128), (16, 128), (4, 512), (16, 512))  # rows in a batch, tokens of the longest
SETTINGS = [(adapter, *shape, "float32") for adapter in ADAPTERS for shape in SHAPES] + [
    (adapter, 8, 256, "bfloat16") for adapter in ADAPTERS
]

Setting = tuple[str, int, int, str]
GOAL = 0.25
ROWS = 120
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes from which memory comes from the system, and goes back to it at once


def rows_in(home: Path, length: int) -> Path:
    """Conversations of words that are one token each; three of four are cut at `length`, half of a row is the answer."""
    draw = random.Random(0)
    words = [token[1:] for token in json.loads((ROOT / "assets/pocket/tokenizer.json").read_text())["model"]["vocab"] if token[0] == "Ġ"]
    words = [word for word in words if word.isalpha()]
    lines = []
    for row in range(ROWS):
        asked, said = length // 2, length if row % 4 else length // 4
        turns = {"user": draw.choices(words, k=asked), "assistant": draw.choices(words, k=said)}
        lines.append(json.dumps({"messages": [{"role": role, "content": " ".join(text)} for role, text in turns.items()]}))
    path = home / f"rows-{length}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def spec_of(home: Path, setting: Setting) -> TrainSpec:
    adapter, batch, length, precision = setting
    data = {"path": str(rows_in(home, length)), "max_length": length}
    return TrainSpec(data=data, adapter=adapter, batch_size=batch, precision=precision, steps=5, prompts=["the"])


def one(setting: Setting) -> dict[str, Any]:
    discover()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        drain(trial(spec_of(Path(folder), (setting[0], 1, 16, setting[3])), workspace))
        spec = spec_of(Path(folder), setting)
        found = look(spec.data, tokenizer_of(spec.model, workspace), workspace)
        said = estimate(spec, workspace, Rows(min(spec.data.max_length, max(found.lengths)), found.share_trained))
        grew = drain(trial(spec, workspace)).bytes
    return {"estimate": said.bytes, "items": dict(said.memory), "grew": grew}


def measured(setting: Setting, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps(setting)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}).stdout
    return json.loads(said.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(json.loads(given.one))))
        return
    if torch.cuda.is_available():
        sys.exit("This compares the estimate with resident memory, which a GPU's is not. Run it where torch sees no GPU.")
    rows = []
    for setting in SETTINGS:
        held, resident = measured(setting, RETURNED), measured(setting, {})
        said, names = held["estimate"], dict(zip(("adapter", "batch", "length", "precision"), setting, strict=True))
        ratios = {"held_ratio": held["grew"] / said, "resident_ratio": resident["grew"] / said}
        rows.append({**names, "estimate": said, "held": held["grew"], "resident": resident["grew"], **ratios, "items": held["items"]})
        print({name: value for name, value in rows[-1].items() if name != "items"}, flush=True)
    result = {
        "what": "bytes at the fullest moment of a run: estimated, held, and by how much the process grows as it usually is",
        "rows": rows,
        "held_ratio": [min(row["held_ratio"] for row in rows), max(row["held_ratio"] for row in rows)],
        "resident_ratio": [min(row["resident_ratio"] for row in rows), max(row["resident_ratio"] for row in rows)],
        "goal": f"held within {GOAL:.0%} of the estimate",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
