"""SliceFine: a narrow slice of every matrix that moves along. Not here: how a part is trained (`materials/region.py`).

SliceFine: The Universal Winning-Slice Hypothesis for Pretrained Networks, 2025. arXiv:2510.08513. Tags as in the project's notes: [P]
abstract, [N] an implementation in the authors' style (slicefine_peft.py), [O] our own choice.
"""

from typing import Literal

import torch
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.attachment import in_turn
from workbench.materials.region import Mask, RegionAttachment, cost
from workbench.materials.regions import Columns, Rows
from workbench.methods.contracts import Adapter, Cost


class SliceFine(Targeted, Adapter, title="SliceFine (a slice that moves along)", paper="arXiv:2510.08513"):
    """Train one narrow slice of each matrix, and another one some steps later.

    $$\\text{columns } s, \\dots, s + r - 1, \\qquad s = (t \\, r) \\;\\text{mod}\\; (n - r + 1)$$

    Any slice of a pretrained matrix is enough to learn from, say the authors, because what it was trained on is spread all over it [P]. t
    counts the moves; what a slice has learnt stays when the next one takes its turn, and over a sweep the whole matrix moves while the
    optimizer holds the moments of one slice. A slice that stays where it is, with `every` at 0, is the plain form.

    The width of 8 and the place to begin are those of an implementation in the authors' style [N]; how often it moves is not known to us,
    and 20 steps are our choice [O].
    """

    width: int = knob(8, ge=1, le=4096, help="how many columns or rows a slice has", log=True)
    side: Literal["columns", "rows"] = knob("columns", help="columns change what is read, rows what is written")
    every: int = knob(20, ge=0, le=100_000, help="steps after which the slice moves on; 0 never", unit="steps")

    def attach(self, model: PreTrainedModel, seed: int) -> RegionAttachment:
        return RegionAttachment(model, self._mask(model, 0), in_turn(self.every, lambda turn: self._mask(model, turn)))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": self._count(*shape) for name, shape in low_rank.matrices(model, self.where)})

    def _count(self, rows: int, columns: int) -> int:
        return rows * min(self.width, columns) if self.side == "columns" else columns * min(self.width, rows)

    def _mask(self, model: PreTrainedModel, moves: int) -> Mask:
        kind, side = (Columns, 1) if self.side == "columns" else (Rows, 0)
        return {f"{name}.weight": kind(self._slice(shape[side], moves)) for name, shape in low_rank.matrices(model, self.where)}

    def _slice(self, size: int, moves: int) -> torch.Tensor:
        width = min(self.width, size)
        start = moves * width % (size - width + 1)
        return torch.arange(start, start + width)
