"""LESS: the rows whose gradients point where those of a target set do. The gradients are `materials/gradients.py`.

LESS: Selecting Influential Data for Targeted Instruction Tuning, Xia, Malladi, Gururangan, Arora and Chen, 2024. arXiv:2402.04333. Tags as
in the project's notes: [A] abstract only, [R] read in published code (princeton-nlp/LESS), [K] known, [V] measured by us, [O] our choice.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.materials.around import Around
from workbench.materials.gradients import drawn, nearest, there
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class Less(Reads, Selector, title="LESS: gradients that agree with a target", paper="arXiv:2402.04333"):
    """Keep the rows that would move a model the way the rows of a target set would.

    $$s_i = \\max_k \\frac{1}{|T_k|} \\sum_{v \\in T_k} \\frac{\\Gamma_i \\cdot g_v}{\\lVert \\Gamma_i \\rVert \\, \\lVert g_v \\rVert},
    \\qquad \\Gamma_i = \\frac{\\beta_1 m + (1 - \\beta_1) g_i}{\\sqrt{\\beta_2 v + (1 - \\beta_2) g_i^2 + \\varepsilon}}$$

    g is the gradient of a row's mean loss on a small LoRA, and Γ the way that Adam would step for it, from the moments m and v that a short
    warm-up left [R]. Only directions count: by lengths short answers would win, whose gradients are longer [K]. T are the kinds of rows in
    the target, by a column; a row is as good as it is for the kind that it helps most, so that each kind finds its own.

    Theirs is a LoRA of rank 128 with four states of a warm-up on 5 % of the rows, and 8,192 random numbers for a row [R]. Ours has rank 8
    beside queries and values, the last state alone, of a warm-up on 32 to 1,024 rows, and 1,024 numbers: a score for one row of the target
    is off by about 0.03, for the mean of many by less [O].

    The paper keeps 5 %, which often teaches more of the target than all rows do [A]. It finds what helps in the way that the target's rows
    do and not what looks like them: answers of one form more than questions of one subject. It knows nothing of variety, and takes all
    copies of a good row: drop copies first. The set that is measured with is no target; put decontamination behind this step. RDS+ costs a
    quarter and is often as good [R].

    Each row is read forth and back, and the warm-up sees its rows four times: some three plain readings of a row, four or more where there
    are few rows or the vocabulary is large; 2.2 on the demo model, without the warm-up [V].
    """

    passes = 4

    target: str = knob("", help="name of the data set whose way the rows are to go", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    column: str = knob("", help="the target's column that says which kind a row is of; empty takes all as one kind", label="kinds by")
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the warm-up and the 1,024 numbers", more=True)

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted = around.rows(self.target, self.title())
        kinds = self._kinds(wanted)
        if not len(examples):
            return Selection([])
        warm = yield from drawn(examples, self.seed)
        targets = yield from around.gradients(wanted, self.model, warm, seed=self.seed)
        names, goals = _goals(kinds, targets)
        gradients = yield from around.gradients(examples, self.model, warm, adam=True, seed=self.seed)
        scores, which = yield from nearest(gradients, goals, unit=True)
        found = best(scores.tolist(), self.share, f"agreement with {self.target or 'the target'}")
        if not self.column:
            return found
        most = {row: f"; most with {names[which[row]]!r}" for row in found.reasons if not math.isnan(found.scores[row])}
        return replace(found, reasons={row: why + most.get(row, "") for row, why in found.reasons.items()})

    def _kinds(self, wanted: Sequence[Example]) -> list[str]:
        """Of each row of the target the kind that it is of; those that name none are a kind of their own [O]."""
        if not self.column:
            return [""] * len(wanted)
        found, columns = list[str](), set[str]()
        for row in wanted:
            columns |= row.meta.keys()
            named = row.meta.get(self.column)
            found.append("" if named is None else str(named).strip())
        if found and not any(found):
            raise WorkbenchError(
                f"No row of the target has a column {self.column!r} to tell its kinds by. Write the name of another in the step, or none. "
                f"There are: {', '.join(sorted(columns)) or 'none'}."
            )
        return found


def _goals(kinds: Sequence[str], targets: Tensor) -> tuple[list[str], Tensor]:
    """The K kinds in the order of their names, and (K, D) the mean direction of the rows of each."""
    rows: list[int] = there(targets).tolist()
    directions = torch.nn.functional.normalize(targets[rows].float(), dim=1)
    names = sorted({kinds[row] for row in rows})
    place = {name: kind for kind, name in enumerate(names)}
    of = torch.tensor([place[kinds[row]] for row in rows])
    return names, torch.stack([directions[of == kind].mean(0) for kind in range(len(names))])
