"""AdamW on a few entries of a weight: their gradient is taken out of the whole one, and their step put into the weight as it is made.

    grad_gather:    g_i = grad[place_i]
    adamw_scatter:  m ← m + (1 − β₁)(g − m),   v ← β₂·v + (1 − β₂)·g²
                    w ← (1 − ηλ)·w − η/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)          arXiv:1711.05101, as torch.optim.AdamW
                    weight[place_i] ← cast(w_i)

Shapes: grad, weight of any shape, places (n,) int32 or int64 in the flattened tensor, each at most once · g, w, m, v (n,) float32; w is
what is true, weight has it rounded. Everything inside is float32. `adamw_scatter` writes into weight, w, m and v: that is what it is
for, and its op declares it. Nothing here has a gradient of its own. Bytes, e of a number of grad or weight and i of a place: n·(e + i + 4)
and n·(28 + i + e). A GPU moves sectors of 32 bytes, so an entry that has no neighbour costs 32 for e.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench_kernels.parts import FLOATS, Launch, Variant, cdiv, jit, tl
from workbench_kernels.road import pick
from workbench_kernels.tuned import tuned


def gather_reference(grad: Tensor, places: Tensor) -> Tensor:
    """The specification of `grad_gather`; float64 stays what it is."""
    found = grad.reshape(-1)[places]
    return found if found.dtype == torch.float64 else found.float()


def scatter_reference(
    weight: Tensor, values: Tensor, places: Tensor, gradient: Tensor, moment: Tensor, square: Tensor,
    *, lr: float, beta1: float, beta2: float, eps: float, decay: float, step: int,
) -> None:  # fmt: skip
    """The specification of `adamw_scatter`, in the order of torch's own sums."""
    values.mul_(1 - lr * decay)
    moment.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    size = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(eps)
    values.addcdiv_(moment, size, value=-lr / (1 - beta1**step))
    weight.view(-1)[places] = values.to(weight.dtype)


@jit
def gather_kernel(GRAD, PLACES, OUT, N, BLOCK: tl.constexpr):
    """One block of places a program."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = entry < N
    place = tl.load(PLACES + entry, mask=there, other=0).to(tl.int64)
    tl.store(OUT + entry, tl.load(GRAD + place, mask=there, other=0.0).to(tl.float32), mask=there)


@jit
def scatter_kernel(WEIGHT, VALUES, PLACES, GRADIENT, MOMENT, SQUARE, N, keep, new1, beta2, new2, size, root, eps, BLOCK: tl.constexpr):
    """One block of entries a program. The factors that depend on the step alone come from the host, computed there in double precision."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = entry < N
    place = tl.load(PLACES + entry, mask=there, other=0).to(tl.int64)
    g = tl.load(GRADIENT + entry, mask=there, other=0.0)
    m = tl.load(MOMENT + entry, mask=there, other=0.0)
    v = tl.load(SQUARE + entry, mask=there, other=0.0)
    w = tl.load(VALUES + entry, mask=there, other=0.0)
    m += tl.cast(new1, tl.float32) * (g - m)
    v = tl.cast(beta2, tl.float32) * v + tl.cast(new2, tl.float32) * g * g
    spread = tl.sqrt(v) / tl.cast(root, tl.float32) + tl.cast(eps, tl.float32)
    w = tl.cast(keep, tl.float32) * w - tl.cast(size, tl.float32) * (m / spread)
    tl.store(MOMENT + entry, m, mask=there)
    tl.store(SQUARE + entry, v, mask=there)
    tl.store(VALUES + entry, w, mask=there)
    tl.store(WEIGHT + place, w, mask=there)


def launch() -> Launch:
    return Launch(warps=4, tiles={"BLOCK": 1024})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: whole rows or columns of a weight in bfloat16, so that their number is a multiple of 16."""
    states = dict.fromkeys(("VALUES", "GRADIENT", "MOMENT", "SQUARE", "OUT"), "*fp32")
    pointers = states | {"GRAD": "*bf16", "WEIGHT": "*bf16", "PLACES": "*i64"}
    scalars = dict.fromkeys(("keep", "new1", "beta2", "new2", "size", "root", "eps"), "fp32") | {"N": "i32"}
    for kernel in (gather_kernel, scatter_kernel):
        yield Variant(kernel, pointers | scalars, {}, launch(), ("N",), wide=True)


@torch.library.custom_op("workbench::grad_gather", mutates_args=())
def _gather(grad: Tensor, places: Tensor) -> Tensor:
    """(n,) float32 of a gradient that is contiguous."""
    found = grad.new_empty(len(places), dtype=torch.float32)
    settings = tuned("grad_gather", grad.device, launch()).options()
    if len(places):
        gather_kernel[(cdiv(len(places), settings["BLOCK"]),)](grad, places, found, len(places), **settings)
    return found


@_gather.register_fake
def _(grad: Tensor, places: Tensor) -> Tensor:
    return grad.new_empty(len(places), dtype=torch.float32)


@torch.library.custom_op("workbench::adamw_scatter", mutates_args=("weight", "values", "moment", "square"))
def _scatter(
    weight: Tensor, values: Tensor, places: Tensor, gradient: Tensor, moment: Tensor, square: Tensor,
    keep: float, new1: float, beta2: float, new2: float, size: float, root: float, eps: float,
) -> None:  # fmt: skip
    settings = tuned("adamw_scatter", weight.device, launch()).options()
    if len(places):
        scatter_kernel[(cdiv(len(places), settings["BLOCK"]),)](
            weight, values, places, gradient, moment, square, len(places), keep, new1, beta2, new2, size, root, eps, **settings
        )  # fmt: skip


@_scatter.register_fake
def _(
    weight: Tensor, values: Tensor, places: Tensor, gradient: Tensor, moment: Tensor, square: Tensor,
    keep: float, new1: float, beta2: float, new2: float, size: float, root: float, eps: float,
) -> None:  # fmt: skip
    return None


@torch.no_grad()
def grad_gather(grad: Tensor, places: Tensor) -> Tensor:
    """(n,) float32: the entries of a gradient of any shape at `places` of its flattened form; see the module's docstring."""
    if pick(grad) == "reference" or grad.dtype not in FLOATS:
        return gather_reference(grad, places)
    return _gather(grad.contiguous(), places.contiguous())


@torch.no_grad()
def adamw_scatter(
    weight: Tensor, values: Tensor, places: Tensor, gradient: Tensor, moment: Tensor, square: Tensor,
    *, lr: float, beta1: float, beta2: float, eps: float, decay: float, step: int,
) -> None:  # fmt: skip
    """Step number `step` (the first is 1) of `values`, with their moments, and into `weight`; see the module's docstring.

    Raises:
        ValueError: what is written into does not lie in one piece.
    """
    if not all(each.is_contiguous() for each in (weight, values, moment, square)):
        raise ValueError("adamw_scatter writes into weight, values, moment and square; each must be contiguous.")
    states = (values, gradient, moment, square)
    if pick(weight) == "reference" or weight.dtype not in FLOATS or any(each.dtype != torch.float32 for each in states):
        scatter_reference(
            weight, values, places, gradient, moment, square, lr=lr, beta1=beta1, beta2=beta2, eps=eps, decay=decay, step=step
        )  # fmt: skip
        return
    _scatter(
        weight, values, places.contiguous(), gradient.contiguous(), moment, square,
        1 - lr * decay, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**step), (1 - beta2**step) ** 0.5, eps,
    )  # fmt: skip
