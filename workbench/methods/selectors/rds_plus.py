"""RDS+: for each row of a target set in turn, the row that is most like it by what a model makes of both.

Large-Scale Data Selection for Instruction Tuning, Ivison, Zhang, Brahman, Koh and Dasigi, 2025. arXiv:2503.01807. Tags as in the project's
notes: [R] read in the published code (hamishivi/automated-instruction-selection), [O] our own choice.
"""

from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.materials.around import Around
from workbench.materials.overlap import need_text
from workbench.materials.ranking import budget
from workbench.materials.rows import Example
from workbench.materials.shares import Shared, shared
from workbench.methods.contracts import Selection, Selector


class RdsPlus(Reads, Selector, title="RDS+: nearest to a target in turn", paper="arXiv:2503.01807"):
    """Let each row of a target set take in turn the row that is most like it and that no other has taken.

    $$z(x) = \\frac{\\sum_t t \\, h_t}{\\lVert \\sum_t t \\, h_t \\rVert}, \\quad x_j = \\arg\\max_{x \\text{ free}} z(x) \\cdot z(v_j)$$

    h are the last hidden states of a model over the tokens t of a text, of which later ones count more, because they have seen more [R].
    The rows v of the target take turns in their order until the share is reached [R], so that every kind of row in the target gets as
    much as any other; a target with more rows than are wanted is served up to that row. Good where a small set shows what the model is to
    be good at: a few dozen rows of each kind.

    The set that is measured with is no target: what is taken would be its near copies. Take other rows of the same kind, and put
    decontamination behind this step. Drop copies before it, or all copies of a good row are taken one after another.

    Each row is read once by the model; comparing takes N times M times the width of the model, in blocks.
    """

    target: str = knob("", help="name of the data set whose rows take turns", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    text: Literal["row", "question", "answer"] = knob("row", help="which text is compared: the whole row, its question, or its answer")

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted = around.rows(self.target, self.title())
        need_text(wanted, self.text)
        if not len(examples):
            return Selection([])
        targets = yield from around.vectors(wanted, self.model, "weighted", self.text)
        vectors = yield from around.vectors(examples, self.model, "weighted", self.text)
        turns = yield from shared(
            lambda start, stop: targets[start:stop] @ vectors.T, len(targets), len(vectors), budget(self.share, len(examples))
        )
        return self._selection(turns, len(examples))

    def _selection(self, turns: Shared, count: int) -> Selection:
        kept, last, reasons = [False] * count, turns.last(), dict[int, str]()
        for row, _, _ in turns.taken:
            kept[row] = True
        for row, (alike, asker) in enumerate(zip(turns.best.tolist(), turns.asker.tolist(), strict=True)):
            if not kept[row]:
                took = f"took rows down to {last[asker]:.3f}" if asker in last else "had no turn"
                reasons[row] = f"is most like row {asker + 1} of {self.target or 'the target'}, at {alike:.3f}, which {took}"
        return Selection(kept, reasons, turns.best.tolist(), (), "likeness to the nearest row of the target")
