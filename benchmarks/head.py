"""The head alone, from final hidden states to the loss and its gradient: time, memory and rightness of every way there is here.

    python benchmarks/head.py [--rounds 9] [--out FILE]
    python benchmarks/head.py --rounds 30 --out $OUT/head_gpu.json          on a GPU; what to carry there: train_gpu.py

The head is frozen, as under LoRA, and on a CPU also one that learns; every token is learnt. The ways: transformers' (all logits, as
float32, then cross_entropy), torch's own `linear_cross_entropy` in chunks (from torch 2.12), the workbench's; on a GPU also those of Liger
and Apple, where they are installed (`pip install liger-kernel cut-cross-entropy`). One that is not here is said to be missing. The
workbench is measured a second time for what selectors and reports read: log p and entropy of every token without a gradient.

Before anything is timed, each way's value and gradient are held against float64 from the same numbers. One that is further off than its
number format allows is shown as wrong, and its speed is not told. Then all take turns in one process, to and fro, and ratios are taken
within a round. Memory is what is held at the peak above hidden states and weight: on a GPU the allocator's peak; on a CPU the growth of
the resident memory of a process of its own (VmHWM, reset before it), where malloc gives back what is let go. The weight is random and the
hidden states point at their labels, some clearly and some not, so that the loss is one of a trained model: what skips unlikely tokens
(Apple's) must be measured on likely ones. The floor of a GPU is what it needs at least, from its own products and copies in the same run.
Of a CPU told are the products alone, which take turns with the ways: the logits of all rows, the way back to the hidden states, and to the
weight if it learns, 4NVD or 6NVD operations. No way here does with less; what transformers' form takes over them is all there is to win.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import told
import torch
import torch.nn.functional as F
from torch import Tensor
from workbench_kernels import roofline
from workbench_kernels.linear_cross_entropy import linear_cross_entropy

TOLERANCE = {torch.float32: (1e-5, 2e-5), torch.bfloat16: (2**-8, 2**-6)}
"""Of the value and of the gradient, relative: rounding of sums in float32; one rounding to bfloat16, and a few."""
HF, OURS, STATISTICS, PRODUCTS = "transformers", "workbench", "workbench, statistics", "its products alone"

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    name: str
    vocabulary: int
    width: int
    tokens: int
    dtype: torch.dtype
    learns: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, {str(self.dtype).removeprefix('torch.')}" + (", learns" if self.learns else "")


CPU = [
    Case(f"V {v:,} D 256", v, 256, 1024, dtype, learns)
    for v, learns in ((4_096, False), (32_000, False), (4_096, True))
    for dtype in (torch.float32, torch.bfloat16)
]
GPU = [
    Case(name, vocabulary, width, 8192, torch.bfloat16)
    for name, vocabulary, width in (
        ("Qwen2.5-0.5B", 151_936, 896), ("Qwen3-0.6B", 151_936, 1024), ("Llama-3.2-1B", 128_256, 2048),
        ("Qwen3-4B", 151_936, 2560), ("Llama-3.1-8B", 128_256, 4096),
    )
]  # fmt: skip
CPU_GOALS = {CPU[0].label: 1.3, CPU[1].label: 1.5, CPU[2].label: 1.1, CPU[3].label: 1.5, CPU[4].label: 1.0, CPU[5].label: 1.0}
"""Times as fast as transformers: the least that the prototype of this head showed, and no slower where the head learns."""


# The ways.


def transformers_way(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight).float(), labels)


def workbench_way(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return -linear_cross_entropy(hidden, weight, labels, every=True).logp.mean()


def statistics_way(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        odds = linear_cross_entropy(hidden, weight, labels, entropy=True, every=True)
        return torch.stack([-odds.logp.mean(), odds.entropy.mean()])


def torch_way(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.linear_cross_entropy(hidden, weight, labels, options=torch.nn.LinearCrossEntropyOptions())


def liger_way() -> Way:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda hidden, weight, labels: loss(weight, hidden, labels)


def apple_way() -> Way:
    from cut_cross_entropy import linear_cross_entropy as cut

    return lambda hidden, weight, labels: cut(hidden, weight, labels)


def ways(device: str) -> tuple[dict[str, Way], dict[str, str]]:
    """What can be measured here, and why the rest cannot."""
    found: dict[str, Way] = {HF: transformers_way, OURS: workbench_way, STATISTICS: statistics_way}
    missing: dict[str, str] = {}
    if "linear_cross_entropy" in dir(F):
        found["torch, chunked"] = torch_way
    else:
        missing["torch, chunked"] = f"torch {torch.__version__} has no linear_cross_entropy"
    for name, module, way in (("Liger", "liger_kernel", liger_way), ("Apple CCE", "cut_cross_entropy", apple_way)):
        if device == "cpu":
            missing[name] = "needs a GPU"
        elif find_spec(module) is None:
            missing[name] = f"{module} is not installed"
        else:
            found[name] = way()
    return found, missing


def products_alone(hidden: Tensor, weight: Tensor, room: list[Tensor]) -> None:
    """Into what was there before: of the hidden states, of the logits, and of the weight if it learns."""
    into_hidden, logits, *into_weight = room
    torch.mm(hidden, weight.T, out=logits)
    torch.mm(logits, weight, out=into_hidden)
    for out in into_weight:
        torch.mm(logits.T, hidden, out=out)


# What goes in and what must come out.


def inputs(case: Case, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (N, D), weight (V, D), labels (N,). A hidden state is its label's row, c times as long, and noise; c is about ln V."""
    chance = torch.Generator(device).manual_seed(0)
    weight = torch.randn(case.vocabulary, case.width, generator=chance, device=device).div_(math.sqrt(case.width))
    labels = torch.randint(case.vocabulary, (case.tokens,), generator=chance, device=device)
    sure = math.log(case.vocabulary) + 8 * torch.rand(case.tokens, 1, generator=chance, device=device) - 4
    hidden = sure * weight[labels] + torch.randn(case.tokens, case.width, generator=chance, device=device)
    return hidden.to(case.dtype), weight.to(case.dtype), labels


