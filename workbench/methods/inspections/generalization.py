"""Generalization: what tuning did to the answers of its own task, beside what it did to those of other data sets.

The grid of Unveiling the Generalization Power of Fine-Tuned Large Language Models, NAACL 2024. What it is not: a benchmark, whose answers
are judged by rules of its own, or the paper's way of tuning with examples in the prompt.
Tags as in the project's notes: [P] abstract, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.answered import judged
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

HELD = "held back"  # what the rows of no name are called
GRID = ["model", "data set", "rows", "change of the loss (nats)", "standard error", "loss in the base", "loss", "change of right answers",
        "right in the base", "right"]  # fmt: skip


class Generalization(LooksAtRows, Inspection, title="Generalization (what else changed)", paper="arXiv:2403.09162"):
    """See in one grid what tuning gained on its own task and what it gained or lost on others.

    $$c = \\frac{1}{N} \\sum_n \\big( \\ell^1_n - \\ell^0_n \\big), \\qquad \\ell_n = -\\frac{1}{T} \\sum_t \\log p(y_t \\mid x, y_{<t})$$

    A cell is the tuned model less the base on one data set [P]: of the loss of the rows' own answers, where less is better, and of the
    share that would be answered word for word, where more is [O]. An answer is right if each of its tokens is the likeliest, which is what
    the model says when nothing is left to chance [D]; for long answers with many ways to say them the loss tells more.

    Put the task's own rows first (empty takes what the runs held back), then data sets of the same task from elsewhere, then of other
    tasks. Models tuned to write and models tuned to classify carry over differently, the authors find, and examples in the prompt while
    tuning help the former [P]. The standard error of a change is over the rows, each held against itself: what is less than two of them
    from 0 may be chance. Paper: arXiv:2403.09162.
    """

    pictures = (
        Picture(
            "grid", "heat", "Change of the loss: below 0 is better", x="data set", y="model", value="change of the loss (nats)", each=""
        ),
        Picture("grid", "heat", "Change of right answers", x="data set", y="model", value="change of right answers", each=""),
    )
    still = {"change of the loss, own task": 0.0}

    others: str = knob("", names="data", help="data sets beside the task's own, commas between them", label="other data sets")

    def looks_at(self) -> list[str]:
        return list(dict.fromkeys([self.rows, *(name.strip() for name in self.others.split(",") if name.strip())]))

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows of each data set once with each model, the base too; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        base, grid, numbers, says = dict[str, Tensor](), list[list[Any]](), dict[str, dict[str, float]](), list[str]()
        for name in self.looks_at():
            base[name] = yield from self._judged(subject, subject.base, subject.refs[0].label, name)
        for number, label in enumerate(subject.labels):
            changes = dict[str, Tensor]()
            for name, before in base.items():
                own = yield from self._judged(subject, subject.tuned(number), label, name)
                changes[name] = own - before
                grid.append([label, name or HELD, *_cell(own, before)])
            numbers[label] = _numbers(self.rows, changes)
            says.append(_said(label, self.rows or "the rows held back", numbers[label], len(changes) - 1))
        return Finding(says, [Table("grid", GRID, grid)], numbers)

    def _judged(self, subject: Subject, model: PreTrainedModel, label: str, name: str) -> Generator[Progress, None, Tensor]:
        """(N, 2) of each row its loss, and 1 where its answer is the model's."""
        batches, found = subject.evidence.batches(name), list[Tensor]()
        for done, batch in enumerate(batches):
            yield Progress(done, len(batches), f"rows of {name or HELD} read by {label}")
            logps, right = judged(model, batch)
            found.append(torch.stack([-logps, right], 1).cpu())
        return torch.cat(found)


def _cell(own: Tensor, before: Tensor) -> list[Any]:
    """What stands in the grid behind model and data set; the standard error is None for one row."""
    change, count = (own - before)[:, 0], len(own)
    error = float(change.std()) / math.sqrt(count) if count > 1 else None
    (loss, right), (first, rightly) = own.mean(0).tolist(), before.mean(0).tolist()
    return [count, float(change.mean()), error, first, loss, right - rightly, rightly, right]


def _numbers(task: str, changes: dict[str, Tensor]) -> dict[str, float]:
    means = {name: change.mean(0).tolist() for name, change in changes.items()}
    found = {"change of the loss, own task": means[task][0], "change of right answers, own task": means[task][1]}
    others = [mean for name, mean in means.items() if name != task]
    if others:
        found["change of the loss, elsewhere"] = sum(loss for loss, _ in others) / len(others)
        found["change of right answers, elsewhere"] = sum(right for _, right in others) / len(others)
    return found


def _said(label: str, task: str, numbers: dict[str, float], others: int) -> str:
    own = f"{label} changed the loss on {task} by {numbers['change of the loss, own task']:+.3g} nats a token"
    if not others:
        return f"{own}; name other data sets to see what it did elsewhere."
    sets = "another data set" if others == 1 else f"{others} other data sets, on average"
    return f"{own}, and by {numbers['change of the loss, elsewhere']:+.3g} on {sets}."
