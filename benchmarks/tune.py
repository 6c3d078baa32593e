"""Measure how each kernel starts fastest on the GPU at hand, and write it where the ops look (`workbench_kernels/tuned.py`).

    python benchmarks/tune.py [--rounds 20] [--out FILE]

From the launch that its module begins with, warps, stages and the tiles that may change are halved and doubled one at a time; the fastest
is gone on from, until none is faster by more than noise. What does not fit into the GPU counts as slow. The sizes are those of
Llama-3.2-1B over 16,384 tokens in bfloat16, and of its head over 2,048; what a launch depends on (a width, a format) is written with it, so
that other models keep what their modules say. Whether the ops are still right is told by `pytest tests/kernels -m gpu`, which goes by the
table too. To go back, delete the file. It has no place on the page of performance: what it finds is no figure but how the ops begin.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import told
import torch
from torch import Tensor
from workbench_kernels import linear_cross_entropy_fused, logit_spread, masked_adamw, qk_rope, rms_norm, roofline, sinkhorn, swiglu, tuned
from workbench_kernels.linear_cross_entropy import linear_cross_entropy
from workbench_kernels.parts import Launch

SHAPE = roofline.Shape(16, 2048, 8192, 32, 8, 64, 128_256)  # Llama-3.2-1B
TOKENS, FEWER = 16_384, 2_048  # of which the head sees the second
FASTER = 0.98  # of the time before, at most, or it is noise
Run = Callable[[], object]


@dataclass(frozen=True)
class Kernel:
    """How it begins, what its launch depends on, which tiles may change, and what runs it."""

    begins: Launch
    of: tuple[object, ...]
    free: tuple[str, ...]
    run: Run


def neighbours(launch: Launch, free: tuple[str, ...]) -> Iterator[Launch]:
    """One number halved or doubled."""
    yield from (replace(launch, warps=warps) for warps in (launch.warps // 2, launch.warps * 2) if 1 <= warps <= 16)
    yield from (replace(launch, stages=stages) for stages in (launch.stages - 1, launch.stages + 1) if 1 <= stages <= 6)
    for name in free:
        for size in (launch.tiles[name] // 2, launch.tiles[name] * 2):
            if size >= 4:
                yield replace(launch, tiles=launch.tiles | {name: size})


def fastest(begins: Launch, free: tuple[str, ...], seconds: Callable[[Launch], float]) -> tuple[Launch, float, float]:
    """The launch that no neighbour beats, its time, and that of the one it began with."""
    best, first = begins, seconds(begins)
    least = first
    while True:
        times = [(seconds(one), one) for one in neighbours(best, free)]
        time, one = min(times, key=lambda each: each[0])
        if not time < FASTER * least:
            return best, least, first
        best, least = one, time


def measured(kernel: Kernel, name: str, gpu: str, rounds: int) -> Callable[[Launch], float]:
    """Milliseconds of it, started in a given way; infinite where that does not fit."""
    from triton.runtime.errors import OutOfResources

    def seconds(launch: Launch) -> float:
        tuned.table().setdefault(gpu, {}).setdefault(name, {})[tuned.key(*kernel.of)] = launch
        try:
            return statistics.median(told.milliseconds(kernel.run)["ms"] for _ in range(rounds + 2))
        except OutOfResources:
            return float("inf")

    return seconds


def kernels(shape: roofline.Shape, tokens: int, fewer: int, device: str, dtype: torch.dtype) -> dict[str, Kernel]:
    def draw(*size: int, learns: bool = False) -> Tensor:
        return torch.randn(*size, device=device).to(dtype).requires_grad_(learns)

    def back(y: tuple[Tensor, ...], inputs: list[Tensor]) -> Run:
        up = [torch.randn_like(one) for one in y]
        return lambda: torch.autograd.grad(y, inputs, up, retain_graph=True)

    x, norm, gate, up = draw(tokens, shape.width, learns=True), draw(shape.width), *(draw(tokens, shape.ff, learns=True) for _ in range(2))
    q, k, angle = draw(1, tokens, shape.heads, shape.head), draw(1, tokens, shape.kv, shape.head), draw(1, tokens, shape.head)
    hidden, weight = draw(fewer, shape.width, learns=True), draw(shape.vocabulary, shape.width)
    labels = torch.randint(shape.vocabulary, (fewer,), device=device)
    count = min(2**20, weight.numel() // 16 * 16)
    places = torch.randperm(weight.numel(), device=device)[:count].sort().values
    values, moment, square = (torch.zeros(count, device=device) for _ in range(3))
    cost, even = torch.rand(fewer, fewer, device=device), torch.full((fewer,), 1 / fewer, device=device)
    rates = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.0, "step": 1}
    learning = weight.detach().clone().requires_grad_()
    head, wide = linear_cross_entropy_fused.launch(dtype), rms_norm.launch(shape.width)
    glu, few = swiglu.launch(shape.ff), fewer > logit_spread.FEW
    found = {
        "rms_norm": Kernel(wide, (shape.width,), (), lambda: rms_norm.rms_norm(x.detach(), norm, 1e-6)),
        "rms_norm_backward": Kernel(wide, (shape.width,), (), back((rms_norm.rms_norm(x, norm, 1e-6),), [x])),
        "glu": Kernel(glu, (shape.ff,), ("BLOCK",), lambda: swiglu.swiglu(gate.detach(), up.detach())),
        "glu_backward": Kernel(glu, (shape.ff,), ("BLOCK",), back((swiglu.swiglu(gate, up),), [gate, up])),
        "qk_rope": Kernel(qk_rope.launch(shape.head), (shape.head,), (), lambda: qk_rope.qk_rope(q, k, angle.cos(), angle.sin())),
        "head_rows": Kernel(linear_cross_entropy_fused.launch_rows(), (), ("BLOCK",), lambda: linear_cross_entropy(hidden, weight, labels)),
        "head_statistics": Kernel(
            head, (dtype,), ("BM", "BN", "BD"), lambda: linear_cross_entropy(hidden.detach(), weight, labels)
        ),
        "head_slopes": Kernel(
            head, (dtype,), ("BM", "BN", "BD"), back((linear_cross_entropy(hidden, learning, labels).logp,), [hidden])
        ),
        "logit_spread": Kernel(
            logit_spread.launch(dtype, fewer, True), (dtype, few, True), ("BM", "BN", "BD"),
            lambda: logit_spread.logit_spread(hidden.detach(), hidden.detach(), weight),
        ),
        "grad_gather": Kernel(masked_adamw.launch(), (), ("BLOCK",), lambda: masked_adamw.grad_gather(weight, places)),
        "adamw_scatter": Kernel(
            masked_adamw.launch(), (), ("BLOCK",),
            lambda: masked_adamw.adamw_scatter(weight, values, places, values, moment, square, **rates),
        ),
    }  # fmt: skip
    for along, given in ((True, cost), (False, cost.T)):
        run = lambda given=given: sinkhorn.transform(given, even, even, 0.05)  # noqa: E731
        found[f"sinkhorn {along}"] = Kernel(sinkhorn.launch(along), (along,), ("BLOCK_ROWS", "BLOCK"), run)
    return found


def tune() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=tuned.FILE)
    given = parser.parse_args()
    if told.device() == "cpu":
        sys.exit("No GPU: there is nothing to measure.")
    gpu = tuned.capability(torch.device("cuda"))
    for label, kernel in kernels(SHAPE, TOKENS, FEWER, "cuda", torch.bfloat16).items():
        name = label.split()[0]
        best, least, first = fastest(kernel.begins, kernel.free, measured(kernel, name, gpu, given.rounds))
        tuned.table()[gpu][name][tuned.key(*kernel.of)] = best
        print(f"{label}: {first:.3f} ms as it begins, {least:.3f} ms with {best}", flush=True)
    given.out.write_text(tuned.written(tuned.table()) + "\n", encoding="utf-8")
    print(f"→ {given.out}")


if __name__ == "__main__":
    tune()
