"""What stands around a selector's rows, given by hand: no model is read and no workspace is opened."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.materials.around import Around, Part
from workbench.materials.asking import Draws
from workbench.materials.pooling import Pooling
from workbench.materials.rendering import Messages
from workbench.materials.rows import Example


class Given(Around):
    """`sets` by name; the others by what a row says (`as_text`). What is not given is made up from the text, always alike."""

    def __init__(
        self,
        sets: Mapping[str, Sequence[Example]] | None = None,
        vectors: Mapping[str, Sequence[float]] | None = None,
        surprise: Mapping[str, Sequence[float]] | None = None,
        alone: Mapping[str, Sequence[float]] | None = None,
        gradients: Mapping[str, Sequence[float]] | None = None,
        answers: Mapping[str, Sequence[float]] | None = None,
    ):
        super().__init__(Workspace(Path("nowhere")))
        self.sets, self.given, self.surprises, self.taught = sets, vectors, {False: surprise, True: alone}, gradients
        self.answered = answers

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

    def gradients(
        self, examples: Sequence[Example], reader: str = "", warm: Sequence[Example] = (), adam: bool = False, seed: int = 0
    ) -> Generator[Progress, None, Tensor]:
        yield Progress(0, len(examples), "rows read")
        return torch.tensor([list(self.taught[row.as_text()]) if self.taught else _made_up(row, 4) for row in examples])

    def answers(
        self, examples: Sequence[Example], prompts: Callable[[Example], Sequence[Messages]], draws: Draws, reader: str = ""
    ) -> Generator[Progress, None, Tensor]:
        yield Progress(0, len(examples), "rows read")
        given, asked = self.answered, [len(prompts(row)) for row in examples]
        made_up = ([1, count, round(*_made_up(row, 1)), count * draws.samples] for row, count in zip(examples, asked, strict=True))
        return torch.tensor([given[row.as_text()] for row in examples] if given else list(made_up), dtype=torch.float32)


class Hearing(Given):
    """Notes what is asked for: of vectors (reader, pooling, part), of surprise the reader, of gradients (reader, warm rows, adam, seed),
    of answers (reader, draws)."""

    def __init__(self, sets: Mapping[str, Sequence[Example]] | None = None):
        super().__init__(sets)
        self.vectors_of, self.surprise_of = list[tuple[str, str, str]](), list[str]()
        self.gradients_of, self.answers_of = list[tuple[str, int, bool, int]](), list[tuple[str, Draws]]()

    def vectors(
        self, examples: Sequence[Example], reader: str = "", pooling: Pooling = "mean", part: Part = "row"
    ) -> Generator[Progress, None, Tensor]:
        self.vectors_of.append((reader, pooling, part))
        return super().vectors(examples)

    def surprise(self, examples: Sequence[Example], reader: str = "", alone: bool = False) -> Generator[Progress, None, Tensor]:
        self.surprise_of.append(reader)
        return super().surprise(examples, reader, alone)

    def gradients(
        self, examples: Sequence[Example], reader: str = "", warm: Sequence[Example] = (), adam: bool = False, seed: int = 0
    ) -> Generator[Progress, None, Tensor]:
        self.gradients_of.append((reader, len(warm), adam, seed))
        return super().gradients(examples)

    def answers(
        self, examples: Sequence[Example], prompts: Callable[[Example], Sequence[Messages]], draws: Draws, reader: str = ""
    ) -> Generator[Progress, None, Tensor]:
        self.answers_of.append((reader, draws))
        return super().answers(examples, prompts, draws)


def _made_up(row: Example, width: int) -> list[float]:
    draw = torch.Generator().manual_seed(sum(row.as_text().encode()))
    return torch.rand(width, generator=draw).add(0.1).tolist()
