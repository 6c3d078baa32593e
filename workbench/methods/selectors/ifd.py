"""IFD: rows whose question helps little with their answer, so that there is something to learn. Arithmetic: `materials/following.py`.

Tags as in the project's notes: [P] paper, [R] read in published code, [M→V] measured elsewhere, to be verified, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.following import Ratio, difficulty
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class IFD(Reads, Selector, title="Instruction-following difficulty (IFD)", paper="arXiv:2308.12032"):
    """Keep the rows whose question helps a model least to find the answer, but helps.

    $$s(y \\mid x) = -\\frac{1}{T} \\sum_t \\log p(y_t \\mid x, y_{<t}), \\qquad
    \\mathrm{IFD} = e^{s(y \\mid x) - s(y)} \\;\\text{ or }\\; \\frac{s(y \\mid x)}{s(y)}$$

    The second is that of the paper's code (Cherry LLM), the first that of Superfiltering (arXiv:2402.00530) [R]; they rank differently.
    s(y) is what the answer costs alone: through the same template, with the questions emptied and no system turn [O]. At 1 and above the
    question does not help: question and answer do not belong together, and the row goes [R]. Of the others those with the highest IFD
    stay. A row that has no number (it asks nothing, nothing of it is learnt, or its answer is not read to the end within 1,024 tokens
    together with its question) is dropped, because it cannot be ranked, and the share that stays is a share of all rows.

    The papers keep 5 to 10 %: of Alpaca 5 % teach about as much as all of it, and GPT-2 as the reader is some 20 times faster than a model
    of 7 B [P]. It is meant for instructions; a set of facts, labels or sums has answers that a question gives away, and loses just those.

    Two readings of each row: a 24 M model takes 0.6 s of one core for 256 tokens [M→V].
    """

    passes = 2

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    ratio: Ratio = knob("perplexities", help="what is divided: perplexities as in Superfiltering, or losses", label="ratio of")
    misaligned: bool = knob(True, help="drop rows whose question does not help, with an IFD of 1 or more")

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        asked = yield from around.surprise(examples, self.model)
        alone = yield from around.surprise(examples, self.model, alone=True)
        scores, without = difficulty(asked, alone, self.ratio), dict[int, str]()
        for row, example in enumerate(examples):
            if row % 1000 == 0:
                yield Progress(row, len(examples), "rows looked at")
            if not example.question().strip():
                scores[row], without[row] = math.nan, "it asks nothing"
            elif not asked[row, 1]:
                without[row] = "nothing of it is learnt"
            elif math.isnan(scores[row]):
                without[row] = "its answer is not read to the end together with its question"
        return self._selection(scores, {row: f"IFD: there is none, because {why}" for row, why in without.items()})

    def _selection(self, scores: list[float], without: dict[int, str]) -> Selection:
        against = {row: f"IFD: {number(score)}; its question does not help" for row, score in enumerate(scores) if score >= 1}
        against = against if self.misaligned else {}
        found = best([math.nan if row in against else score for row, score in enumerate(scores)], self.share, "IFD")
        return Selection(found.kept, found.reasons | without | against, scores, found.cuts + (1.0,) * bool(against), "IFD")
