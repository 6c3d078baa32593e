"""LoRA that starts from a slice of the matrix's own singular directions: PiSSA, MiLoRA, and what lies between them.

Least but not Last: Fine-tuning Intermediate Principal Components for Better Performance-Forgetting Trade-Offs, 2026. arXiv:2602.03493.
PiSSA, 2024, arXiv:2404.02948. MiLoRA, 2024, arXiv:2406.09044. Not here: how a LoRA starts elsewhere than at zero
(`materials/started.py`). Tags as in the project's notes: [P] abstracts, [R] read in published code (peft; sufenlp/MiLoRA svd_init.py), [N]
a third party's note, [V] measured on toys, [O] our own choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.directions import leading
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.started import Started
from workbench.methods.contracts import Informed


class SVDSlice(Started, Ranked, Informed, title="SVD slice (PiSSA, MiLoRA, between)", paper="arXiv:2602.03493"):
    """Start the LoRA from some of the matrix's own singular directions instead of from zero.

    $$W = U \\Sigma V^\\top, \\qquad A_0 = \\sqrt{\\Sigma_J / s}\\; V_J^\\top, \\quad B_0 = U_J \\sqrt{\\Sigma_J / s}, \\qquad
    J = a + 1, \\dots, a + r$$

    with a = p(k − r), rounded, and k the smaller side of W. Position 0 takes the strongest directions, which is PiSSA and learns faster
    than LoRA [P]. Position 1 takes the weakest, which is MiLoRA, meant to keep what the model knows [P]. By the newest of the three papers
    both ends forget most; directions from between forget less, and bear high learning rates better [P]. How it chooses the place we do not
    know; two notes have it anywhere between the ends [N], and the middle is our choice [O]. Compare positions on your own data: on a
    toy a slice nearer to the strong end was best on both counts, and the middle was not [V].

    W itself stays as it is: what moves is s(BA − B₀A₀), computed so that nothing is rounded away [O], and saved is a plain LoRA of rank 2r.
    So the start need not be exact, and the strongest directions are found by iteration, many times faster than by a whole decomposition,
    as PiSSA does it too [P]. Alpha is the rank, as in the published settings [R]. Weight decay pulls A and B to zero, which takes their
    directions out of W; leave it at 0.
    """

    alpha: float = knob(16.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    position: float = knob(0.5, ge=0, le=1, help="which directions: 0 the strongest (PiSSA), 1 the weakest (MiLoRA)", step=0.01)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        return (yield from low_rank.decomposed(model, self.where, self._slice))

    def costs(self) -> str:
        return low_rank.DECOMPOSES if self.position else ""

    def _slice(self, weight: Tensor) -> Learnt:
        first = round(self.position * (min(weight.shape) - self.rank))
        chosen = slice(first, first + self.rank)
        u, sizes, vh = torch.linalg.svd(weight, full_matrices=False) if first else strongest(weight, self.rank)
        root = (sizes[chosen] * self.rank / self.alpha).sqrt()
        return {"A": root[:, None] * vh[chosen], "B": u[:, chosen] * root}


def strongest(weight: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, Σ and Vᵀ of as many directions."""
    generator = torch.Generator().manual_seed(0)
    v = leading(lambda x: weight.T @ (weight @ x), weight.shape[1], count, generator, weight.device)
    u, sizes, turn = torch.linalg.svd(weight @ v, full_matrices=False)
    return u, sizes, turn @ v.T
