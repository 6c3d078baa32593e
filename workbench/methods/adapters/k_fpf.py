"""k-FPF: train all of a model, and every so many steps mend what it forgets by moving what drifted most, on rows of what it knew.

Does Continual Learning Equally Forget All Parameters?, 2023. Not here: the mending of a run that is over (`fpf.py`), or how tensors are
trained (`materials/whole.py`). Tags as in the project's notes: [P] abstract, [REC] reconstruction, because the exact measure is not known
to us, [V] measured on a toy, [O] our own choice.
"""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.attachment import Batched
from workbench.materials.evidence import Batch, some, surprise
from workbench.materials.models import weights_by_module
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost

TOGETHER = 8  # rows of the buffer in a step


class KFPF(Whole, Looking, Adapter, title="k-FPF (mend on the way)", paper="arXiv:2304.04158"):
    """Train everything, and every so many steps let only the kinds of modules that drifted most move, on a few rows of what was known.

    $$d_k = \\text{mean of } \\frac{\\lVert \\theta - \\theta_0 \\rVert_1}{|\\theta|} \\text{ over modules of kind } k, \\qquad
    S = \\text{top}_n \\; d, \\qquad \\theta_S \\leftarrow \\theta_S - \\eta \\nabla_S L_{\\text{buffer}}$$

    What is forgotten is forgotten in a few kinds of modules, which change most from task to task, so that moving these alone on a small
    buffer mends much of it for little work. k-FPF does so k times on the way, every ⌊T/k⌋ steps, and between these times no earlier row
    is shown again [P]. For one mending after a LoRA run that is over there is FPF.

    A kind is all modules of one name, such as those that make keys in all blocks, and its drift is counted from the start of the run
    [REC]. Which kinds these are is found anew at each mending. A mending goes on from the optimizer's moments of what it moves; what
    stood still begins anew with its own. The gradients of a step of a mending are those of the next 8 rows of the buffer, in float32 [O];
    the run's own rows are read in such a step, so that the loss is told, and not learnt from. A run of k · (every + mending) steps ends
    with a mending.
    """

    data: str = knob("known", help="name of the data set of what was known before", names="data", label="what was known")
    rows: int = knob(64, ge=1, le=10_000, help="rows of it that are kept as the buffer, drawn at random", log=True)
    every: int = knob(100, ge=1, le=1_000_000, help="steps of training before each mending", unit="steps", log=True)
    mending: int = knob(10, ge=1, le=100_000, help="steps of a mending", unit="steps", log=True)
    kinds: int = knob(2, ge=1, le=64, help="how many kinds of modules a mending moves, in all blocks", unit="kinds")

    def looks_at(self) -> list[str]:
        if not self.data:
            raise WorkbenchError(
                "k-FPF mends what a run forgets on rows of what was known before, and none are named. Write the name of a data set under "
                "what was known (adapter.data), such as that of an earlier run."
            )
        return [self.data]

    def attach(self, model: PreTrainedModel, seed: int) -> "MendedAttachment":
        return MendedAttachment(model, self)

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost_of(model, {name for name, _ in model.named_parameters()})

    def costs(self) -> str:
        return f"In {self.mending} of each {self.every + self.mending} steps the run's own rows are read and not learnt from."


class MendedAttachment(WholeAttachment):
    """All tensors move, and in a mending those of the kinds that drifted most; `buffer` is a batch of all rows that mend."""

    buffer: Batch

    def __init__(self, model: PreTrainedModel, knobs: KFPF):
        self.knobs = knobs
        super().__init__(model, {name for name, _ in model.named_parameters()}, self._choose)

    def look(self, evidence: Batched) -> None:
        (self.buffer,) = evidence.batches(self.knobs.data, size=self.knobs.rows)

    def before_step(self, step: int) -> None:
        """In a mending, other gradients than those of the run's rows."""
        if all(parameter.grad is None for _, parameter in self.trained()):
            raise WorkbenchError("k-FPF mends by gradients, and this update takes none. Choose another update, such as adamw.")
        done, place = self._place(step)
        if place < 0:
            return
        for _, parameter in self.trained():
            parameter.grad = None
        with torch.random.fork_rng():
            torch.manual_seed(step)  # all processes that take the step together drop the same
            surprise(self.model, self._next(done * self.knobs.mending + place)).backward()

    def _choose(self, step: int) -> set[str] | None:
        """What moves from this step on, where that changes."""
        done, place = self._place(step)
        if place == 0:
            largest = [*drift(self.model, self.start)][: self.knobs.kinds]
            return {name for name, module, *_ in weights_by_module(self.model) if module in largest}
        return {name for name, _ in self.model.named_parameters()} if place == -self.knobs.every and done else None

    def _place(self, step: int) -> tuple[int, int]:
        """How many mendings were over before this step (from 1), and which step of the next one it is (from 0); below 0 of none yet."""
        done, place = divmod(step - 1, self.knobs.every + self.knobs.mending)
        return done, place - self.knobs.every

    def _next(self, turn: int) -> dict[str, Tensor]:
        """The rows of a step, in their order and from the first again."""
        count = len(self.buffer["input_ids"])
        return some(self.buffer, (torch.arange(min(TOGETHER, count)) + turn * TOGETHER) % count)


@torch.no_grad()
def drift(model: PreTrainedModel, start: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean size of a number's change by the kind of module, the largest first."""
    sizes = defaultdict[str, list[float]](list)
    for name, module, _, parameter in weights_by_module(model):
        sizes[module].append(float((parameter - start[name].to(parameter.device)).abs().mean()))
    means = {kind: sum(own) / len(own) for kind, own in sizes.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))
