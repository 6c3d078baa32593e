"""First-order influence: what a small step on a row does to the loss of a target set. The gradients are `materials/gradients.py`.

Multi-Stage Influence Function, Chen et al., 2020, arXiv:2007.09081, follows influence through two stages of training with Hessians; here
there are none. What is here is a term of TracIn, Pruthi et al., 2020, arXiv:2002.08484, which adds such terms up over the states of a run.
Tags as in the project's notes: [K] known, [V] measured by us, [D] our own derivation, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.gradients import nearest, there
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class Influence(Reads, Selector, title="First-order influence, after the idea of multi-stage influence", paper="arXiv:2007.09081"):
    """Keep the rows on which a small step lowers the loss of a target set most, and drop those on which it rises.

    $$I(z) = \\frac{1}{|T|} \\sum_{v \\in T} \\nabla \\ell(v) \\cdot \\nabla \\ell(z), \\qquad
    \\ell(v) \\to \\ell(v) - \\eta \\, \\nabla \\ell(v) \\cdot \\nabla \\ell(z)$$

    The second is what a step of plain gradient descent on z with a small rate η does to the loss of v [K]. The paper follows a row's
    influence through pre-training and tuning by what bends the loss (Hessians); this is its first order, in one state of one model [D]:
    the model that reads. Name a run to ask of what that run made. With a target of one row, an answer that a model gave, the rows with the
    most influence are those that would push it there.

    The gradients are those of query and value matrices, seen through 8 random directions each and held in 1,024 numbers, so that a number
    is exact to about 0.03 of the two lengths [O]. Lengths count here, and they should not be trusted far: a row that is wrong, odd or very
    short has a long gradient, and leads or ends the list. Where that is what you see, take LESS, which goes by directions alone. It looks
    one small step ahead, knows nothing of variety, and takes all copies of a good row.

    Each row is read once forth and back: some three plain readings, 2.2 on the demo model [V].
    """

    passes = 3

    target: str = knob("", help="name of the data set whose loss is to fall", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    harmful: bool = knob(True, help="drop every row on which the target's loss would rise, even if fewer stay", label="drop harmful rows")
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the directions and the 1,024 numbers", more=True)

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted = around.rows(self.target, self.title())
        if not len(examples):
            return Selection([])
        targets = yield from around.gradients(wanted, self.model, seed=self.seed)
        goal = targets[there(targets)].float().mean(0, keepdim=True)
        gradients = yield from around.gradients(examples, self.model, seed=self.seed)
        influence, _ = yield from nearest(gradients, goal, unit=False)
        return self._selection(influence.tolist())

    def _selection(self, scores: list[float]) -> Selection:
        target = self.target or "the target"
        what = f"influence on {target}"
        harm = {row: f"{what}: {number(score)}; a step on it makes {target} worse" for row, score in enumerate(scores) if score < 0}
        harm = harm if self.harmful else {}
        found = best([math.nan if row in harm else score for row, score in enumerate(scores)], self.share, what)
        return Selection(found.kept, found.reasons | harm, scores, found.cuts + (0.0,) * bool(harm), what)
