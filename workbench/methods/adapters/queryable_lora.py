"""Queryable LoRA: between a LoRA's factors a small matrix that each token asks a shared memory for. Not here: the memory
(`materials/atoms.py`), or how it is trained, saved and opened (`materials/inserted.py`).

Queryable LoRA, 2026. arXiv:2605.08423. Neither text nor code could be had: tags as in the project's notes: [P] abstract, [N] a third-party
summary, [REC] reconstruction, [D] derived, [O] our own choice.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.where import Where
from workbench.materials import low_rank
from workbench.materials.atoms import Atoms, sides
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import BLOCK, layer_of
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost

NOISE = 0.02  # by which the atoms differ from one another at the start


class QueryableLoRA(Unmergeable, Where, Adapter, title="Queryable LoRA (a memory that tokens ask)", paper="arXiv:2605.08423"):
    """Learn a LoRA whose middle is mixed anew for every token, from a few small matrices that the whole model shares.

    $$\\Delta y = \\frac{\\alpha}{r}\\, B \\left( \\sum_k w_k T_k \\right) A x, \\qquad
    w = \\text{softmax over the largest} \\; \\frac{\\langle q, \\kappa_k \\rangle}{\\sqrt d}, \\qquad
    q = W_q \\left[ \\text{LN}(A x) \\, ; \\, h \\right]$$

    T are the atoms of the memory and κ their keys; a token asks with what A makes of it, and with h, a summary of what was said for it in
    the blocks below [P][N]. So one adapter does different things for different tokens, and the matrices of all blocks learn the same few
    moves. The weights w add up to 1, so the middle is never larger than the largest atom [D]. With one atom that is the identity it
    is LoRA.

    All its sizes are unknown to us, and so is much of its form: 8 atoms, 4 of them for a token, keys of 16 numbers, blocks in groups of 4,
    and every start are our choice [O]. h is a reconstruction [REC]: 0 in the first group of blocks, and after each a linear map of the mean
    of what its matrices said is added, from a map of zeros. Every B starts at zero, so nothing changes at step 0; the atoms start near the
    identity. The prior by which an instruction as a whole prefers some atoms [N] is not here: nobody tells a model which tokens are the
    instruction, and a token of it would hear of later ones [D]. What a token asks for depends on it, so it cannot be merged into the
    weights.
    """

    over_rounded = True

    atoms: int = knob(8, ge=1, le=256, help="how many small matrices the memory holds", log=True)
    per_token: int = knob(4, ge=1, le=256, help="how many of them a token mixes", label="atoms for a token", log=True)
    rank: int = knob(16, ge=1, le=256, help="how many directions each matrix may learn", log=True)
    alpha: float = knob(32.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    key: int = knob(16, ge=1, le=1024, help="numbers of a key and of what is asked", log=True, more=True)
    group: int = knob(4, ge=1, le=1000, help="after so many blocks the summary of a token goes on to the next", unit="blocks", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> InsertedAttachment:
        name, generator = model.base_model_prefix, torch.Generator().manual_seed(seed)
        size = {"rank": self.rank, "scale": self.alpha / self.rank, "atoms": self.atoms, "chosen": self._chosen(), "width": self.key}
        own = Atoms.at(model, name, **self._grouped(model), **size)
        for factor in own.read:
            nn.init.kaiming_uniform_(factor, a=5**0.5, generator=generator)
        with torch.no_grad():
            own.atoms.normal_(std=NOISE, generator=generator).add_(torch.eye(self.rank))
            own.keys.normal_(generator=generator)
            own.query.normal_(std=self.rank**-0.5, generator=generator)
        return InsertedAttachment(model, {name: own})

    def cost(self, model: PreTrainedModel) -> Cost:
        """The memory is counted with the first matrix; what reads the same keeps it once."""
        found, shared = self._sides(model), self.atoms * (self.rank**2 + self.key) + 2 * self.key * self.rank + self.rank**2
        self._chosen()
        moved = {f"{name}.weight": self.rank * sum(shape) for name, shape in found.items()}
        moved[next(iter(moved))] += shared
        each = self.rank * (self.atoms + 5) + 3 * self.atoms + self.key  # z, LN(z) and h, every T z, M z; scores, shares, query
        read = sum(ins for _, ins in {(name.rpartition(".")[0], ins) for name, (_, ins) in found.items()})
        return replace(cost(model, moved), kept=read + each * len(found))

    def _sides(self, model: PreTrainedModel) -> dict[str, tuple[int, int]]:
        return {name: sides(model.get_submodule(name)) for name, _ in low_rank.matrices(model, self.where)}

    def _grouped(self, model: PreTrainedModel) -> dict[str, list[Any]]:
        """The matrices of each group of blocks, and the blocks after which another begins."""
        every = [name for name, _ in model.named_modules() if BLOCK.fullmatch(name)]
        found: list[list[str]] = [[] for _ in range(0, len(every), self.group)]
        for name in self._sides(model):
            found[(layer_of(f"{name}.") or 0) // self.group].append(name)
        return {"groups": found, "ends": every[self.group - 1 : -1 : self.group]}

    def _chosen(self) -> int:
        if self.per_token > self.atoms:
            raise WorkbenchError(
                f"A token cannot mix {self.per_token} atoms of {self.atoms}. Set atoms for a token to {self.atoms} or less, or atoms to "
                "more."
            )
        return self.per_token
