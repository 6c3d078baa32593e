"""Class balance: no class of rows much larger than the smallest. The half of a published mixture that drops rows.

What it is not: a sampler. The other half, showing the rows of small classes more often, is the training loop's (`data.balance`).
Tags as in the project's notes: [P] paper, [R] read in published code.
"""

import math
from collections import Counter
from collections.abc import Generator, Sequence

import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.words import count as counted
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class ClassBalance(Selector, title="Class balance"):
    """Cut every class of rows to at most so many times the smallest class.

    $$n_c \\leftarrow \\min\\left(n_c, \\lfloor r \\cdot n_{\\min} \\rfloor\\right)$$

    A class is what a column says: a source, a language, a label, a skill. Which rows of it stay is drawn with a seed. At r = 1 all classes
    are as large as the smallest. A row without a class stays and is not counted.

    It helps where the large classes drown the small ones, and what counts is the worst of them. It throws rows away: one class of
    three rows cuts all others to a handful, so look at the counts first. The authors cut to 2 to 5 times the smallest class and then draw
    all classes equally often while they train [R]; drawing alone learns the few rows of small classes by heart, the more so with more
    epochs, cutting alone loses what the large ones say, and the two together can beat both [P]. Only the cut is here; the draw is a
    setting of the recipe: name the same column under "draw classes equally".

    Source: a study of group robustness, NeurIPS 2024, whose code is tmlabonte/revisiting-finetuning [R].
    """

    column: str = knob("", help="the column that says which class a row is of; empty takes the file it came from")
    most: float = knob(2.0, ge=1, le=1000, step=0.1, help="how many times the smallest class the others may be", log=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows of a large class stay", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        classes, columns = list[str](), set[str]()
        for row, example in enumerate(examples):
            if row % 1000 == 0:
                yield Progress(row, len(examples), "rows counted")
            columns |= example.meta.keys()
            classes.append(_named(example.meta.get(self.column)) if self.column else example.source or "no file")
        sizes = Counter(name for name in classes if name)
        if len(examples) and not sizes:
            raise WorkbenchError(
                f"{self.title()} goes by the column {self.column!r}, and no row has one. "
                f"Write the name of another in the step, or none. There are: {', '.join(sorted(columns)) or 'none'}."
            )
        return self._selection(classes, sizes)

    def _selection(self, classes: list[str], sizes: Counter[str]) -> Selection:
        smallest = min(sizes, key=lambda name: (sizes[name], name), default="")
        limit = math.floor(self.most * sizes[smallest])
        drawn, reasons = Counter[str](), dict[int, str]()
        for row in torch.randperm(len(classes), generator=torch.Generator().manual_seed(self.seed)).tolist():
            name = classes[row]
            drawn[name] += 1
            if name and drawn[name] > limit:
                reasons[row] = (
                    f"is of {name!r}, which has {counted(sizes[name], 'row')}; {limit:,} of them are drawn, "
                    f"{number(self.most)} times the smallest class, {smallest!r} with {sizes[smallest]:,}"
                )
        return Selection([row not in reasons for row in range(len(classes))], reasons)


def _named(value: object) -> str:
    """The name of a class as a column says it; empty where it says nothing."""
    return "" if value is None else str(value).strip()
