"""DualLoRA, its orthogonal half: a LoRA that leaves the answers to some rows as they are. Not here: the bars (`materials/barred.py`), or
what matrices read (`materials/covariances.py`).

Replay-Free Continual Low-Rank Adaptation with Dynamic Memory, 2024. Tags as in the project's notes: [P] abstract, [REC] reconstruction,
[D] derived, [V] measured on a toy, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.barred import BarredAttachment
from workbench.materials.covariances import Inputs, observed
from workbench.materials.evidence import Evidence, Learnt
from workbench.methods.contracts import Cost, Informed

ROUNDING = 8 * torch.finfo(torch.float32).eps  # directions that are weaker than this part of the strongest are none


class DualLoRA(Looking, Ranked, Informed, title="DualLoRA (protect these rows)", paper="arXiv:2411.00623"):
    """Look what the matrices read on some rows, and train a LoRA that cannot read it, so that the answers to such rows stay.

    $$A \\leftarrow A - (A V) V^\\top, \\qquad V = \\text{strongest directions of } \\mathbb{E}[x x^\\top], \\qquad A V = 0 \\;\\to\\;
    W' x = W x \\;\\text{ for } x \\text{ in the span of } V$$

    x is what a matrix reads on the rows to protect: those of an earlier task, or of what the model must go on knowing. The LoRA moves in
    what is orthogonal to them only, so that what was learnt before is not written over, and no row of it is shown again [P]. If V holds
    all that the rows say, these rows are answered as before, block by block up to the head, however long the run [D]; in half precision
    up to its rounding [D].

    V takes as many directions of each matrix as hold 95 % of what it reads [REC], 256 at most, and leaves as many open as the rank [O]:
    a set of rows that is wide enough speaks along all directions, and then nothing could be learnt. What lies outside V is not protected:
    on a toy whose rows fit into V the logits moved by 0.6 with LoRA, by 0.4 with 95 %, 0.2 with 99 %, and by 0.000002 with all of it [V].
    The more is protected, the less the model can learn from rows that are like them.

    The authors have a second adapter beside this, which moves inside the span of V for the new task alone, and a memory that sets how
    much either says to an input [P]. It must guess which task an input belongs to, and is not here. Saved is a plain LoRA.
    """

    data: str = knob("known", help="name of the data set whose answers are to stay", names="data", label="protected rows")
    share: float = knob(0.95, gt=0, le=1, step=0.01, help="share of what a matrix reads on them that it may not learn from")
    most: int = knob(256, ge=1, le=65_536, help="most directions that are closed to a matrix", log=True, label="most directions", more=True)

    def looks_at(self) -> list[str]:
        if not self.data:
            raise WorkbenchError(
                "DualLoRA protects the answers to some rows, and none are named. Write the name of a data set under protected rows "
                "(adapter.data), such as that of an earlier run."
            )
        return [self.data]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """V of each matrix, (n, k), by its name."""
        low_rank.within(model, self)
        widths, closed = self._widths(model), dict[str, Tensor]()

        def take(name: str, inputs: Inputs) -> None:
            closed[name] = strongest(inputs.second(), self.share, self._room(widths[name]))

        yield from observed(model, widths, evidence.batches(self.data), take)
        return closed

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> BarredAttachment:
        return BarredAttachment(low_rank.wrapped(model, self, seed), learnt)

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if as many directions of each matrix were closed as may be."""
        low_rank.within(model, self)
        held = sum(width * self._room(width) for width in self._widths(model).values())
        return replace(low_rank.cost(model, self), beside=held, studied=4 * held)

    def costs(self) -> str:
        return f"Reads {self.rows} rows to protect before the first step, perhaps several times, and keeps what they say beside the model."

    def _widths(self, model: PreTrainedModel) -> dict[str, int]:
        """How much each matrix reads, by its name."""
        return {name: weight.shape[1] for name, weight in low_rank.upright(model, self.where).items()}

    def _room(self, width: int) -> int:
        """How many directions may be closed to a matrix that reads so many."""
        return min(self.most, width - self.rank)


def strongest(second: Tensor, share: float, most: int) -> Tensor:
    """(n, k) eigenvectors of (n, n), the strongest first, that hold that share of its trace together, `most` of them at most."""
    sizes, directions = torch.linalg.eigh(second.double())  # the smallest first
    sizes = sizes.flip(0)
    held = sizes.where(sizes > ROUNDING * sizes[0], 0).cumsum(0)
    count = int((held < share * (1 - 1e-12) * held[-1]).sum()) + 1
    return directions.flip(1)[:, : min(count, most)].float().contiguous()
