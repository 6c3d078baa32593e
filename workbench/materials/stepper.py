"""An update at work on the numbers that move (contract in `methods/contracts.py`): it owns the optimizer's state.

What it is not: an optimizer; those are torch's (`optimizers.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from workbench.materials import optimizers
from workbench.materials.attachment import Carry


class Stepper(ABC):
    """Moves once a step, and can be taken up where it stood."""

    @abstractmethod
    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        """Move once along the gradients with the learning rate at `rate` (0 to 1) of its peak; named floats to plot.

        `again()` gives what is made smaller, on the same batches where the parameters are now, and puts its gradients in place of those
        there are. For an update that is `forward_only` it takes no gradients, and `loss` is among the floats.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Resume exactly: the next step equals the step that would have followed."""

    @abstractmethod
    def within(self) -> Iterable[Optimizer]:
        """The torch optimizers that hold its moments."""

    def carry(self, parameter: nn.Parameter, carry: Carry) -> None:
        """The parameter stands for other numbers now (`Attachment.redraw`): its moments become those of these."""
        for optimizer in self.within():
            optimizers.carry(optimizer, parameter, carry)

    def inherit(self, older: "Stepper") -> None:
        """Go on with what an older one knew of the parameters that both move."""
        known = {parameter: held for optimizer in older.within() for parameter, held in optimizer.state.items()}
        for optimizer in self.within():
            for group in optimizer.param_groups:
                optimizer.state.update({parameter: known[parameter] for parameter in group["params"] if parameter in known})
