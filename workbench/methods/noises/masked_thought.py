"""Masked Thought: parts of the answer's own beginning are hidden while its end is learnt.

Formula and schedule [R] from the authors' repository, the claim [P] arXiv:2403.02178. Random tokens, which stand in for the
hidden ones here, are what the published GSM8K run used [R]; a mask token would need a new row in the embedding.
"""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Noise, Showing


class MaskedThought(Noise, title="Masked Thought", paper="arXiv:2403.02178"):
    """Put random tokens in place of some of the answer's while the whole answer is still learnt.

    $$P(\\text{token } t \\text{ is replaced}) = \\pi\\, \\min\\left(1, \\frac{s}{w}\\right)$$

    s is the share of the run that is over, w that of its warm-up. Only what the model reads of the answer changes: prompts and
    labels stay. So it learns to reason from the question instead of copying its own last step. Control tokens are never put
    in. The paper leaves open which share suits short answers; there 0.4 hides much.
    """

    neutral = {"most": 0.0}

    most: float = knob(0.4, ge=0, le=1, help="π: share of the answer's tokens that are hidden at the end", step=0.05, label="hidden share")
    warmup: float = knob(2 / 3, gt=0, le=1, help="w: share of the run in which it rises from 0", more=True)

    def disturb(self, batch: dict[str, Tensor], showing: Showing) -> dict[str, Tensor]:
        ids = batch["input_ids"]
        share = self.most * min(1.0, showing.share / self.warmup)
        hidden = (torch.rand(ids.shape, generator=showing.generator).to(ids.device) < share) & (batch["labels"] != -100)
        usable = torch.tensor([token for token in range(showing.embed.num_embeddings) if token not in set(showing.special)])
        other = usable[torch.randint(len(usable), ids.shape, generator=showing.generator)].to(ids.device)
        return {**batch, "input_ids": torch.where(hidden, other, ids)}
