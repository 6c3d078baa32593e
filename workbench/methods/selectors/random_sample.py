"""A random sample: some of the rows, by a seed. What every selection is to be held against. No paper."""

from collections.abc import Generator, Sequence

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.corpus import digest
from workbench.materials.ranking import best
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class RandomSample(Selector, title="Random sample"):
    """Keep a random share of the rows, or so many of them.

    Each row is given a place u between 0 and 1 by a hash of the seed and of what it says, and the rows with the lowest places stay.
    So a smaller sample is part of a larger one, a row that comes or goes before this step moves no other, and copies stay or go together.

    What a selection is worth shows beside as many rows drawn at random: many a clever one is not better. It is also the quickest
    way to a small set to try things on. To learn how the loss falls with the number of rows, set "rows learnt from" in the recipe
    instead: it leaves the validation rows as they are, and a step does not.

    Source: standard practice, no paper.
    """

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    rows: int = knob(0, ge=0, le=1_000_000_000, help="so many rows instead; 0 goes by the share", log=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows stay", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        places = list[float]()
        for row, example in enumerate(examples):
            if row % 1000 == 0:
                yield Progress(row, len(examples), "rows drawn")
            places.append(digest(f"{self.seed}\n{example.as_text()}") / 2**64)
        share = self.rows / max(1, len(places)) if self.rows else self.share
        return best(places, min(1.0, share), "place in the draw", lowest=True)
