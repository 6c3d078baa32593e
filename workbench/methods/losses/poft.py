"""PoFT: an answer counts by how much aligned models prefer it to the model that is trained.

Formula and defaults [R] from the repository, the gradient [D]. The repository takes log(sigmoid) in bfloat16 [R]; here the sigmoid
of the gradient is taken alone and in float32.
"""

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class PoFT(Loss, title="PoFT (preference-oriented)", paper="arXiv:2412.12865"):
    """Ask the model to like each answer more than aligned models do, so that answers they find unlikely count less.

    $$L = -\\frac{1}{N} \\sum_i \\log \\sigma\\big(\\beta\\,(s_i - r_i) + \\gamma\\big), \\quad
    w_i = \\frac{M}{N n_i}\\; \\beta\\, \\sigma\\big(\\beta\\,(r_i - s_i) - \\gamma\\big)$$

    s_i is the mean log-probability of answer i's n_i tokens, and r_i the same under the aligned models, their mean. w_i is what
    each token of the answer weighs, which has the gradient of L [D]: M/(N n_i) makes a mean over the step's N answers out of
    the mean over its M tokens, and the rest lies between 0 and β, half of it where all agree. No knobs make this cross-entropy. A row
    that comes twice in a step counts once. In the paper each aligned model has a tokenizer and a chat template of its own [R];
    here all must share those of the model that is trained. The paper tunes fully at a learning rate of 1e-6 [R].
    """

    neutral = None

    aligned: str = knob("", help="aligned models with the same tokenizer, separated by commas", label="aligned models")
    beta: float = knob(1.0, ge=0, le=100, help="β: how sharply the preference tells answers apart", step=0.1)
    gamma: float = knob(0.0, ge=-20, le=20, help="γ: added in the model's favour; more makes all answers count less", step=0.1, more=True)

    def costs(self) -> str:
        reading = "Before the first step each aligned model reads all rows once, and a score is kept for each token."
        return " ".join(part for part in (reading, super().costs()) if part)

    def judges(self) -> list[str]:
        references = [part.strip() for part in self.aligned.split(",") if part.strip()]
        if not references:
            raise WorkbenchError(
                "PoFT has no aligned model to hold the answers against. Name one or more in loss.aligned, separated by commas "
                "(run:0001, model:NAME, a folder or a hub id); they must have the tokenizer of the model that is trained."
            )
        return references

    def weights(self, stats: TokenStats) -> Tensor:
        assert stats.score is not None and stats.row is not None and stats.window is not None
        preferred = stats.score - stats.logp.detach()
        gap = stats.summed(preferred) / stats.summed(torch.ones_like(preferred)).clamp(min=1)  # r − s of each token's answer
        answers, counts = stats.window.row.unique(return_counts=True)
        tokens = counts[torch.searchsorted(answers, stats.row.contiguous()).clamp(max=len(answers) - 1)]
        scale = len(stats.window.row) / (len(answers) * tokens)
        return (scale * self.beta * torch.sigmoid(self.beta * gap - self.gamma)).to(stats.logp.dtype)
