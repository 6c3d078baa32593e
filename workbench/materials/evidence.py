"""Rows that an adapter looks at before the first step, and how it reads them: a tensor at a time, nothing kept that is not asked for.

What it is: batches of encoded rows, the gradients of the weights on them, and what the linear layers read. What it is not: which rows
(`jobs/studying.py`), or what is made of them (`methods/adapters/`). The model is as it was afterwards, and no random state is touched.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.materials.models import label_table
from workbench.materials.packing import IGNORED, pad
from workbench.materials.templates import Encoded

Learnt = Mapping[str, Tensor]
"""What was found in the rows, by names of the adapter's own choice; kept with the run, so that a resumed run does not look again."""
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Evidence:
    """`rows`: by the name of the data set, "" for the rows that are trained on, some of each drawn at random."""

    rows: Mapping[str, Sequence[Encoded]]
    pad_id: int
    device: torch.device

    def batches(self, name: str = "", size: int = 8) -> list[Batch]:
        """`input_ids`, `attention_mask` and `labels`, (B, T) each; a row alone with `size` 1."""
        rows = self.rows[name]
        made = [pad(rows[start : start + size], self.pad_id) for start in range(0, len(rows), size)]
        return [{key: tensor.to(self.device) for key, tensor in batch.items()} for batch in made]


def surprise(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The mean cross-entropy of the tokens that are learnt, with its graph."""
    labels = batch["labels"][:, 1:]
    learnt = labels[labels != IGNORED]
    return -label_table(model, batch).gather(-1, learnt[:, None]).mean()


def gradients(
    model: PreTrainedModel, names: Collection[str], batches: Sequence[Batch], take: Callable[[str, Tensor], None], what: str = "rows read"
) -> Generator[Progress, None, None]:
    """`take(name, gradient)` for each of the parameters, once for each batch, of the mean surprise; one gradient exists at a time."""
    with _only(model, names, take):
        for number, batch in enumerate(batches):
            yield Progress(number, len(batches), what)
            surprise(model, batch).backward()


def inputs(
    model: PreTrainedModel, names: Collection[str], batches: Sequence[Batch], take: Callable[[str, Tensor], None], what: str = "rows read"
) -> Generator[Progress, None, None]:
    """`take(name, x)` for each of the linear layers, by module name, once for each batch: (tokens, n) what it reads, without padding."""
    at_work: list[Batch] = []

    def listener(name: str) -> Callable[..., None]:
        return lambda module, given: take(name, given[0][at_work[-1]["attention_mask"].bool()])

    hooks = [model.get_submodule(name).register_forward_pre_hook(listener(name)) for name in names]
    try:
        for number, batch in enumerate(batches):
            yield Progress(number, len(batches), what)
            at_work[:] = [batch]
            with torch.no_grad():
                model.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _only(model: PreTrainedModel, names: Collection[str], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """For the length of a `with`, only these parameters have gradients, which are given to `take` and let go."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    hooks = []

    def taker(name: str) -> Callable[[nn.Parameter], None]:
        def taken(parameter: nn.Parameter) -> None:
            assert parameter.grad is not None
            take(name, parameter.grad)
            parameter.grad = None

        return taken

    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
            if name in names:
                hooks.append(parameter.register_post_accumulate_grad_hook(taker(name)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, moves in wanted.items():
            parameter.requires_grad_(moves)
