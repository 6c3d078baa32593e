"""Forgetting: what the model loses on what it knew, while it learns something else.

The law that the forward KL to the base predicts forgetting is RL's Razor [P] arXiv:2509.04259; the paper does not publish its estimator
for language models: the exact per-token, teacher-forced one here is ours [D].
"""

import torch

from workbench.materials.models import label_table
from workbench.methods.contracts import Moment, Probe, Reading


class Forgetting(Probe, title="Forgetting", paper="arXiv:2509.04259"):
    """Loss on what must not be forgotten, and how far the model has moved from its base there.

    $$\\mathrm{KL} = \\frac{1}{M}\\sum_t m_t \\sum_k p^0_t(k) \\log \\frac{p^0_t(k)}{p_t(k)}$$

    p⁰ is the base and p the model now, on the same held-out answers. Both read 0 change at step 0. The paper measures the
    KL on the new task's inputs and finds that it predicts forgetting; here it is read on the set of known skills where the
    spec names one (`known`), else on validation rows.
    """

    when = "evaluation"

    @torch.no_grad()
    def read(self, moment: Moment) -> Reading:
        batches = moment.known or moment.validation
        model = moment.attachment.model
        training = model.training
        model.eval()
        loss = kl = count = 0.0
        try:
            for batch in batches:
                now = label_table(model, batch)
                with moment.attachment.base():
                    before = label_table(model, batch)
                labels = batch["labels"][:, 1:]
                learnt = labels != -100
                loss -= now.gather(1, labels[learnt][:, None]).sum().item()
                kl += (before.exp() * (before - now)).sum().item()
                count += int(learnt.sum())
        finally:
            model.train(training)
        if not count:
            return Reading({})
        known = {"base_loss": loss / count} if moment.known else {}
        return Reading({**known, "base_kl": max(0.0, kl / count)})
