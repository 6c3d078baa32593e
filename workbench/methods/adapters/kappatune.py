"""KappaTune: whole matrices, those whose singular values are most alike. Not here: how tensors are trained (`materials/whole.py`).

The Condition Number as a Scale-Invariant Proxy for Information Encoding in Neural Units, 2025 (the authors' repository names
arXiv:2506.16289). Tags as in the project's notes: [P] the authors' summary, [R] read in peft's `find_kappa_target_modules`, [O] our own
choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.low_rank import DECOMPOSES
from workbench.materials.models import layer_of
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Cost, Informed

EPSILON = 1e-8  # added to the smallest singular value [R]


class KappaTune(Whole, Informed, title="KappaTune (matrices with the lowest condition number)"):
    """Train the matrices that stretch all directions most nearly alike, and hold the others still.

    $$\\kappa(W) = \\frac{\\sigma_{\\max}(W)}{\\sigma_{\\min}(W) + \\epsilon}, \\qquad S = \\text{the matrices of lowest } \\kappa$$

    A matrix with a high condition number κ holds specialised knowledge in few directions, say the authors; one with a low κ is numerically
    calm and can be moved without writing over much [P]. So a new task goes into the lowest, and what was known is forgotten less [P].
    κ does not change when the matrix is multiplied by a number. It is a property of the weights alone: no row is read.

    One fifth of the matrices is peft's default, and matrices with a side above 16384 are left out, because their decomposition takes too
    long [R]; experts that lie in one tensor count as one matrix with their mean κ [R]. Here only matrices inside the blocks are compared
    [O]. Weights move as in full tuning: in float32, saved as a model, with a small learning rate.
    """

    share: float = knob(0.2, gt=0, le=1, step=0.05, help="share of the matrices that move, counted as matrices")
    widest: int = knob(16_384, ge=1, le=1_000_000, help="matrices with a longer side are left out", log=True, more=True)

    @torch.no_grad()
    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The condition number of each matrix by name."""
        found, matrices = dict[str, Tensor](), self._matrices(model)
        for number, (name, parameter) in enumerate(matrices):
            yield Progress(number, len(matrices), "matrices decomposed")
            found[name] = condition(parameter)
        return found

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> WholeAttachment:
        lowest = sorted(learnt, key=lambda name: (float(learnt[name]), name))
        return WholeAttachment(model, set(lowest[: self._count(len(lowest))]))

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if the largest matrices were chosen; which ones they are is known once they are decomposed."""
        largest = sorted(self._matrices(model), key=lambda found: -found[1].numel())
        return cost_of(model, {name for name, _ in largest[: self._count(len(largest))]})

    def costs(self) -> str:
        return DECOMPOSES

    def _count(self, matrices: int) -> int:
        return max(1, int(self.share * matrices))

    def _matrices(self, model: PreTrainedModel) -> list[tuple[str, nn.Parameter]]:
        """What is compared: matrices inside the blocks, and stacks of them."""
        inside = [(name, own) for name, own in model.named_parameters() if layer_of(name) is not None and own.ndim in (2, 3)]
        found = [(name, own) for name, own in inside if min(own.shape[-2:]) > 1 and max(own.shape[-2:]) <= self.widest]
        if not found:
            raise WorkbenchError(
                f"No matrix of this {type(model).__name__} has both sides within {self.widest}, so none can be chosen. Set widest higher."
            )
        return found


def condition(matrix: Tensor) -> Tensor:
    """κ of (…, m, n), the mean over the matrices of a stack."""
    values = torch.linalg.svdvals(matrix.detach().float())
    return (values[..., 0] / (values[..., -1] + EPSILON)).mean()
