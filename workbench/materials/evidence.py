"""Rows that an adapter looks at before the first step, and how it reads them: a tensor at a time, nothing kept that is not asked for.

What it is: batches of encoded rows or of their prompts, the gradients of the weights on them, and what layers read and write. What it is
not: which rows (`jobs/studying.py`), or what is made of them (`methods/adapters/`). The model is as it was afterwards, and no random state
is touched.
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
    """`rows`: by the name of the data set, "" for the rows that are trained on, some of each drawn at random. `encode`: the tokens of a
    text; none, where there is no tokenizer."""

    rows: Mapping[str, Sequence[Encoded]]
    pad_id: int
    device: torch.device
    encode: Callable[[str], Sequence[int]] = lambda text: ()

    def batches(self, name: str = "", size: int = 8) -> list[Batch]:
        """`input_ids`, `attention_mask` and `labels`, (B, T) each; a row alone with `size` 1."""
        return self._batches(self.rows[name], size)

    def prompts(self, name: str = "", size: int = 8) -> list[Batch]:
        """What stands before the first token that is learnt, or the whole row where nothing does; `last`, (B,), is where it ends."""
        asked = [row.ids[: row.trained.index(True)] if any(row.trained) else [] for row in self.rows[name]]
        texts = [ids or row.ids for ids, row in zip(asked, self.rows[name], strict=True)]
        batches = self._batches([Encoded(ids, [False] * len(ids), 0) for ids in texts], size)
        return [{**batch, "last": batch["attention_mask"].sum(1) - 1} for batch in batches]

    def _batches(self, rows: Sequence[Encoded], size: int) -> list[Batch]:
        made = [pad(rows[start : start + size], self.pad_id) for start in range(0, len(rows), size)]
        return [{key: tensor.to(self.device) for key, tensor in batch.items()} for batch in made]


def some(batch: Mapping[str, Tensor], rows: Tensor) -> Batch:
    """These rows of a batch, in that order, without what fills up all of them."""
    width = int(batch["attention_mask"][rows].sum(1).max())
    return {key: tensor[rows, :width] for key, tensor in batch.items()}


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
    yield from _listened(model, names, batches, lambda name, batch, read, written: take(name, read[batch["attention_mask"].bool()]), what)


def outputs(
    model: PreTrainedModel, names: Collection[str], batches: Sequence[Batch], take: Callable[[str, Tensor], None], what: str = "rows read"
) -> Generator[Progress, None, None]:
    """`take(name, y)` likewise, of what a layer or a block writes: of every token, or of the last where the batch says which that is."""

    def told(name: str, batch: Batch, read: Tensor, written: Tensor) -> None:
        last = batch.get("last")
        take(name, written[batch["attention_mask"].bool()] if last is None else written[torch.arange(len(last), device=last.device), last])

    yield from _listened(model, names, batches, told, what)


def _listened(
    model: PreTrainedModel, names: Collection[str], batches: Sequence[Batch], tell: Callable[[str, Batch, Tensor, Tensor], None], what: str
) -> Generator[Progress, None, None]:
    """A pass without gradients for each batch, in which `tell(name, batch, read, written)` hears the modules of those names."""
    at_work: list[Batch] = []

    def listener(name: str) -> Callable[..., None]:
        def heard(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], made: Tensor | tuple[Tensor, ...]) -> None:
            read = given[0] if given else next(iter(named.values()))  # attention is called by keyword, what it reads comes first
            tell(name, at_work[-1], read, made[0] if isinstance(made, tuple) else made)

        return heard

    hooks = [model.get_submodule(name).register_forward_hook(listener(name), with_kwargs=True) for name in names]
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
    hooks = []

    def taker(name: str) -> Callable[[nn.Parameter], None]:
        def taken(parameter: nn.Parameter) -> None:
            own, parameter.grad = parameter.grad, None
            assert own is not None
            take(name, own)

        return taken

    with still(model):
        try:
            for name in names:
                parameter = model.get_parameter(name).requires_grad_(True)
                hooks.append(parameter.register_post_accumulate_grad_hook(taker(name)))
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def still(model: PreTrainedModel) -> Iterator[None]:
    """For the length of a `with`, no parameter has a gradient; then those that had one have it again."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        yield
    finally:
        for parameter, moves in wanted.items():
            parameter.requires_grad_(moves)
