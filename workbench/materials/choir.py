"""One model that speaks for several at once: a batch in which every row has weights of its own where these differ.

What it is: for the time of a comparison, what the model says to all rows is computed once, and each row gets its own part of it:
x ↦ W x for all of them, and beside it s·B A x, with a DoRA's gain, or a sparse Δ x; where a whole tensor differs, its rows go through the
module with that tensor in place. What it is not: where such differences come from (`differing.py`), the caches (`chorus.py`), or a choice
of tokens.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.few_rows import quicken


@dataclass(frozen=True)
class LowRank:
    """A matrix changed by a product of two: x ↦ gain ⊙ (W x + (x·down)·up); `down` (n, r), `up` (r, m), `gain` (m,) where it is not 1."""

    down: Tensor
    up: Tensor
    gain: Tensor | None = None


@dataclass(frozen=True)
class Sparse:
    """A matrix changed in few places: x ↦ W x + Δ x; `change` (m, n) in compressed rows."""

    change: Tensor


Change = Tensor | LowRank | Sparse
"""What becomes of one tensor of the model; a tensor stands in its place."""

Part = Mapping[str, Change]
"""What makes one of several models of the common one, by the names of its parameters; nothing where the two are the same."""


@dataclass
class Plan:
    """What happens at one module, given who sits in which row. Ranges are of rows."""

    pieces: list[tuple[int, int, list[tuple[nn.Parameter, Tensor]]]] = field(default_factory=list)  # each with tensors of its own in place
    alike: bool = True  # whether none of the pieces has any
    beside: tuple[int, int, Tensor, Tensor] | None = None  # (k, n, r), (k, r, m)
    sparse: list[tuple[int, int, Tensor]] = field(default_factory=list)
    gains: list[tuple[int, int, Tensor, Tensor | None]] = field(default_factory=list)  # with the bias, which they leave alone


class Host:
    """A module that some part changes, as long as the choir stands."""

    def __init__(self, module: nn.Module, choir: "Choir"):
        self.module, self.choir, self.alone = module, choir, module.forward
        module.forward = self.forward  # type: ignore[method-assign]  # what calls the module, and what it is called, stays as it was

    def plan(self, rows: Sequence[Mapping[str, Change]]) -> Plan:
        """`rows`: by row the changes of this module's own parameters."""
        own, plan = dict(self.module.named_parameters(recurse=False)), Plan()
        for start, stop, held in _runs([{name: change for name, change in row.items() if isinstance(change, Tensor)} for row in rows]):
            plan.pieces.append((start, stop, [(own[name], tensor) for name, tensor in held.items()]))
        plan.alike = not any(tensors for *_, tensors in plan.pieces)
        matrices = [row.get("weight") for row in rows]
        factors = [place for place, change in enumerate(matrices) if isinstance(change, LowRank)]
        if factors:
            first, stop = factors[0], factors[-1] + 1
            plan.beside = (first, stop, *_stacked(matrices[first:stop]))
        for start, stop, held in _runs(rows):
            change, bias = held.get("weight"), held.get("bias", own.get("bias"))
            if isinstance(change, Sparse):
                plan.sparse.append((start, stop, change.change))
            elif isinstance(change, LowRank) and change.gain is not None:
                plan.gains.append((start, stop, change.gain, bias if isinstance(bias, Tensor) else None))
        return plan

    def forward(self, shown: Tensor) -> Tensor:
        plan = self.choir.seating.get(self)
        if plan is None:
            return self.alone(shown)
        if plan.alike:
            out = self.alone(shown)
        else:
            out = torch.cat([self._with(tensors, shown[start:stop]) for start, stop, tensors in plan.pieces])
        if plan.beside is not None:
            start, stop, down, up = plan.beside
            out[start:stop].baddbmm_(torch.bmm(shown[start:stop], down), up)
        for start, stop, change in plan.sparse:
            flat = shown[start:stop].reshape(-1, shown.shape[-1])
            out[start:stop] += (change @ flat.T).T.reshape(out[start:stop].shape)
        for start, stop, gain, bias in plan.gains:
            said = out[start:stop]
            out[start:stop] = said * gain if bias is None else (said - bias) * gain + bias
        return out

    def _with(self, tensors: list[tuple[nn.Parameter, Tensor]], shown: Tensor) -> Tensor:
        """What the module says with these tensors in the place of its own, which it points at again afterwards."""
        before = [(own, own.data) for own, _ in tensors]
        for own, tensor in tensors:
            own.data = tensor
        try:
            return self.alone(shown)
        finally:
            for own, tensor in before:
                own.data = tensor


