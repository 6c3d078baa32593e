"""torch optimizers as updates use them: the rate of each group, and the state as flat tensors by name.

What it is: the part of a stepper that has nothing to do with which optimizer it is. What it is not: an optimizer.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def by_shape(groups: Iterable[dict[str, Any]], peak: float, weight_decay: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(matrices, vectors): each group in two parts, of which only matrices decay; each at its own `pace` times `peak`."""
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for group in groups:
        for place, of_shape in enumerate(([p for p in group["params"] if p.ndim >= 2], [p for p in group["params"] if p.ndim < 2])):
            if of_shape:
                decay = 0.0 if place else weight_decay
                parts[place].append({**group, "params": of_shape, "weight_decay": decay, "peak": peak * group.get("pace", 1.0)})
    return parts


def clip(optimizers: Iterable[Optimizer], most: float) -> None:
    """Bound the norm of all gradients together; 0 does not clip."""
    if most:
        parameters = [parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, most)


def step(optimizer: Optimizer, rate: float) -> None:
    """One step with every group at `rate` (0 to 1) of its peak; the gradients are let go."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate
    _step_parts(optimizer)
    optimizer.step()
    optimizer.zero_grad()


def _step_parts(optimizer: Optimizer) -> None:
    """AdamW's step of what is a part of a weight (`region.py`), where it has a kernel; torch's then finds no gradient there."""
    from workbench.materials.region import Values  # transformers and triton come with it, and a merge has no use for them

    if type(optimizer) is not torch.optim.AdamW:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if isinstance(parameter, Values) and parameter.grad is not None and parameter.part.has_kernels():
                parameter.part.adamw(optimizer.state[parameter], group)
                parameter.grad = None


def carry(optimizer: Optimizer, parameter: nn.Parameter, carried: Callable[[Tensor], Tensor]) -> None:
    """What is held for each number of the parameter becomes `carried`; what is held for all of them, as the count of steps, stays."""
    held = optimizer.state.get(parameter, {})
    for name, value in held.items():
        if isinstance(value, Tensor) and value.ndim:
            held[name] = carried(value)


def state(optimizer: Optimizer) -> dict[str, Tensor]:
    """`3.exp_avg` → tensor: the third parameter's."""
    held = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in held.items() for name, value in values.items() if isinstance(value, torch.Tensor)}


def load_state(optimizer: Optimizer, flat: dict[str, Tensor]) -> None:
    held: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition(".")
        held.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": held})
