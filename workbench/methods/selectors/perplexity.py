"""Perplexity: rows that a model finds neither too plain nor too odd. No paper.

Tags as in the project's notes: [M→V] measured elsewhere, to be verified, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence

import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

WHAT = "surprise per learnt token, in nats"


class Perplexity(Reads, Selector, title="Perplexity"):
    """Keep the rows whose answer surprises a model neither less nor more than most.

    $$s_i = -\\frac{1}{T_i} \\sum_t \\log p(y_t \\mid x, y_{<t}), \\qquad \\text{perplexity} = e^{s_i}$$

    The mean goes over the tokens that are learnt. The lines are percentiles of these rows and not numbers, because what is much depends on
    the model and on the rows; 5 and 95 % [O]. A line between two rows moves out to the farther one, so that 5 % of five rows is none [O]. A
    row on a line stays, and so does one without a number, of which nothing is learnt: nothing odd was found.

    What surprises most is often broken: cut off, in another language, a wrong answer. It is also what the model has yet to learn; of
    what surprises least much is known by heart. Both ends are worth a look before they go. A short answer has a mean over few tokens, so
    labels and single words stand at both ends.

    One reading of each row: a 24 M model takes 0.3 s of one core for 256 tokens [M→V].

    Source: standard practice, no paper.
    """

    least_percentile: float = knob(5.0, ge=0, le=100, step=0.5, help="the share that surprises least and goes", unit="%", label="least")
    most_percentile: float = knob(
        95.0, ge=0, le=100, step=0.5, help="the share above which a row surprises too much", unit="%", label="most"
    )

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if self.least_percentile >= self.most_percentile:
            raise WorkbenchError(
                f"Perplexity keeps the rows between its two lines, and none lie above {self.least_percentile:g} % and below "
                f"{self.most_percentile:g} %. Set 'least' lower than 'most'."
            )
        surprise = yield from around.surprise(examples, self.model)
        scores = [total / learnt if learnt else math.nan for total, learnt in surprise.tolist()]
        known = torch.tensor([score for score in scores if math.isfinite(score)], dtype=torch.float64)
        if not len(known):
            return Selection([True] * len(scores), {}, scores, (), WHAT)
        least = torch.quantile(known, self.least_percentile / 100, interpolation="lower").item()
        most = torch.quantile(known, self.most_percentile / 100, interpolation="higher").item()
        reasons = dict[int, str]()
        for row, score in enumerate(scores):
            if score < least:
                reasons[row] = f"{WHAT}: {number(score)}, below {number(least)}, where {self.least_percentile:g} % of the rows end"
            elif score > most:
                reasons[row] = f"{WHAT}: {number(score)}, above {number(most)}, where {self.most_percentile:g} % of the rows end"
        cuts = tuple(line for line in (least, most) if known.min() < line < known.max())
        return Selection([row not in reasons for row in range(len(scores))], reasons, scores, cuts, WHAT)
