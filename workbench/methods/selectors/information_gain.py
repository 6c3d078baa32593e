"""Information gain: rows on which a step brings the loss of an objective set down, foretold from their words. The gradients are
`materials/gradients.py`, the foretelling is `materials/foretold.py`.

What it is not: the authors' filter. Theirs steps on a row with AdamW and measures; a small convolutional net learns to foretell that from
the model's token embeddings, and rows are left out while the model is trained. A selector holds no model, so that none of it is here.
Tags as in the project's notes: [P] paper, [R] read in the published code (transformers-research-projects), [V] measured by us, [D] our own
derivation, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence

from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.materials.around import Around
from workbench.materials.foretold import fitted
from workbench.materials.gradients import drawn, nearest, there
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

ENOUGH = 0.1  # correlation of what is foretold with what is so, below which nothing is foretold [O]


class InformationGain(Reads, Selector, title="Information gain, after the idea of IGF", paper="arXiv:2005.00175"):
    """Find out on some rows how far a step on each would bring the loss of an objective set down, and keep the rows that promise most.

    $$\\mathrm{IG}(x) = \\Lambda(O; \\theta) - \\Lambda(O; \\theta \\oplus x) \\approx \\eta \\, \\nabla \\Lambda(O) \\cdot
    \\frac{\\nabla \\ell(x)}{\\lVert \\nabla \\ell(x) \\rVert}, \\qquad q(x) = b + \\frac{1}{\\sqrt n} \\sum_{w \\in x} q_w$$

    θ ⊕ x is the model after a step on x alone, and Λ its mean loss on the set O [O]; the authors take perplexity [R]. The first order is
    that of a small step [D], of one length for all rows, as theirs is, which is AdamW's first [O]. Only a sample is read by the model; from
    it is learnt what each of a row's n words and pairs of words is worth, and that foretells the gain of all rows. Where there are no
    more rows than are sampled, nothing is foretold, and the gains themselves decide.

    The page says how well it foretells: the correlation over sampled rows of which each was left out once. Below 0.1 it stops. It sees
    words alone: what makes one row of a kind better than the next it cannot know, and it may take all of a kind. Take LESS or first-order
    influence where all rows can be read. Drop copies first; the set that is measured with is no objective set.

    The authors keep what lies one standard deviation above the mean, later one below: 16 and 84 % of a bell curve [R]. GPT-2 tuned on books
    then ends at a perplexity of 54.0 instead of 57.3 [P].

    Some three plain readings of each sampled row and of the objective set, 2.2 on the demo model [V], and one pass over the words of all
    rows.
    """

    passes = 3

    target: str = knob("", help="name of the data set whose loss is to fall", names="data", label="objective set")
    share: float = knob(0.16, gt=0, le=1, step=0.01, help="share of the rows that stay")
    sample: int = knob(1000, ge=0, le=2000, help="rows that the model reads, from which the others are foretold; 0 reads all of them")
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the sample, the directions and the 1,024 numbers", more=True)

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def seen(self, rows: int) -> int:
        return min(rows, self.sample or rows)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted, what = around.rows(self.target, self.title()), f"gain on {self.target or 'the objective set'}"
        if not len(examples):
            return Selection([])
        targets = yield from around.gradients(wanted, self.model, seed=self.seed)
        goal = targets[there(targets)].float().mean(0, keepdim=True)
        if not 0 < self.sample < len(examples):
            return best((yield from self._gains(examples, goal, around)).tolist(), self.share, what)
        read = yield from drawn(examples, self.seed, self.sample, self.sample)
        gains = yield from self._gains(read, goal, around)
        has = gains.isfinite().nonzero()[:, 0].tolist()
        line = fitted([read[row].as_text() for row in has], gains[has])
        if not line.sure >= ENOUGH:
            raise WorkbenchError(
                f"What rows say does not foretell their gain: over the {len(has):,} that were read, what was foretold has a correlation of "
                f"{_told(line.sure)} with what is so. Read more rows, or all of them with a sample of 0."
            )
        found = yield from line.foretold((row.as_text() for row in examples), len(examples))
        return best(found.tolist(), self.share, f"{what}, foretold with a correlation of {_told(line.sure)}")

    def _gains(self, rows: Sequence[Example], goal: Tensor, around: Around) -> Generator[Progress, None, Tensor]:
        """(N,) by how much a step of length 1 on each row lowers the loss of the objective set, to first order."""
        gradients = yield from around.gradients(rows, self.model, seed=self.seed)
        return (yield from nearest(gradients, goal, unit=True))[0]


def _told(correlation: float) -> str:
    return "no number" if math.isnan(correlation) else f"{correlation:.2f}"
