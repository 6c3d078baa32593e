"""Training whole tensors of the model: the base's own weights move, all of them or some, and others may take their turn.

What it is: the attachment of full tuning and of every adapter that names tensors. What it is not: the choice of them, which is a method's,
or parts of a tensor (`region.py`). A tensor that stands still costs no gradient and no optimizer state; one that has moved keeps what it
learnt when others take their turn, and as it was before lies in main memory, so that the base can be had back.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.materials.attachment import Attachment, Carry, Cost
from workbench.materials.models import layer_of
from workbench.materials.region import cost


def cost_of(model: PreTrainedModel, names: Collection[str], in_turn: bool = False) -> Cost:
    """What it costs that these parameters move; `in_turn`: all of them take their turn."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return cost(model, {name: sizes[name] for name in names}, sum(sizes.values()) if in_turn else 0)


Redraw = Callable[[int], Collection[str] | None]
STILL = "still."  # before the names of those that have moved and do not now, in a state


class WholeAttachment(Attachment):
    """The parameters named move, the others stand still. `redraw(step)` may name others before a step."""

    def __init__(self, model: PreTrainedModel, names: Collection[str], redraw: Redraw | None = None):
        self.model, self._redraw = model, redraw
        self.start = dict[str, Tensor]()
        self._let(names)

    def redraw(self, step: int) -> dict[str, Carry]:
        """Whoever asks what is trained sees other names afterwards; what went on moving stands for the same numbers."""
        names = self._redraw(step) if self._redraw else None
        if names is not None:
            self._let(names)
        return {}

    def moving(self) -> dict[int, float]:
        counts = dict[int, list[int]]()
        for name, parameter in self.model.named_parameters() if self._redraw else ():
            layer = layer_of(name)
            if layer is not None:
                count = counts.setdefault(layer, [0, 0])
                count[0] += parameter.numel() * parameter.requires_grad
                count[1] += parameter.numel()
        return {layer: some / of for layer, (some, of) in counts.items()}

    @contextmanager
    def base(self) -> Iterator[None]:
        tuned = {name: tensor.clone() for name, tensor in self._moved().items()}
        self._put(self.start)
        try:
            yield
        finally:
            self._put(tuned)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder, safe_serialization=True)

    def state(self) -> dict[str, Tensor]:
        moving = {name for name, _ in self.trained()}
        return {name if name in moving else f"{STILL}{name}": tensor for name, tensor in self._moved().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._put(self.start)
        self._let({name.removeprefix(STILL) for name in state})
        self._put({name.removeprefix(STILL): tensor for name, tensor in state.items()})
        self._let({name for name in state if not name.startswith(STILL)})

    def _let(self, names: Collection[str]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)
            if name not in names:
                parameter.grad = None  # else it would be clipped with the others, and moved when its turn comes again
            elif name not in self.start:
                self.start[name] = parameter.detach().to("cpu", copy=True)

    def _moved(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters() if name in self.start}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._moved().items():
            if name in values:
                tensor.copy_(values[name])
