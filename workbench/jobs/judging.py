"""What a loss wants to know of the training rows before the first step: their tasks, and what other models make of them.

Costs a forward pass of each judge over all rows, once, and one float a token. Knows no loss by name.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.materials.models import load, resolve, tokenizer
from workbench.materials.odds import label_logp
from workbench.materials.packing import pad
from workbench.materials.templates import Encoded
from workbench.methods.contracts import Loss

AT_ONCE = 16  # rows that a judge reads in one forward pass


@dataclass(frozen=True)
class Known:
    """Of each training row its task, and of each of its learnt tokens a score; `starts` says where a row's scores begin.

    `tasks` holds an index into `names`, (rows,); `scores` is flat and empty where nobody judged.
    """

    names: list[str]
    tasks: Tensor
    starts: Tensor
    scores: Tensor

    def tasks_of(self, batch: dict[str, Tensor]) -> Tensor | None:
        """(B, T) the task of each token of a training batch, −1 for what fills up; of another batch what it says itself, (B, 1)."""
        if "rows" not in batch:
            return batch.get("tasks")
        return self.tasks.to(batch["rows"].device)[batch["rows"]].where(batch["rows"] >= 0, -1)

    def places(self, tasks: Sequence[str]) -> list[int]:
        """Where tasks stand among the names, −1 for one that no training row belongs to."""
        there = {name: place for place, name in enumerate(self.names)}
        return [there.get(task, -1) for task in tasks]

    def scores_of(self, row: Tensor) -> Tensor:
        """(W,) float32 scores of learnt tokens, given the row of each; a row's tokens stand together and in order."""
        if not len(self.scores):
            return torch.zeros(len(row), device=row.device)
        place = torch.arange(len(row), device=row.device)
        begins = torch.ones_like(row, dtype=torch.bool)
        begins[1:] = row[1:] != row[:-1]
        within = place - torch.cummax(place * begins, 0).values
        starts = self.starts.to(row.device)
        length = starts[row + 1] - starts[row]
        return self.scores.to(row.device)[starts[row] + within % length]


def known_of(rows: Sequence[Encoded], tasks: Sequence[str], scores: Tensor) -> Known:
    """From the rows, the name of each row's task, and the scores of all learnt tokens in order."""
    names = sorted(set(tasks))
    places = {name: place for place, name in enumerate(names)}
    counts = torch.tensor([0, *(sum(row.trained[1:]) for row in rows)])
    return Known(names, torch.tensor([places[task] for task in tasks]), counts.cumsum(0), scores)


def judged(
    loss: Loss, base: str, rows: Sequence[Encoded], vocabulary: dict[str, int], workspace: Workspace
) -> Generator[Progress, None, Tensor]:
    """(n,) the loss's scores of all learnt tokens of the rows, in order; empty where the loss asks for no judge.

    Raises:
        WorkbenchError: a judge cannot be had, or has other tokens than the run's model.
    """
    columns = []
    for reference in loss.judges():
        ref = resolve(reference or base, workspace)
        if tokenizer(ref).get_vocab() != vocabulary:
            raise WorkbenchError(
                f"{ref.label} is to judge the rows, but it has other tokens than the model that is trained. "
                "Choose a judge that was tuned from the same model, or that shares its tokenizer."
            )
        columns.append((yield from _read(ref.label, load(ref, torch.device("cpu"), torch.float32), rows)))
    return loss.scores(torch.stack(columns, -1)) if columns else torch.empty(0)


def _read(label: str, model: PreTrainedModel, rows: Sequence[Encoded]) -> Generator[Progress, None, Tensor]:
    """(n,) log-probabilities of all learnt tokens under one model."""
    parts = []
    model.eval()
    for start in range(0, len(rows), AT_ONCE):
        yield Progress(start, len(rows), f"rows read by {label}")
        with torch.no_grad():
            parts.append(label_logp(model, pad(rows[start : start + AT_ONCE], 0)))
    return torch.cat(parts)
