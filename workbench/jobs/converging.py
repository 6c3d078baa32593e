"""How fast each task's validation loss falls, told to a loss that weighs tasks by it: one validation batch a step, the tasks in turn.

What it is not: the weights (`materials/convergence.py`), or the validation losses that are shown. The authors' code reads one batch with
rows of all tasks [R]; one task a step costs the same and no batch has to be drawn [O]. Tags: [R] read in codefuse-ai/MFTCoder, [O] ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.jobs.objective import Batch, Objective
from workbench.materials.convergence import Convergence


@dataclass
class Converging:
    """`by_task`: validation batches by the task's name. Of several processes the first reads them, and the others hear the weights."""

    objective: Objective
    by_task: Mapping[str, Sequence[Batch]]
    memory: Convergence | None = field(init=False)

    def __post_init__(self) -> None:
        self.memory = self.objective.loss.convergence(len(self.objective.known.names))

    def see(self, step: int) -> None:
        """Read the batch whose turn it is, and weigh the tasks anew; nothing where the loss does not ask for it."""
        if self.memory is None:
            return
        objective, names = self.objective, self.objective.known.names
        turn, which = divmod(step - 1, len(names))
        batches = self.by_task.get(names[which], ())
        loss = objective.mean_loss([batches[turn % len(batches)]]) if batches else None
        self.memory.see([loss if place == which else None for place in range(len(names))])
        objective.task_weights = torch.tensor(objective.group.decided(self.memory.weights()), device=objective.attachment.model.device)

    def state(self) -> dict[str, Tensor]:
        return self.memory.state() if self.memory else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if self.memory and state:
            self.memory.load_state(state)