def truth(hidden: Tensor, weight: Tensor, labels: Tensor, learns: bool) -> tuple[Tensor, list[Tensor]]:
    """In float64 and by the formula: [mean −log p, mean entropy]; and the gradients of the first by the hidden states, and by the weight
    if it learns, from dz = (softmax − one-hot) / N."""
    wide, values, gradient = weight.double(), [], []
    slope = torch.zeros_like(wide) if learns else None
    for some, own in zip(hidden.split(256), labels.split(256), strict=True):
        table = (some.double() @ wide.T).log_softmax(-1)
        p = table.exp()
        values.append(torch.stack([-table.gather(1, own[:, None])[:, 0], -(p * table).sum(-1)]))
        p[torch.arange(len(own), device=own.device), own] -= 1
        gradient.append(p @ wide / len(labels))
        if slope is not None:
            slope.addmm_(p.T, some.double(), alpha=1 / len(labels))
    return torch.cat(values, 1).mean(1), [torch.cat(gradient)] if slope is None else [torch.cat(gradient), slope]


def gone(way: Way, hidden: Tensor, weight: Tensor, labels: Tensor, learns: bool) -> tuple[Tensor, list[Tensor]]:
    """The value, and where the way has them the gradients of the hidden states, and of the weight if it learns."""
    own = [hidden.detach().requires_grad_(), weight.detach().requires_grad_(learns)]
    value = way(*own, labels)
    if value.requires_grad:
        value.backward()
    return value.detach(), [one.grad for one in own if one.grad is not None]


def checked(way: Way, given: tuple[Tensor, Tensor, Tensor], true: tuple[Tensor, list[Tensor]], case: Case) -> dict[str, Any]:
    """How far off the way is, relative to float64, and whether that is within what its number format allows."""
    value, gradients = gone(way, *given, case.learns)
    values = true[0][: value.numel()]
    off = ((value.double().flatten() - values).abs() / values.abs()).max().item()
    each = [((found.double() - own).norm() / own.norm()).item() for found, own in zip(gradients, true[1], strict=False)]
    most, most_gradient = TOLERANCE[case.dtype]
    right = off <= most and all(one <= most_gradient for one in each)  # NaN is not
    return {"value": value.flatten()[0].item(), "value_off": off, "gradient_off": max(each, default=None), "right": right}


# Time and memory.


def grown(name: str, case: Case) -> float:
    """MiB in this process; a first few rows bring in what is loaded on the way."""
    way, given = ways("cpu")[0][name], inputs(case, "cpu")
    gone(way, given[0][:8], given[1], given[2][:8], case.learns)
    return told.growth(lambda: gone(way, *given, case.learns))


def measured(case: Case, found: dict[str, Way], device: str, rounds: int) -> dict[str, Any]:
    given = inputs(case, device)
    true = truth(*given, case.learns)
    rows: dict[str, dict[str, Any]] = {name: checked(way, given, true, case) for name, way in found.items()}
    runs = {name: partial(gone, way, *given, case.learns) for name, way in found.items()}
    if device == "cpu":
        room = [torch.empty_like(given[0]), given[0].new_empty(case.tokens, case.vocabulary)]
        room += [torch.empty_like(given[1])] if case.learns else []
        runs[PRODUCTS] = partial(products_alone, *given[:2], room)
    times = told.in_turns(runs, rounds)
    for name, row in rows.items():
        row |= {clock: statistics.median(turn[name][clock] for turn in times) for clock in times[0][name]}
        row["over_transformers"] = told.spread([turn[HF]["ms"] / turn[name]["ms"] for turn in times])
        row["extra_mib"] = told.peak_on_gpu(runs[name]) if device == "cuda" else told.alone(__file__, "--memory", name, case.label)
    return {
        "case": case.label,
        "vocabulary": case.vocabulary,
        "width": case.width,
        "tokens": case.tokens,
        "true_value": true[0][0].item(),
        "true_entropy": true[0][1].item(),
        **(floors(case) if device == "cuda" else alone(times)),  # a CPU's caches are below any floor of its memory
        "ways": rows,
    }


