"""PWCE: what the model finds hardest counts most. Formula [N] from a note on the paper; α, λ and the clip are ours [S]."""

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class PerplexityWeighted(Loss, title="Perplexity-weighted", paper="arXiv:2604.13488"):
    """Add to cross-entropy a second one in which a token weighs by its perplexity.

    $$L = -\\frac{1}{M}\\sum_t m_t (1 + \\lambda w_t) \\log q_t, \\quad
    w_t = \\frac{1 + \\alpha\\, u_t}{\\overline{1 + \\alpha\\, u}}, \\quad u_t = \\frac{1/q_t}{\\overline{1/q}}$$

    The opposite of DFT: meant for the few tokens that matter and are hard, such as numbers and coordinates. The weights w have
    mean 1 over the learnt tokens of a batch (with accumulation: of each micro-batch). 1/q has no bound and one outlier would
    take all the weight, so perplexities are clipped. The paper prints neither α nor λ where we could read it.
    """

    neutral = {"share": 0.0}

    share: float = knob(1.0, ge=0, le=10, help="λ: how much of the second term; 0 is cross-entropy", step=0.1)
    slope: float = knob(1.0, ge=0, le=10, help="α: how strongly perplexity weighs", step=0.1)
    clip: float = knob(1000.0, gt=1, help="largest perplexity that is believed", log=True, more=True)

    def weights(self, stats: TokenStats) -> Tensor:
        perplexity = (-stats.logp.detach()).exp().clamp(max=self.clip)
        rising = 1 + self.slope * perplexity / stats.mean(perplexity).clamp(min=1e-6)
        return 1 + self.share * rising / stats.mean(rising).clamp(min=1e-6)
