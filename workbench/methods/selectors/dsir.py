"""DSIR: rows drawn so that their words and pairs of words fall as those of a target set do.

Data Selection for Language Models via Importance Resampling, Xie, Santurkar, Ma and Liang, 2023. arXiv:2302.03169. Tags as in the project's
notes: [R] read in the published code (p-lambda/dsir), [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.buckets import summed, tallied
from workbench.materials.overlap import need_text
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

FLOOR = 1e-8  # share of a bucket in which nothing fell [R]


class Dsir(Selector, title="DSIR: resampling towards a target", paper="arXiv:2302.03169"):
    """Draw the rows whose words and pairs of words are more frequent in a target set than in this one.

    $$\\log w(x) = \\sum_b c_b(x) \\, [\\log(p_b + \\epsilon) - \\log(q_b + \\epsilon)]$$

    c counts a row's words and pairs of words in 10,000 buckets b, p and q are the shares of the buckets in the target set and in this
    one, ε is 1e-8 [R]. Noise is added to log w (Gumbel's), and the rows with the largest sums stay, which draws them by w without putting
    any back. Good for taking what is of the target's subject and manner out of a large mixed heap, without any model.

    log w adds up over the words: long rows lie far from 0, so that long ones lead where they fit and short ones where few fit, and the
    noise hardly matters. Per word, length does not count, but the noise is then larger than the differences: take the highest without
    noise. With a small target most buckets are empty, and one word that it does not have costs a row as much as many that it has bring:
    give each bucket something beforehand. The authors also drop rows of fewer than 100 words [R], which we do not: answers are short [O].
    A row without words has no weight and never stays.

    Three passes without a model: one over the target, two over the rows.
    """

    target: str = knob("", help="name of the data set whose rows are to be matched", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    text: Literal["row", "question", "answer"] = knob("row", help="which text is compared: the whole row, its question, or its answer")
    top: bool = knob(False, help="take the highest weights, without chance")
    per_word: bool = knob(False, help="divide a row's log weight by how many words and pairs it has, so that length does not count")
    buckets: int = knob(10_000, ge=100, le=10_000_000, help="into how many buckets words and pairs fall", log=True, more=True)
    smoothing: float = knob(0.0, ge=0, help="added to the count of each bucket in both sets", more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the draw", more=True)

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        target = around.rows(self.target, self.title())
        need_text(target, self.text)
        there = yield from tallied((row.part(self.text) for row in target), len(target), self.buckets)
        here = yield from tallied((row.part(self.text) for row in examples), len(examples), self.buckets)
        worth = self._log_share(there) - self._log_share(here)
        weights, counts = yield from summed((row.part(self.text) for row in examples), len(examples), worth)
        if self.per_word:
            weights = weights / counts
        weights[counts == 0] = math.nan
        if not self.top:
            draw = torch.Generator().manual_seed(self.seed)
            weights -= torch.empty_like(weights).exponential_(generator=draw).log()  # −log of an exponential number is Gumbel's
        what = f"log weight towards the target{' per word' * self.per_word}{', with noise' * (not self.top)}"
        return best(weights.tolist(), self.share, what)

    def _log_share(self, counts: Tensor) -> Tensor:
        counts = counts + self.smoothing
        return (counts / counts.sum().clamp(min=1) + FLOOR).log()
