"""Cross-entropy weighs every token 1."""

import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.cross_entropy import CrossEntropy


def test_its_loss_is_torchs_cross_entropy() -> None:
    logits, labels = torch.randn(7, 13), torch.randint(0, 13, (7,))
    logp = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    weights = CrossEntropy().weights(TokenStats(logp, torch.ones(7)))
    assert torch.allclose(-(weights * logp).mean(), torch.nn.functional.cross_entropy(logits, labels))
