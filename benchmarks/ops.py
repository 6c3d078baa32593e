"""Each op by its plain torch form and by its Triton kernel, beside what the GPU can do at best; on a CPU, LoRA beside peft's.

    python benchmarks/ops.py [--rounds 30] [--out FILE]

On a GPU: the sizes of Llama-3.2-1B, 16,384 tokens, bfloat16, random numbers. Both forms take turns in one process; the forward pass is
timed without a graph, the backward pass over one that was built before. The share is the floor of `workbench_kernels/roofline.py` over
the median, with the ceilings of a product and a copy measured in the same run. On a CPU there is nothing to time for Triton: told is how
long a LoRA layer of rank 32 takes forward and backward, by `lora_linear` and by peft; and q, k and v of one x, and gate and up, by
`lora_linears`, by peft, and by `lora_linear` one after the other. The head has a benchmark of its own, `head.py`.
Whether the ops are right is no question here: see `tests/kernels`. (transformers would take a script named kernels.py for a package.)
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import told
import torch
from peft.tuners.lora.config import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn.functional import linear
from workbench_kernels import road, roofline
from workbench_kernels.lora_linear import lora_linear
from workbench_kernels.lora_linears import Layer, lora_linears
from workbench_kernels.masked_adamw import adamw_scatter, grad_gather
from workbench_kernels.qk_rope import qk_rope
from workbench_kernels.rms_norm import rms_norm
from workbench_kernels.roofline import Ceilings, Passes, Work
from workbench_kernels.sinkhorn import sinkhorn
from workbench_kernels.swiglu import swiglu

TOKENS, RANK, TURNS, ENTRIES = 16_384, 32, 16, 2**20
SHAPE = roofline.Shape(16, 2048, 8192, 32, 8, 64, 128_256)  # Llama-3.2-1B
GOALS = {"rms_norm": (0.80, 0.70), "swiglu": (0.80, 0.80), "qk_rope": (0.75, 0.75)}  # of the floor, forward and backward
OVER_PEFT, OVER_FROZEN = 1.2, 1.5  # of LoRA's forward pass: times as fast as peft's at least, as long as without LoRA at most
Run = Callable[[], object]
Op = Callable[..., Tensor | tuple[Tensor, ...]]


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, device=told.device()).to(dtype)


def both_forms(op: Op, inputs: list[Tensor], rest: tuple[Any, ...] = ()) -> tuple[dict[str, Run], dict[str, Run]]:
    """(forward, backward) of each road; `inputs` learn."""
    forward: dict[str, Run] = {}
    backward: dict[str, Run] = {}
    for name in ("reference", "triton"):

        def once(name: road.Road = name) -> None:
            with torch.no_grad(), road.only(name):
                op(*inputs, *rest)

        own = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        with road.only(name):
            y = op(*own, *rest)
        ys = [y] if isinstance(y, Tensor) else list(y)
        up = [torch.randn_like(one) for one in ys]
        forward[name] = once
        backward[name] = lambda ys=ys, own=own, up=up: torch.autograd.grad(ys, own, up, retain_graph=True)
    return forward, backward


def by_road(run: Run) -> dict[str, Run]:
    def on(name: road.Road) -> None:
        with road.only(name):
            run()

    return {"reference": lambda: on("reference"), "triton": lambda: on("triton")}


def measured(name: str, runs: dict[str, Run], work: Work, ceilings: Ceilings, rounds: int, least: float | None = None) -> dict[str, Any]:
    laps = told.in_turns(runs, rounds)
    ms = {way: told.spread([lap[way]["ms"] for lap in laps]) for way in runs}
    floor = 1e3 * roofline.floor_seconds(work, ceilings)
    row = {"op": name, "ms": ms, "floor_ms": floor, "share_of_floor": {way: floor / found[0] for way, found in ms.items()}}
    if least is not None:
        row["goal"] = told.goal(f"{name}, share of the floor", row["share_of_floor"]["triton"], at_least=least)
    return row


def on_a_gpu(ceilings: Ceilings, rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    angles, norm = draw(1, TOKENS, SHAPE.head), draw(SHAPE.width)
    elementwise: dict[str, tuple[Op, list[Tensor], tuple[Any, ...], Passes]] = {
        "rms_norm": (rms_norm, [draw(TOKENS, SHAPE.width)], (norm, 1e-6), roofline.rms_norm(TOKENS, SHAPE.width)),
        "swiglu": (swiglu, [draw(TOKENS, SHAPE.ff), draw(TOKENS, SHAPE.ff)], (), roofline.swiglu(TOKENS, SHAPE.ff)),
        "qk_rope": (
            qk_rope, [draw(1, TOKENS, SHAPE.heads, SHAPE.head), draw(1, TOKENS, SHAPE.kv, SHAPE.head)], (angles.cos(), angles.sin()),
            roofline.qk_rope(TOKENS, SHAPE.heads, SHAPE.kv, SHAPE.head),
        ),
    }  # fmt: skip
    for name, (op, inputs, rest, passes) in elementwise.items():
        for way, runs, work, least in zip(("forward", "backward"), both_forms(op, inputs, rest), passes, GOALS[name], strict=True):
            rows.append(measured(f"{name}, {way}", runs, work, ceilings, rounds, least))
    weight, places = draw(SHAPE.ff, SHAPE.width), torch.randperm(SHAPE.ff * SHAPE.width, device="cuda")[:ENTRIES].sort().values
    values, moment, square = (torch.zeros(ENTRIES, device="cuda") for _ in range(3))
    rates = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.0, "step": 1}
    step = by_road(lambda: adamw_scatter(weight, values, places, grad_gather(weight, places), moment, square, **rates))
    rows.append(measured("masked_adamw, scattered entries", step, roofline.masked_adamw(ENTRIES), ceilings, rounds))
    cost, even = torch.rand(4096, 4096, device="cuda"), torch.full((4096,), 1 / 4096, device="cuda")
    runs = by_road(lambda: sinkhorn(cost, even, even, 0.05, 0.0, TURNS))
    return [*rows, measured(f"sinkhorn, {TURNS} iterations", runs, roofline.sinkhorn(1, 4096, 4096, TURNS), ceilings, rounds)]


def lora(rows: int, width: int, outs: tuple[int, ...], dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """One layer, or several of the same x, by peft, by ours, and frozen without LoRA; forward alone, and with the backward pass."""
    config = LoraConfig(r=RANK, lora_alpha=RANK)
    layers = [Linear(nn.Linear(width, out, bias=False), "default", config, r=RANK, lora_alpha=RANK) for out in outs]
    given = list[Layer]()
    for layer in layers:
        layer.to(told.device(), dtype).requires_grad_(False)
        a, b = (each["default"].weight.requires_grad_() for each in (layer.lora_A, layer.lora_B))
        nn.init.normal_(b)
        given.append(Layer(layer.base_layer.weight, a, b, 1.0))
    x, ups = draw(rows, width, dtype=dtype).requires_grad_(), [draw(rows, out, dtype=dtype) for out in outs]
    ways: dict[str, Callable[[], Sequence[Tensor]]] = {
        "frozen": lambda: [linear(x, one.weight) for one in given], "peft": lambda: [layer(x) for layer in layers],
        "ours": lambda: [lora_linear(x, *one) for one in given],
    }  # fmt: skip
    if len(outs) > 1:
        ways |= {"apart": ways["ours"], "ours": lambda: lora_linears(x, given)}
    forward = told.in_turns(ways, rounds)
    factors = [factor for one in given for factor in (one.a, one.b)]
    runs = {
        name: lambda run=run, learn=[x] if name == "frozen" else [x, *factors]: torch.autograd.grad(run(), learn, ups)
        for name, run in ways.items()
    }
    whole = told.in_turns(runs, rounds)
    row: dict[str, Any] = {"op": f"LoRA, {rows} × {width} × {' and '.join(map(str, outs))}, {dtype}".replace("torch.", "")}
    for name, laps in (("forward_ms", forward), ("forward_and_backward_ms", whole)):
        row[name] = {way: told.spread([lap[way]["ms"] for lap in laps]) for way in ways}
    row["times_as_fast_as_peft"] = told.spread([lap["peft"]["ms"] / lap["ours"]["ms"] for lap in whole])
    if len(outs) > 1:
        row["times_as_fast_as_apart"] = told.spread([lap["apart"]["ms"] / lap["ours"]["ms"] for lap in whole])
    elif told.device() == "cuda":
        over = statistics.median(lap["peft"]["ms"] / lap["ours"]["ms"] for lap in forward)
        longer = statistics.median(lap["ours"]["ms"] / lap["frozen"]["ms"] for lap in forward)
        row["goals"] = [
            told.goal("LoRA forward, times as fast as peft's", over, at_least=OVER_PEFT),
            told.goal("LoRA forward, as long as without it", longer, at_most=OVER_FROZEN),
        ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device, where = told.device(), told.machine()
    if device == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    dtypes = (torch.bfloat16,) if device == "cuda" else (torch.float32, torch.bfloat16)
    ceilings = {str(dtype)[6:]: roofline.measured_ceilings(torch.device(device), dtype) for dtype in dtypes}
    if device == "cuda":
        rows = on_a_gpu(ceilings["bfloat16"], given.rounds)
    else:
        rows = []
        print("No GPU: there is nothing to time for Triton.")
    tokens, width, ff, kv = (TOKENS, SHAPE.width, SHAPE.ff, SHAPE.kv * SHAPE.head) if device == "cuda" else (512, 896, 4864, 128)
    for outs in ((width,), (width, kv, kv), (ff, ff)):
        rows += [lora(tokens, width, outs, dtype, given.rounds) for dtype in dtypes]
    for row in rows:
        print(row)
    goals = [goal for row in rows for goal in [*row.get("goals", []), *([row["goal"]] if "goal" in row else [])]]
    print(*told.in_words(goals), sep="\n")
    best = {name: {"tflop_per_s": one.flops / 1e12, "gb_per_s": one.bytes_per_s / 1e9} for name, one in ceilings.items()}
    result = {"what": "ops by both roads", "rounds": given.rounds, "ceilings": best, "rows": rows}
    packages = ("torch", "triton", "peft")
    told.keep(result | told.about(packages, where), given.out or told.RESULTS / f"ops_{device}.json")


if __name__ == "__main__":
    main()
