"""CorDA: a LoRA that starts from what the matrix does to the inputs of some rows. Not here: starts that are not zero (`started.py`).

CorDA: Context-Oriented Decomposition Adaptation of Large Language Models, 2024. Own implementation. Tags as in the project's notes: [P]
abstract, [R] read in peft 0.21.2 (lora/corda.py), [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.covariances import Inputs, observed
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.started import Started
from workbench.methods.contracts import Informed

DAMPING = 0.01  # of the mean of C's diagonal, added to it


class CorDA(Started, Looking, Ranked, Informed, title="CorDA (start from what rows use)", paper="arXiv:2406.05223"):
    """Start the LoRA from those directions of each matrix that some rows use most, or least.

    $$W C = U \\Sigma V^\\top, \\qquad A_0 = \\sqrt{\\Sigma_J / s}\\; V_J^\\top C^{-1}, \\quad B_0 = U_J \\sqrt{\\Sigma_J / s}, \\qquad
    C = \\mathbb{E}[x x^\\top]$$

    x is what the matrix reads on those rows. *Knowledge-preserved*: the rows show what must be kept (questions and answers about the
    world), and the r directions that they use least are trained; it learns better than LoRA and forgets less [P]. *Instruction-previewed*:
    the rows are the training set's own, and the r directions that they use most are trained; it learns faster, and better than
    full tuning does [P]. 256 rows are enough, says peft, if they are long [R].

    C gets 0.01 of its mean diagonal added [R], so that it has an inverse; peft raises that until the inverse is accurate, and here the
    equations are solved in float64 instead [O]. Σ grows with C, so C is scaled to a mean diagonal of 1: otherwise the learning rate
    that is right would depend on how large the inputs are [D]. In the start it is A₀C²A₀ᵀ that is diagonal [D]. W stays as it is; what
    moves is s(BA − B₀A₀), and saved is a plain LoRA of rank 2r [O]. Weight decay pulls A and B to zero, not to their start; leave it at 0.
    """

    mode: Literal["instruction-previewed", "knowledge-preserved"] = knob(
        "instruction-previewed", help="train the directions that the training rows use most, or those that other rows use least"
    )
    knowledge: str = knob("", help="name of the data set that shows what must be kept", names="data", label="knowledge set")
    rows: int = knob(256, ge=1, le=100_000, help="rows that are looked at before the first step, drawn at random", log=True, more=True)
    alpha: float = knob(16.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)

    def looks_at(self) -> list[str]:
        if self.mode == "instruction-previewed":
            return [""]
        if not self.knowledge:
            raise WorkbenchError(
                "CorDA keeps what some rows show; name their data set under 'knowledge set', for example questions and answers about the "
                "world, or set mode to instruction-previewed, which looks at the training rows"
            )
        return [self.knowledge]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        (name,) = self.looks_at()
        weights, learnt = low_rank.upright(model, self.where), dict[str, Tensor]()

        def begin(matrix: str, inputs: Inputs) -> None:
            a, b = self._start(weights[matrix].float(), inputs.second())
            learnt.update({f"{matrix}.A": a, f"{matrix}.B": b})

        yield from observed(model, {matrix: weight.shape[1] for matrix, weight in weights.items()}, evidence.batches(name), begin)
        return learnt

    def costs(self) -> str:
        return f"Reads {self.rows} rows before the first step, perhaps several times. {low_rank.DECOMPOSES}"

    @torch.no_grad()
    def _start(self, weight: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """A₀ and B₀ of a matrix (m, n) whose inputs have that second moment (n, n)."""
        size = second.diagonal().mean()
        second = second / size.clamp_min(torch.finfo(size.dtype).tiny) + DAMPING * torch.eye(len(second), device=second.device)
        u, sizes, vh = torch.linalg.svd(weight @ second, full_matrices=False)
        chosen = slice(0, self.rank) if self.mode == "instruction-previewed" else slice(-self.rank, None)
        root = (sizes[chosen] * self.rank / self.alpha).sqrt()
        read = torch.linalg.solve(second.double(), vh[chosen].double().T).T.float()
        return root[:, None] * read, u[:, chosen] * root
