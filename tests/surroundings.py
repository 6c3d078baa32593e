"""What stands around a selector's rows, given by hand: no model is read and no workspace is opened."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.materials.around import Around, Part
from workbench.materials.pooling import Pooling
from workbench.materials.rows import Example


class Given(Around):
    """`sets` by name; `vectors` and `surprise` by what a row says (`as_text`). What is not given is made up from the text, always alike."""

    def __init__(
        self,
        sets: Mapping[str, Sequence[Example]] | None = None,
        vectors: Mapping[str, Sequence[float]] | None = None,
        surprise: Mapping[str, Sequence[float]] | None = None,
        alone: Mapping[str, Sequence[float]] | None = None,
    ):
        super().__init__(Workspace(Path("nowhere")))
        self.sets, self.given, self.surprises = sets, vectors, {False: surprise, True: alone}

    def rows(self, name: str, asks: str) -> Sequence[Example]:
        if self.sets is None:
            return [Example(text="There, by the river."), Example(text="It is a tale of two towns.")]
        return self.sets[name] if name in self.sets else super().rows("", asks)

    def vectors(self, examples: Sequence[Example], *_: object, **__: object) -> Generator[Progress, None, Tensor]:
        yield Progress(0, len(examples), "rows read")
        rows = [self.given[row.as_text()] if self.given else _made_up(row, 4) for row in examples]
        return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32).reshape(len(rows), -1), dim=-1)

    def surprise(self, examples: Sequence[Example], reader: str = "", alone: bool = False) -> Generator[Progress, None, Tensor]:
        yield Progress(0, len(examples), "rows read")
        given = self.surprises[alone]
        return torch.tensor([list(given[row.as_text()]) if given else [*_made_up(row, 1), 3.0] for row in examples]).reshape(-1, 2)


class Hearing(Given):
    """Notes what is asked for: of vectors (reader, pooling, part), of surprise the reader."""

    def __init__(self, sets: Mapping[str, Sequence[Example]] | None = None):
        super().__init__(sets)
        self.vectors_of, self.surprise_of = list[tuple[str, str, str]](), list[str]()

    def vectors(
        self, examples: Sequence[Example], reader: str = "", pooling: Pooling = "mean", part: Part = "row"
    ) -> Generator[Progress, None, Tensor]:
        self.vectors_of.append((reader, pooling, part))
        return super().vectors(examples)

    def surprise(self, examples: Sequence[Example], reader: str = "", alone: bool = False) -> Generator[Progress, None, Tensor]:
        self.surprise_of.append(reader)
        return super().surprise(examples, reader, alone)


def _made_up(row: Example, width: int) -> list[float]:
    draw = torch.Generator().manual_seed(sum(row.as_text().encode()))
    return torch.rand(width, generator=draw).add(0.1).tolist()
