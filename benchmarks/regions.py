"""Memory of training a part of the weights, beside full tuning and LoRA, each in a process of its own. CPU only.

    python benchmarks/regions.py [--out FILE]

Eight matrices of 2048 × 2048 with a ReLU between them read 512 rows; 5 % of their entries move, chosen at random (`Elements`), or 5 % of
their columns, or a LoRA with as many numbers, or all. Told is the growth of the process's resident memory at its peak, from when the
weights are there to the end of the third AdamW step (VmHWM, reset before it), where malloc gives back what is let go
(`MALLOC_MMAP_THRESHOLD_=65536`, glibc). What full tuning keeps to show what is forgotten, a copy of the start, is not counted.

Goal: at most 0.55 of full tuning's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
from torch import nn

from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Columns, Elements

RESULT = ROOT / "benchmarks" / "results" / "regions.json"
LAYERS, WIDTH, ROWS, SHARE, STEPS = 8, 2048, 512, 0.05, 3
GOAL = 0.55
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}


class Beside(nn.Module):
    """A frozen matrix with a LoRA."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, rank, bias=False), nn.Linear(rank, WIDTH, bias=False)

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        return self.linear(shown) + self.up(self.down(shown))


def parameters(kind: str, model: nn.Sequential) -> list[nn.Parameter]:
    """What moves; the model is changed accordingly."""
    if kind == "full":
        return list(model.parameters())
    if kind == "lora":
        rank = round(SHARE * WIDTH * WIDTH / (2 * WIDTH))
        for place, module in enumerate(model):
            if isinstance(module, nn.Linear):
                model[place] = Beside(module, rank)
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = int(SHARE * WIDTH * WIDTH)
    mask = {
        name: Elements(torch.randperm(weight.numel())[:count].sort().values)
        if kind == "entries"
        else Columns(torch.randperm(WIDTH)[: count // WIDTH].sort().values)
        for name, weight in model.named_parameters()
    }
    attachment = RegionAttachment(model, mask)  # type: ignore[arg-type]
    return [values for _, values in attachment.trained()]


def measured(kind: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU())])
    shown = torch.randn(ROWS, WIDTH)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    moving = parameters(kind, model)
    optimizer = torch.optim.AdamW(moving, lr=1e-4)
    for _ in range(STEPS):
        model(shown).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"numbers that move": sum(one.numel() for one in moving), "peak MB above the weights": resident("VmHWM") - before}


def resident(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    found = {}
    for kind in ("full", "entries", "columns", "lora"):
        ran = subprocess.run(
            [sys.executable, __file__, "--measure", kind], capture_output=True, text=True, check=True, env={**os.environ, **RETURNED}
        )
        found[kind] = json.loads(ran.stdout.splitlines()[-1])
    for one in found.values():
        one["share of full tuning's"] = round(one["peak MB above the weights"] / found["full"]["peak MB above the weights"], 3)
    about = {
        "what": f"{LAYERS} matrices of {WIDTH} × {WIDTH}, {ROWS} rows, {STEPS} steps of AdamW",
        "goal": f"at most {GOAL} of full tuning's peak with {SHARE:.0%} of the entries",
        "found": found,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__},
        "date": date.today().isoformat(),
    }
    given.out.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
