"""Hidden states between the blocks of a decoder: reading them, putting others in their place, and asking two models' blocks side by side.

    x_{ℓ+1} = x_ℓ + f⁰_ℓ(x_ℓ) + (f¹_ℓ(x_ℓ) − f⁰_ℓ(x_ℓ)),   f_ℓ(x) = block_ℓ(x) − x

The tuned model's pass is what is walked: after each of its blocks the base's is asked about the same hidden state, and what the next block
reads can be chosen from both. All is done by forward hooks that are gone afterwards, so it works for every family whose blocks
`models.blocks` finds, with modules that stand beside the tuned model's own. What it is not: a measure of what is found there
(`methods/inspections/`).
"""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.evidence import Batch
from workbench.materials.models import blocks, hidden_states

Meeting = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]
"""Of block ℓ: what both read, what the tuned model's makes of it, and what the base's does. Returns what the next reads, None for the first
of these two."""


def paired(tuned: PreTrainedModel, base: PreTrainedModel, label: str) -> list[tuple[nn.Module, nn.Module]]:
    """The blocks of both in their order.

    Raises:
        WorkbenchError: they are not found, not equally many, or not equally wide.
    """
    own, others = blocks(tuned), blocks(base)
    for model, found in ((tuned, own), (base, others)):
        if not found:
            raise WorkbenchError(
                f"The blocks of this {type(model).__name__} are not known here by name, so it cannot be read layer by layer. Choose an "
                "inspection of weights or of answers."
            )
    sizes = [(len(found), model.config.hidden_size) for model, found in ((tuned, own), (base, others))]
    if sizes[0] != sizes[1]:
        raise WorkbenchError(
            f"{label} has {sizes[0][0]} blocks of width {sizes[0][1]} and the base {sizes[1][0]} of width {sizes[1][1]}, so they cannot be "
            "held against each other layer by layer. Inspect models of the base's shape, or choose an inspection of answers."
        )
    return list(zip(own, others, strict=True))


@contextmanager
def alongside(
    tuned: PreTrainedModel, base: PreTrainedModel, meet: Meeting, layers: Container[int] | None = None, memory: Cache | None = None
) -> Iterator[None]:
    """For the length of a `with`, every block of `tuned` that reads is followed by the base's at the same hidden state, and by `meet`.

    layers: at which blocks; None for every one. memory: what the base's blocks remember, where `tuned` is asked with a cache of its own; it
    belongs to that cache.
    """

    def follower(layer: int, other: nn.Module) -> Callable[..., Any]:
        def follow(block: nn.Module, args: tuple[Any, ...], named: dict[str, Any], made: Any) -> Any:
            before = args[0] if args else named["hidden_states"]
            others = other(*(_its_own(value, memory) for value in args), **{name: _its_own(value, memory) for name, value in named.items()})
            return _with_states(made, meet(layer, before, _states(made), _states(others)))

        return follow

    with ExitStack() as hooks:
        for layer, (own, other) in enumerate(paired(tuned, base, "The tuned model")):
            if layers is None or layer in layers:
                hooks.callback(own.register_forward_hook(follower(layer, other), with_kwargs=True).remove)
        yield


@contextmanager
def replacing(model: PreTrainedModel, states: Mapping[int, Tensor], where: Tensor) -> Iterator[None]:
    """For the length of a `with`, the blocks of these numbers leave `states`, (B, T, D) each, `where` (B, T) says so."""

    def replacer(put: Tensor) -> Callable[..., Any]:
        return lambda block, given, made: _with_states(made, torch.where(where[..., None], put, _states(made)))

    every = blocks(model)
    with ExitStack() as hooks:
        for layer, put in states.items():
            hooks.callback(every[layer].register_forward_hook(replacer(put)).remove)
        yield


@torch.no_grad()
def left_by_blocks(model: PreTrainedModel, batch: Batch) -> list[Tensor]:
    """What each block leaves, (B, T, D)."""
    found = list[Tensor]()
    with ExitStack() as hooks:
        for block in blocks(model):
            hooks.callback(block.register_forward_hook(lambda block, given, made: found.append(_states(made))).remove)
        hidden_states(model, batch)
    return found


@torch.no_grad()
def lens(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(L, B, T, D): what the head would read if the model ended after each of its L blocks, behind the final norm.

    In place of what the last block leaves, what all of them left is put there as more rows of the batch; what stands behind it sees each
    token alone. So the final norm, and whatever else a family has there, need not be known by name.
    """
    found, rows = left_by_blocks(model, batch), len(batch["input_ids"])
    last = blocks(model)[-1]
    hook = last.register_forward_hook(lambda block, given, made: _with_states(made, torch.cat(found)))
    try:
        return hidden_states(model, batch).unflatten(0, (len(found), rows))
    finally:
        hook.remove()


def _its_own(value: Any, memory: Cache | None) -> Any:
    """The base's memory in place of the tuned model's, which its blocks must not write to."""
    return memory if isinstance(value, Cache) else value


def _states(made: Any) -> Tensor:
    return made[0] if isinstance(made, tuple) else made


def _with_states(made: Any, states: Tensor | None) -> Any:
    if states is None:
        return made
    return (states, *made[1:]) if isinstance(made, tuple) else states
