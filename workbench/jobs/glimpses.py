"""One model as far as it has been tried: some rows of every task, and answers as they grow, so that nobody has to wait for all of it.

What it is not: what a task is and what counts as right (`jobs/scoring.py`), or how many rows are read before somebody is told
(`jobs/tasting.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.jobs.scoring import Score, Task, share_right
from workbench.materials.aloud import growing
from workbench.materials.odds import label_logp
from workbench.materials.packing import IGNORED

LONGER = 4  # tokens more than the longest right answer has that a model may say


@dataclass
class Glimpse:
    """`model` gives the model with its weights in place. `read`: by task, of each row read the nats and the tokens that are learnt;
    `said`: by task the answers so far, None before the first token; `ended`: they are whole."""

    model: Callable[[], PreTrainedModel]
    read: list[list[tuple[float, int]]] = field(default_factory=list)
    said: list[list[str]] | None = None
    ended: bool = False
    rows: int = 0  # of each task, as far as it has them

    def look(self, tasks: Sequence[Task], rows: int) -> None:
        """Read each task's rows as far as the `rows`-th, but for those that were read already."""
        self.read = self.read or [[] for _ in tasks]
        for task, own in zip(tasks, self.read, strict=True):
            part = {name: tensor[len(own) : rows] for name, tensor in task.rows.items()}
            if len(part["labels"]):
                own += _read(self.model(), part)
        self.rows = max(self.rows, rows)

    def speak(self, tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
        """Answer the questions of every task, all at once; a breath after each token."""
        asked = [question for task in tasks for question in task.questions]
        most = max((len(tokenizer(question.wanted)["input_ids"]) for question in asked), default=0) + LONGER
        for texts in growing(self.model(), tokenizer, [question.ids for question in asked], most) if asked else [[]]:
            said = iter(texts)
            self.said = [[next(said) for _ in task.questions] for task in tasks]
            yield
        self.ended = True

    def scores(self, tasks: Sequence[Task], rows: int) -> list[Score]:
        """On each task the loss over its first `rows` rows, and what is right of its answers once they are whole."""
        losses = self.losses(rows)
        right = [share_right(task, said) for task, said in zip(tasks, self.said or [], strict=True)] if self.ended else [None] * len(tasks)
        return [Score(loss, own) for loss, own in zip(losses, right, strict=True)]

    def losses(self, rows: int) -> list[float]:
        """Nats a token over the first `rows` rows of each task."""
        parts = [own[:rows] for own in self.read]
        return [sum(nats for nats, _ in own) / sum(count for _, count in own) for own in parts]


@torch.no_grad()
def _read(model: PreTrainedModel, rows: dict[str, Tensor]) -> list[tuple[float, int]]:
    """(nats, tokens) of each row, which are read together, with no more padding than they need."""
    longest = int(rows["attention_mask"].sum(1).max())
    rows = {name: tensor[:, :longest].to(model.device) for name, tensor in rows.items()}
    counts = (rows["labels"][:, 1:] != IGNORED).sum(1).tolist()
    parts = label_logp(model, rows).double().split(counts)
    return [(-float(part.sum()), count) for part, count in zip(parts, counts, strict=True)]
