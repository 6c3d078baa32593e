"""What the rings share: where they run, how far a kernel may be from float64, and what must hold of every op.

A file in `rings/` is run twice by `test_rings.py`, in a process of its own each time: by Triton's interpreter on the CPU, and on a GPU
where there is one. `DEVICE` and the tolerances are the only difference.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from workbench_kernels import road

INTERPRETED = road.interpreted()
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = (torch.float32, torch.bfloat16)


def draw(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Normal numbers, the same for the same shape and seed everywhere."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))
    return (numbers * scale).to(DEVICE, dtype)


def far(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ in float64."""
    difference = (found.double() - expected.double()).norm()
    return (difference / expected.double().norm().clamp_min(1e-300)).item()


def near(found: Tensor, expected: Tensor, rounds: float = 1.0, exact: float = 2e-6) -> None:
    """Within `exact` in float32; in bfloat16 within so many roundings to it, which the interpreter cuts off instead of rounding."""
    once = 3.4e-3 if INTERPRETED else 1.7e-3
    most = exact if found.dtype == torch.float32 else rounds * once
    assert found.isfinite().all(), "a number is not finite"
    assert far(found, expected) <= most, f"{far(found, expected):.2e} is more than {most:.1e}"


def gradients(op: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """y and what `op` hands back to each of its inputs when its output is given `upstream`."""
    own = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y = op(*own)
    return (y.detach(), *torch.autograd.grad(y, own, upstream.to(y.dtype)))


def doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]
