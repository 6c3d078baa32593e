"""lora_linear and lora_linears where products are the device's: torch's on both roads. In the interpreter's process they are a CPU's."""

from collections.abc import Callable

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, far
from torch import Tensor
from workbench_kernels.lora_linear import lora_linear
from workbench_kernels.lora_linears import Layer, lora_linears

SHAPES = [(37, 70, (24, 33, 33), (3, 5, 1))] + (
    [] if INTERPRETED else [(4097, 896, (896, 128, 128), (32, 32, 32))]
)  # M, K, N of each, r of each


def apart(x: Tensor, layers: list[Layer]) -> tuple[Tensor, ...]:
    return tuple(lora_linear(x, *layer) for layer in layers)


@pytest.mark.parametrize("op", [apart, lora_linears], ids=["apart", "together"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple, dtype: torch.dtype, op: Callable[..., tuple[Tensor, ...]]) -> None:
    """A and B are float32 beside whatever x and W; a GPU hands out the sums of dA in float32, a CPU rounds them first."""
    m, k, wide, ranks = shape
    x = draw(m, k, dtype=dtype).requires_grad_()
    layers = [
        Layer(
            draw(n, k, dtype=dtype, scale=k**-0.5, seed=place), draw(r, k, scale=k**-0.5, seed=place).requires_grad_(),
            draw(n, r, seed=place).requires_grad_(), 0.5 + place, None if place else draw(n, dtype=dtype),
        )
        for place, (n, r) in enumerate(zip(wide, ranks, strict=True))
    ]  # fmt: skip
    dys = [draw(m, n, dtype=dtype, seed=7 + n) for n in wide]
    learn = [x, *(layer.a for layer in layers), *(layer.b for layer in layers)]
    ys = op(x, layers)
    found = [*ys, *torch.autograd.grad(ys, learn, dys)]
    rows, *ups = doubles(x.detach(), *dys)
    weights, a, b = (doubles(*(layer[place].detach() for layer in layers)) for place in range(3))
    slopes, scales = [up.T @ rows for up in ups], [layer.scale for layer in layers]
    wholes = [weight + s * up @ down for weight, down, up, s in zip(weights, a, b, scales, strict=True)]
    truth = [rows @ whole.T for whole in wholes]
    truth[0] = truth[0] + layers[0].bias.double()
    truth.append(sum(up @ whole for up, whole in zip(ups, wholes, strict=True)))
    truth += [s * up.T @ slope for s, up, slope in zip(scales, b, slopes, strict=True)]
    truth += [s * slope @ down.T for s, slope, down in zip(scales, slopes, a, strict=True)]
    for one, expected in zip(found, truth, strict=True):
        assert far(one.detach(), expected) <= (2e-6 if dtype == torch.float32 else 3.5 * 1.7e-3)
    if dtype != torch.float32:
        assert all((one.to(dtype).float() == one).all() == INTERPRETED for one in found[len(wide) + 1 : 2 * len(wide) + 1])


def test_it_is_on_the_device_that_the_ring_is_of() -> None:
    assert lora_linear(draw(2, 4), draw(3, 4), draw(1, 4), draw(3, 1), 1.0).device.type == DEVICE