def alone(times: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """What the products took, and how often that goes into transformers' time of the round: nobody is as many times as fast."""
    return {
        "products_ms": statistics.median(turn[PRODUCTS]["ms"] for turn in times),
        "transformers_over_products": told.spread([turn[HF]["ms"] / turn[PRODUCTS]["ms"] for turn in times]),
    }


def floors(case: Case) -> dict[str, float]:
    """What this machine needs at least: products and traffic one after the other, and of the statistics the product alone."""
    ceilings = roofline.measured_ceilings(torch.device("cuda"), case.dtype)
    passes = roofline.linear_cross_entropy(case.tokens, case.width, case.vocabulary, case.dtype.itemsize)
    return {
        "floor_ms": 1e3 * roofline.serial_seconds(roofline.total(passes), ceilings),
        "product_ms": 1e3 * passes.forward.flops / ceilings.flops,
        "tflop_per_s": ceilings.flops / 1e12,
        "gb_per_s": ceilings.bytes_per_s / 1e9,
    }


# What is told.


def goals(row: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """Of one case."""
    ours, theirs, quick = row["ways"][OURS], row["ways"][HF], row["ways"][STATISTICS]
    name, times = row["case"], ours["over_transformers"][0]
    if device == "cpu":
        return [told.goal(f"{name}: times as fast as transformers", times, at_least=CPU_GOALS[name])]
    own = [
        told.goal(f"{name}: times the floor of this machine", ours["ms"] / row["floor_ms"], at_most=1.3),
        told.goal(f"{name}: share of transformers' time", 1 / times, at_most=0.72),
        told.goal(f"{name}: share of transformers' memory", ours["extra_mib"] / theirs["extra_mib"], at_most=0.05),
        told.goal(f"{name}: statistics, share of this machine's products", row["product_ms"] / quick["ms"], at_least=0.55),
    ]
    return [*own, told.goal(f"{name}: GiB", ours["extra_mib"] / 2**10, at_most=0.4)] if name.startswith("Qwen2.5-0.5B") else own


def table(result: dict[str, Any]) -> str:
    lines = ["| case | way | ms | times as fast | extra MiB | value off | gradient off |", "|---|---|" + "---:|" * 5]
    for row in result["rows"]:
        lines += [f"| {row['case']} | floor | {row['floor_ms']:.1f} | | | | |"] if "floor_ms" in row else []
        if "products_ms" in row:
            median, least, most = row["transformers_over_products"]
            lines.append(f"| {row['case']} | {PRODUCTS} | {row['products_ms']:.1f} | {median:.2f} ({least:.2f}–{most:.2f}) | | | |")
        for name, way in row["ways"].items():
            median, least, most = way["over_transformers"]
            speed = f"{way['ms']:.1f} | {median:.2f} ({least:.2f}–{most:.2f})" if way["right"] else "wrong | wrong"
            gradient = "" if way["gradient_off"] is None else f"{way['gradient_off']:.1e}"
            lines.append(f"| {row['case']} | {name} | {speed} | {way['extra_mib']:.0f} | {way['value_off']:.1e} | {gradient} |")
    lines += [f"not measured: {name}, {why}" for name, why in result["missing"].items()]
    return "\n".join(lines + told.in_words(result["goals"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--out", type=Path, help="else benchmarks/results/head.json, of a GPU head_gpu.json")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = told.device()
    if device == "cpu":
        torch.set_num_threads(1)
    if given.memory:
        name, label = given.memory
        print(grown(name, next(case for case in CPU if case.label == label)))
        return
    found, missing = ways(device)
    where, rows = told.machine(), []
    for case in GPU if device == "cuda" else CPU:
        if case.label.startswith(given.only):
            rows.append(measured(case, found, device, given.rounds))
            print(f"{case.label}: " + ", ".join(f"{name} {way['ms']:.1f} ms" for name, way in rows[-1]["ways"].items()), flush=True)
    result = {
        "what": "milliseconds and memory of a head with its gradient; times as fast as transformers' form: [median, least, most]",
        "rows": rows,
        "missing": missing,
        "goals": [one for row in rows for one in goals(row, device)],
        "rounds": given.rounds,
        **told.about(("torch", "triton", "liger-kernel", "cut-cross-entropy"), where),
    }
    out = given.out or told.RESULTS / ("head_gpu.json" if device == "cuda" else "head.json")
    told.keep(result, out)
    print(f"{table(result)}\n→ {out}")


if __name__ == "__main__":
    main()