Seating = dict[Host, Plan]
"""Who sits in which row, as it concerns each module."""


class Choir:
    """The common model with those who speak by it. Whoever reads with it says who sits where (`seating = seats(…)`) before."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.seating: Seating = {}
        self._hosts: dict[str, Host] = {}
        self._quick = quicken(model)

    def seats(self, rows: Sequence[Part]) -> Seating:
        """A seating for a batch of these rows; equal ones that stand together are computed together."""
        by_module: dict[str, list[dict[str, Change]]] = {}
        for place, part in enumerate(rows):
            for name, change in part.items():
                module, _, own = name.rpartition(".")
                by_module.setdefault(module, [{} for _ in rows])[place][own] = change
        return {self._host(module): self._host(module).plan(held) for module, held in by_module.items()}

    def disband(self) -> None:
        """The model is itself again."""
        self.seating = {}
        for module in {*self._quick, *(host.module for host in self._hosts.values())}:
            del module.forward
        self._hosts.clear()
        self._quick.clear()

    def _host(self, module: str) -> Host:
        if module not in self._hosts:
            self._hosts[module] = Host(self.model.get_submodule(module), self)
        return self._hosts[module]


def together(part: Part) -> tuple[int, int, int]:
    """By what rows are sorted, so that those stand together that are computed together: the fewest tensors of their own first."""
    return sum(isinstance(change, Tensor) for change in part.values()), len(part), id(part)


def takes_turns(model: PreTrainedModel) -> bool:
    """Whether rows of different lengths can be read in one batch: the model must let itself be told of positions."""
    return {"attention_mask", "position_ids", "logits_to_keep"} <= inspect.signature(model.forward).parameters.keys()


def by_rows(model: PreTrainedModel, names: Iterable[str]) -> bool:
    """Whether each module that holds one of these parameters is asked about whole rows: (rows, tokens) or (rows, tokens, …) in and out.

    Not so where tokens of all rows are mixed before they come to a module, as they are sent to experts; found out by asking about six.
    """
    heard: dict[str, list[bool]] = {name.rpartition(".")[0]: [] for name in names}

    def listen(module: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
            plain = len(given) == 1 and not named and isinstance(out, Tensor)
            heard[module].append(plain and given[0].shape[:2] == out.shape[:2] == (2, 3))

        return hook

    handles = [model.get_submodule(module).register_forward_hook(listen(module), with_kwargs=True) for module in heard]
    try:
        model(input_ids=torch.zeros(2, 3, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return all(found and all(found) for found in heard.values())


def _runs(rows: Sequence[Mapping[str, Change]]) -> Iterator[tuple[int, int, Mapping[str, Change]]]:
    """Rows that stand together and hold the very same changes, each run as (start, stop, changes)."""
    start = 0
    for _, group in groupby(rows, key=lambda row: [(name, id(change)) for name, change in row.items()]):
        held = list(group)
        yield start, start + len(held), held[0]
        start += len(held)


def _stacked(changes: Sequence[Change | None]) -> tuple[Tensor, Tensor]:
    """Factors of several rows as two batches of matrices, filled up with zeros to one rank, which add nothing."""
    pairs = [change if isinstance(change, LowRank) else None for change in changes]
    like = next(pair for pair in pairs if pair is not None)
    rank = max(pair.down.shape[1] for pair in pairs if pair is not None)
    down = like.down.new_zeros(len(pairs), like.down.shape[0], rank)
    up = like.up.new_zeros(len(pairs), rank, like.up.shape[1])
    for place, pair in enumerate(pairs):
        if pair is not None:
            own = pair.down.shape[1]
            down[place, :, :own], up[place, :own] = pair.down, pair.up
    return down, up
