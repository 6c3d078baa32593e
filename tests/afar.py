"""A GPU's stand-in: tensors of it lie in main memory, and meet others only where a GPU's would.

It holds two things that a real one would show too late: that nothing on the device is put together with something that is not (a number
without a dimension may be), and that what a merge computes there is what it computes here. `full` makes its memory run out. The device is
called "meta", a name that torch knows; nothing of torch's own meta tensors is meant. What it is not: a GPU's rounding, which has tests with
the marker `gpu`, or its speed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

T = TypeVar("T")
AFAR = torch.device("meta")
CROSSING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Away(Tensor):
    """A tensor on the device; `held` are its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Away":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=AFAR, requires_grad=False
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of `with Afar()`")


class Afar(TorchDispatchMode):
    """Within it, in this thread, the device is there. `made` counts what was put or made on it, and `full` says of each whether there was
    no room for it."""

    def __init__(self, full: Callable[[int], bool] = lambda number: False):
        super().__init__()
        self.made, self.full = 0, full

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [tensor for tensor in tree_flatten((args, kwargs))[0] if isinstance(tensor, Tensor)]
        away = [tensor for tensor in given if isinstance(tensor, Away)]
        if away and func not in CROSSING:
            strangers = [tensor for tensor in given if not isinstance(tensor, Away) and tensor.dim()]
            assert not strangers, f"{func} of tensors on two devices: {[tuple(tensor.shape) for tensor in given]}"
        goes = kwargs.get("device")
        if goes is not None:
            kwargs["device"] = torch.device("cpu")
        wrappers = {id(tensor.held): tensor for tensor in away}
        found = func(*_here(args), **_here(kwargs))
        if torch.device(goes) != AFAR if goes is not None else not away:
            return found
        self.made += 1
        if self.full(self.made):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if func is torch.ops.aten.copy_.default and not isinstance(args[0], Away):
            return args[0]
        return tree_map_only(Tensor, lambda tensor: wrappers[id(tensor)] if id(tensor) in wrappers else Away(tensor), found)


def _here(given: Any) -> Any:
    return tree_map(lambda one: one.held if isinstance(one, Away) else one, given)


def in_turns(pieces: Iterable[Callable[[], Iterator[T]]], threads: int | None = None) -> Iterator[T]:
    """`jobs.crew.side_by_side` in this thread alone."""
    for piece in pieces:
        yield from piece()
