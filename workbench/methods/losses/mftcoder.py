"""MFTCoder: what a task weighs no longer follows from how many tokens it has.

The four cases and the third as the recommended one [R] from its repository. Means over the accumulation window, where the
repository takes them over a micro-batch, and names in place of its numbers are ours [S].
"""

from typing import Literal

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class MFTCoder(Loss, title="MFTCoder (task balance)", paper="arXiv:2311.02303"):
    """Make tasks count alike that have unlike amounts of data, so that a large one does not drown a small one.

    $$L = \\frac{1}{K} \\sum_{k=1}^{K} \\frac{1}{M_k} \\sum_{t \\in k} -\\log q_t$$

    K is the number of tasks in a step and M_k the learnt tokens of task k. That is the balance “tasks”; “tokens” is plain
    cross-entropy, “rows” the mean over rows of each row's own mean, and “rows of tasks” the mean over tasks of that. All count
    in the whole step, so accumulation changes nothing; a row that comes twice in a step counts once. A task that is absent from a step
    has no part in it: let a step hold enough rows. Weights of tasks other than equal ones, which the repository allows [R], and
    those that follow the validation losses (CoBa, a later paper) are not here.
    """

    by_task = True
    neutral = {"balance": "tokens"}

    balance: Literal["tokens", "rows", "tasks", "rows of tasks"] = knob("tasks", help="what counts alike; tokens is cross-entropy")

    def weights(self, stats: TokenStats) -> Tensor:
        window, row, task = stats.window, stats.row, stats.task
        assert window is not None and row is not None and task is not None
        if self.balance == "tokens":
            return torch.ones_like(stats.logp)
        task_of = torch.stack([window.task, window.row], -1).unique(dim=0)[:, 0]  # of each row in the step
        tasks = len(task_of.unique())
        parts = {  # a token is worth one of so many equal parts of the step
            "rows": len(task_of) * alike(window.row, row),
            "tasks": tasks * alike(window.task, task),
            "rows of tasks": tasks * alike(task_of, task) * alike(window.row, row),
        }[self.balance]
        return (len(window.row) / parts).to(stats.logp.dtype)


def alike(groups: Tensor, these: Tensor) -> Tensor:
    """How often each of `these` stands in `groups`; of one that is not there (it is not learnt) the number means nothing."""
    names, counts = groups.unique(return_counts=True)
    return counts[torch.searchsorted(names, these.contiguous()).clamp(max=len(names) - 1)]
