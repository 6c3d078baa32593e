"""CoBa, the balance of tasks by how fast they converge. Its mathematics: `materials/convergence.py`.

The paper is CoBa: Convergence Balancer for Multitask Finetuning of Large Language Models, of the makers of MFTCoder. Tags as in the
project's notes: [R] read in their code (codefuse-ai/MFTCoder), [O] our own choice.
"""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.convergence import Convergence
from workbench.methods.contracts import Loss, TokenStats


class CoBa(Loss, title="CoBa (tasks by convergence)"):
    """Weigh tasks by how fast their validation losses fall, so that all of them arrive together and none is trained past its best.

    $$L = \\sum_k \\omega_k \\frac{1}{M_k} \\sum_{t \\in k} -\\log q_t$$

    While all losses fall, the slow tasks weigh more; when the highest begins to rise again, those that still fall as they did [R]. The
    weights follow the slopes over the last steps, after a warm-up with equal ones, and no task goes below a tenth of an equal share [R].
    A validation batch of one task is read at each step, the tasks in turn [O]; a task that is absent from a step leaves its weight to the
    others.
    """

    by_task = True
    neutral = None

    window: int = knob(200, ge=2, le=100_000, help="over how many steps a slope is taken", log=True, unit="steps")
    warm_up: int = knob(100, ge=0, le=100_000, help="steps in which all tasks weigh alike", unit="steps")

    def costs(self) -> str:
        return "Reads a validation batch at each step."

    def convergence(self, tasks: int) -> Convergence:
        return Convergence(tasks, self.window, self.warm_up)

    def weights(self, stats: TokenStats) -> Tensor:
        window, task = stats.window, stats.task
        assert window is not None and task is not None
        names, counts = window.task.unique(return_counts=True)
        known = window.weight if len(window.weight) else torch.ones(int(names.max()) + 1, device=task.device)
        shares = torch.zeros(int(task.max().clamp(min=names.max())) + 1, dtype=torch.float64, device=task.device)
        shares[names] = known[names].double() / known[names].double().sum() * len(window.task) / counts
        return shares[task].to(stats.logp.dtype)
