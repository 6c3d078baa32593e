"""A tuned model beside its base, with some of its weights the base's for a while, and how well it foretells rows then.

What it is not: which weights (`methods/inspections/`), or a graft that is kept and merged (`sparse.py`, `singles.py`). Parameters are made
to point at other numbers and then at their own again, so the model comes back to the bit, and nothing is copied that stays.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.evidence import Batch
from workbench.materials.odds import label_logp
from workbench.materials.order import Ranking
from workbench.materials.subject import Subject


class Grafted:
    """The tuned model of that number, and its base, parameter by parameter.

    Raises:
        WorkbenchError: they have not the same parameters.
    """

    def __init__(self, subject: Subject, number: int):
        self.model = subject.tuned(number)
        every = dict(subject.base.named_parameters(remove_duplicate=False))
        self._own = dict(self.model.named_parameters())
        unlike = [name for name, own in self._own.items() if name not in every or every[name].shape != own.shape]
        unlike += [name for name, _ in subject.base.named_parameters() if name not in self._own]
        if unlike:
            raise WorkbenchError(
                f"{subject.labels[number]} and the base do not have the same weights ({unlike[0]} is in one of them alone, or of another "
                "shape), so none can be exchanged. Inspect a model that was tuned from this base, without modules beside its own."
            )
        self._base = {name: every[name].data for name in self._own}

    def pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(name, base's, tuned's) of every parameter; of those that share their numbers once."""
        return ((name, self._base[name], own.data) for name, own in self._own.items())

    @contextmanager
    def put(self, made: Callable[[str, Tensor, Tensor], Tensor]) -> Iterator[PreTrainedModel]:
        """For the length of a `with`, each parameter is what `made(name, base, tuned)` gives."""
        before = {name: own.data for name, own in self._own.items()}
        try:
            for name, own in self._own.items():
                own.data = made(name, self._base[name], own.data)
            yield self.model
        finally:
            for name, own in self._own.items():
                own.data = before[name]

    def cuts(self, ranks: Sequence[int]) -> list[float]:
        """The sizes of change, of all parameters together, at ranks from 1, which is the largest."""
        ranking = Ranking()
        for block in self._sizes():
            ranking.see(block)
        ranking.want(ranks)
        for block in self._sizes():
            ranking.look(block)
        return list(ranking.found())

    def moved(self) -> int:
        """Numbers that are not the base's."""
        return sum(int((own != base).sum()) for _, base, own in self.pairs())

    def count(self) -> int:
        """Numbers in all parameters."""
        return sum(own.numel() for own in self._own.values())

    def _sizes(self) -> Iterator[Tensor]:
        return ((own - base).abs().cpu() for _, base, own in self.pairs())


@torch.no_grad()
def mean_loss(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """The mean cross-entropy over all learnt tokens, in nats."""
    total, tokens = 0.0, 0
    for batch in batches:
        found = label_logp(model, batch)
        total -= float(found.double().sum())
        tokens += len(found)
    return total / tokens


def losses(model: PreTrainedModel, sets: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """The mean loss on each of several sets of rows."""
    return {name: mean_loss(model, batches) for name, batches in sets.items()}


def read_as(label: str, rows: str) -> str:
    """What a model's curve on the rows of a set is called."""
    return f"{label} on {rows or 'what was held back'}"
