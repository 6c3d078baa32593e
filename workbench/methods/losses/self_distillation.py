"""Self-knowledge distillation: where the base already ranks the label high, the model is held to all that the base says there.

The paper distils a question-answering model's start and end positions, with one weight a batch: the mean average precision of
the teacher's k likeliest [R]. With one right answer that precision is the reciprocal of its rank [R][D]; a weight for each token of a
language model is our reading [D].
"""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.token_stats import kl
from workbench.methods.contracts import Loss, TokenStats


class SelfDistillation(Loss, title="Self-distillation (mAP@k)", paper="arXiv:2309.17134"):
    """Learn the label, and keep the base's whole opinion of the next token wherever the base is nearly right.

    $$L = \\frac{1}{M} \\sum_t \\Big[ -\\log q_t
    + \\gamma\\, c_t\\, T^2\\, \\mathrm{KL}\\big(p_t^{\\mathrm{base}, T} \\,\\Vert\\, p_t^{T}\\big) \\Big],
    \\qquad c_t = \\frac{1}{\\mathrm{rank}_t}$$

    rank is the label's place among what the base finds likely, and c is 0 beyond place k; p^T is a distribution at temperature T.
    So the base teaches where it can be trusted, and the label alone where it cannot. The teacher is what the run starts from,
    as in the paper [R], whose window of five positions around the answer has no like here. The paper distils positions in a text,
    so which k and T suit a vocabulary is open; γ is ours [S], and at 1 it is the paper's sum.
    """

    neutral = {"strength": 0.0}

    top: int = knob(10, ge=1, le=1000, help="k: the lowest rank of the label at which the base still teaches", label="k")
    temperature: float = knob(2.0, gt=0, le=20, help="T: more lets unlikely tokens have their say", step=0.5)
    strength: float = knob(1.0, ge=0, le=10, help="γ: how much the base teaches; 0 is cross-entropy", step=0.1)

    def costs(self) -> str:
        return "Distilling from the base takes one more forward pass a batch, of the base." if self.strength else super().costs()

    def weights(self, stats: TokenStats) -> Tensor:
        return torch.ones_like(stats.logp)

    def needs_base(self) -> bool:
        return self.strength > 0 or super().needs_base()

    def penalty(self, table: Tensor, base: Tensor, labels: Tensor) -> Tensor:
        if not self.strength:
            return super().penalty(table, base, labels)
        soft_base, soft = ((values / self.temperature).log_softmax(-1) for values in (base, table))
        taught = self.strength * self.trust(base, labels) * self.temperature**2 * kl(soft_base, soft)
        return taught + super().penalty(table, base, labels) if self.anchor else taught

    def trust(self, base: Tensor, labels: Tensor) -> Tensor:
        """(N,) c: 1 over the label's rank under the base, 0 beyond k; tokens as likely as the label do not stand before it."""
        rank = 1 + (base > base.gather(1, labels[:, None])).sum(-1)
        return torch.where(rank <= self.top, 1 / rank, 0.0)
