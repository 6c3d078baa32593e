"""An adapter at work on one model: what may move, how to answer without it, how it is saved and taken up again.

What it is not: the choice of what may move, which is an adapter's (`methods/adapters/`, contract in `methods/contracts.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor, nn

from workbench.materials.lora import Lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Carry = Callable[[Tensor], Tensor]
"""From the moments of the numbers that a parameter stood for to those of the numbers that it stands for now."""


Choice = TypeVar("Choice")


def in_turn(every: int, choose: Callable[[int], Choice]) -> Callable[[int], Choice | None]:
    """What to do before a step (from 1): `choose(n)` before the first step of the n-th turn (from 1) of `every` steps; never with 0."""
    return lambda step: choose((step - 1) // every) if every and step > 1 and (step - 1) % every == 0 else None


class Batched(Protocol):
    """Rows by the name of their data set, as `materials/evidence.py` has them."""

    def batches(self, name: str = "", size: int = 8) -> list[dict[str, Tensor]]: ...


class Resting(Protocol):
    """What can be told to let the model answer as if it were alone."""

    still: bool


@contextmanager
def resting(modules: Iterable[Resting]) -> Iterator[None]:
    """For the length of a `with`, the modules let the model answer as if it were alone."""
    every = list(modules)
    for module in every:
        module.still = True
    try:
        yield
    finally:
        for module in every:
            module.still = False


@dataclass(frozen=True)
class Cost:
    """What an adapter moves on one model, in counts of parameters."""

    trained: int
    total: int
    by_module: list[tuple[str, int, int, int]]  # (module, layer or -1 outside the blocks, parameters that move, parameters there)
    in_turn: int = 0  # how many will have moved by the end, where others take their turn
    beside: int = 0  # numbers that are held beside the model and do not move
    saved: int = 0  # numbers in the file that is saved, where they are not those that move
    added: int = 0  # numbers of `total` that the model has more than before
    kept: int = 0  # numbers a token that it keeps for the backward pass, where it is not made of factors beside matrices
    gathered: int = 0  # numbers of whole gradients that are there at once, where it keeps a few rows of a large table
    late: bool = False  # whether it speaks where a block ends: the lowest of its blocks then keeps nothing but what it keeps itself
    studied: int = 0  # bytes of what it finds before the first step, in a file that is kept beside the checkpoint

    @property
    def moved(self) -> int:
        """How many will have moved by the end."""
        return max(self.trained, self.in_turn)


class Attachment(ABC):
    """An adapter at work on one model. `model` is the transformers model with the adapter's layers in place."""

    model: PreTrainedModel

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer: exactly the numbers that may move, each once."""
        return [{"params": [parameter for _, parameter in self.trained()]}]

    @abstractmethod
    def base(self) -> AbstractContextManager[None]:
        """For the length of a `with`, `model` answers as it did before training."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was learnt as safetensors into an existing empty folder that transformers or peft loads."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The numbers that moved, by name; enough to go on after a stop."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None: ...

    def heed(self, earlier: Lora) -> None:
        """Called once, before anything is trained or taken up, with the LoRA that the adapter goes by (`Adapter.earlier`)."""

    def look(self, evidence: Batched) -> None:
        """Called once, before anything is trained or taken up, with the rows that the adapter looks at (`Adapter.looks_at`), where it looks
        at them again on the way; the same in a run that goes on."""

    def meet(self, tasks: Sequence[str]) -> None:
        """Called once, before anything is trained or taken up, with the names of the tasks that rows may belong to."""

    def hear(self, tasks: Tensor | None) -> None:
        """Called before a batch is read, with (B, T) the task of each token, counted as in `meet`, −1 where there is none, and with None
        where nobody knows them."""

    def next_link(self) -> None:
        """Called between the parts of a run that is divided (`Adapter.links`): what was learnt stays, and something new may move."""

    def redraw(self, step: int) -> dict[str, Carry]:
        """Called before the gradients of a step are taken: names of what is trained that stand for other numbers from now on, each with
        what its moments in an optimizer become. What is trained may be others altogether afterwards. Most adapters never do either."""
        return {}

    def moving(self) -> dict[int, float]:
        """By block, the share of its numbers that move now, where that changes as a run goes on; nothing where it does not."""
        return {}

    def tallies(self) -> Sequence[Tensor]:
        """Sums over the tokens of a step that `before_step` goes by. Where several processes share the step, what all of them counted is
        added up in place before it is called."""
        return ()

    def loads(self) -> list[float]:
        """How the tokens of the last step were shared out among experts, a share for each; nothing where there are none."""
        return []

    def notes(self) -> list[str]:
        """What a person should know of what moves here, a sentence each; told once, when a run begins."""
        return []

    def dense(self, displacement: dict[str, Tensor]) -> dict[str, Tensor]:
        """A step of what is trained, by name, as one of the model's own parameters; the same where these are what is trained."""
        return displacement

    def before_step(self, step: int) -> None:
        """Called when the gradients of a step are complete."""

    def after_step(self, step: int) -> None:
        """Called when the parameters have moved."""

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that may move, by name."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
