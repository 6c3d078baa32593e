"""LoRAs with a small matrix between their factors that each token mixes for itself, of a few that all matrices share.

    Δy = s B M z,   z = A x,   M = Σ_k α_k T_k,   α = softmax over the `chosen` largest of ⟨q, κ_k⟩ / √d,   q = W_q [LN(z); h]

The atoms T_k (r × r), their keys κ_k (d), W_q and W_h are one for the whole model; A and B are each matrix's own. h is what the blocks
below had to say of the token: blocks go in groups, h is 0 in the first, and after each group

    h ← h + W_h LN(mean of M z over the group's matrices)

so nothing passes from one token to another, and a cache changes nothing. LN is a layer norm without numbers of its own; outside the sum it
would make of the smallest W_h a summary of full size, since h begins at 0 [D]. Where activations are computed anew, what was put down is
put down again: M z has its place by matrix and h by group, and nothing is added to in place, so it does not matter how often. What it is
not: how it starts, which is a method's (`methods/adapters/queryable_lora.py`). Tags: [D] derived.
"""

from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.materials.beside import Beside

SUMMARY = "h"  # with the number of a group, where its h is put down


class Passing(dict[Any, Tensor]):
    """What is put down in one pass: M z by the matrix's place, h by group; a copy of the model makes its own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Passing":
        return Passing()


class Atoms(Beside):
    """Beside a backbone called `name`; all numbers are zero until they are set.

    `sides`: outputs and inputs of its adapted matrices. `groups`: their names, a list for each group; `ends`: the block after which each
    group but the last is over.
    """

    def __init__(
        self, name: str, sides: list[tuple[int, int]], *, groups: list[list[str]], ends: list[str], rank: int, scale: float, atoms: int,
        chosen: int, width: int,
    ):  # fmt: skip
        super().__init__()
        self.name, self.groups, self.ends, self.scale, self.chosen = name, groups, ends, float(scale), chosen
        self.read = nn.ParameterList(torch.zeros(rank, ins) for _, ins in sides)
        self.write = nn.ParameterList(torch.zeros(outs, rank) for outs, _ in sides)
        self.atoms = nn.Parameter(torch.zeros(atoms, rank, rank))
        self.keys = nn.Parameter(torch.zeros(atoms, width))
        self.query = nn.Parameter(torch.zeros(width, 2 * rank))
        self.summary = nn.Parameter(torch.zeros(rank, rank))
        self.passing = Passing()

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        matrices = [model.get_submodule(matrix) for group in settings["groups"] for matrix in group]
        return cls(name, [sides(matrix) for matrix in matrices], **settings)

    def settings(self) -> dict[str, Any]:
        count, rank, _ = self.atoms.shape
        return {
            "groups": self.groups, "ends": self.ends, "rank": rank, "scale": self.scale, "atoms": count, "chosen": self.chosen,
            "width": self.keys.shape[1],
        }  # fmt: skip

    @property
    def places(self) -> dict[str, int]:
        """The adapted matrices by name, with the place of their factors."""
        return {name: place for place, name in enumerate(name for group in self.groups for name in group)}

    def hook(self, host: nn.Module) -> None:
        modules = {f"{self.name}.{name}": module for name, module in host.named_modules()}
        for number, group in enumerate(self.groups):
            for name in group:
                modules[name].register_forward_hook(partial(self._add, self.places[name], number))
        for number, name in enumerate(self.ends):
            modules[name].register_forward_hook(partial(self._close, number))

    def mixed(self, z: Tensor, h: Tensor) -> Tensor:
        """M z of (…, r) tokens, each with a mixture of its own."""
        shares = self.shares(z, h)
        each = torch.einsum("...r,ksr->...ks", z, self.atoms.to(z.dtype))
        return torch.einsum("...ks,...k->...s", each, shares.to(z.dtype))

    def shares(self, z: Tensor, h: Tensor) -> Tensor:
        """(…, K) α: 0 but for the chosen ones, which add up to 1."""
        with torch.autocast(z.device.type, enabled=False):  # halves of numbers would choose differently
            query = linear(torch.cat([layer_norm(z.float(), z.shape[-1:]), h.float()], -1), self.query)
            scores = query @ self.keys.T * self.keys.shape[1] ** -0.5
            most, which = scores.topk(self.chosen, -1)
            return torch.zeros_like(scores).scatter(-1, which, most.softmax(-1))

    def _add(self, place: int, group: int, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if self.still:
            return output
        z = linear(inputs[0], self.read[place].to(inputs[0].dtype))
        self.passing[place] = said = self.mixed(z, self.passing.get((SUMMARY, group), torch.zeros_like(z)))
        return output + self.scale * linear(said, self.write[place].to(said.dtype)).to(output.dtype)

    def _close(self, group: int, host: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Put down the h of the group that follows; where a group has no adapted matrix it is that of the group before."""
        own = [self.passing[self.places[name]] for name in self.groups[group] if not self.still]
        h = self.passing.get((SUMMARY, group))
        if own:
            mean = torch.stack(own).mean(0).float()
            told = linear(layer_norm(mean, mean.shape[-1:]), self.summary)
            h = told if h is None else h + told
        if h is not None:
            self.passing[SUMMARY, group + 1] = h


def sides(matrix: nn.Module) -> tuple[int, int]:
    """How many outputs and inputs a matrix has, also one whose numbers are packed; transformers' Conv1D is stored the other way round."""
    if isinstance(matrix, Conv1D):
        return matrix.nf, matrix.nx
    if not isinstance(matrix, nn.Linear):
        raise TypeError(f"a {type(matrix).__name__} is no matrix")
    return matrix.out_features, matrix.in_features
