"""LoRA-GA: a LoRA whose first steps go where full tuning's would. Not here: starts that are not zero (`materials/started.py`).

LoRA-GA: Low-Rank Adaptation with Gradient Approximation, 2024. Own implementation. Tags as in the project's notes: [P] abstract, [R] read
in the authors' code (Outsider565/LoRA-GA, tuners/lora/layer.py) and in peft 0.21.2 (lora/layer.py), [D] derived, [O] our own choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.covariances import ROOM, portions
from workbench.materials.evidence import Evidence, Learnt, gradients
from workbench.materials.started import Started
from workbench.methods.contracts import Informed

POWER = 4  # rounds in which the randomized decomposition is sharpened [R]


class LoRAGA(Started, Looking, Ranked, Informed, title="LoRA-GA (start along the gradient)", paper="arXiv:2407.05000"):
    """Start the LoRA so that its first steps move the matrix along the gradient that full tuning would follow.

    $$G = U S V^\\top, \\qquad A_0 = \\frac{m^{1/4}}{\\sqrt{\\gamma}}\\; V_{1 \\dots r}^\\top, \\quad
    B_0 = \\frac{m^{1/4}}{\\sqrt{\\gamma}}\\; U_{r+1 \\dots 2r}$$

    G is the gradient of the matrix on some training rows. To first order a step of A and B moves W along B₀B₀ᵀG + GA₀ᵀA₀. With these two,
    which share no direction, that is the 2r strongest parts of G, and no rank-2r step is nearer to full tuning's [D]. It learns as
    fast as full tuning, two to four times as fast as LoRA, and ends better than LoRA [P]. γ is 16; the factor keeps the size of the
    output independent of m [R].

    G is taken once, in portions of the matrices for which there is room, each a pass over the rows [O]. peft multiplies B by the
    singular values of G, which makes the start as small as the gradient; the authors' code does not, and neither does this [R]. Where
    a matrix has fewer than 2r directions, B takes the last r [O]. W stays as it is; what moves is s(BA − B₀A₀), and saved is a
    plain LoRA of rank 2r [O]. Weight decay pulls A and B to zero, not to their start; leave it at 0.
    """

    gamma: float = knob(16.0, gt=0, le=4096, help="γ: the larger, the smaller the start", log=True, more=True)
    alpha: float = knob(16.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        weights, batches, learnt = low_rank.upright(model, self.where), evidence.batches(), dict[str, Tensor]()
        groups = portions({name: 4 * weight.numel() for name, weight in weights.items()}, ROOM)
        for number, names in enumerate(groups):
            held = {f"{name}.weight": torch.zeros(model.get_submodule(name).weight.shape, device=model.device) for name in names}
            what = "rows read" if len(groups) == 1 else f"rows read, pass {number + 1} of {len(groups)}"
            yield from gradients(model, held, batches, lambda name, gradient, held=held: held[name].add_(gradient), what)
            for name in names:
                learnt |= self._start(name, low_rank.upright_of(model.get_submodule(name), held.pop(f"{name}.weight")))
        return learnt

    def costs(self) -> str:
        return f"Takes the gradient of {self.rows} rows before the first step, perhaps several times."

    def _start(self, name: str, gradient: Tensor) -> Learnt:
        """A₀ and B₀ of a matrix by their names, from its gradient (m, n)."""
        least = min(gradient.shape)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            u, _, v = torch.svd_lowrank(gradient, q=min(4 * self.rank, least), niter=POWER)
        second, size = min(self.rank, least - self.rank), len(gradient) ** 0.25 / self.gamma**0.5
        return {f"{name}.A": size * v[:, : self.rank].T, f"{name}.B": size * u[:, second : second + self.rank]}
