"""Small modules that stand beside a model's own and change what these say by forward hooks; the model's weights stay as they are.

What it is: what such a module must be able to do, and how it is put on a model. What it is not: the modules (such as
`bottleneck.py`), or their training and their files (`inserted.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from torch import nn
from transformers import PreTrainedModel

CHILD = "beside"  # by this name it hangs under its host, where probes find what is trained among the model's own parameters


class Beside(nn.Module, ABC):
    """One module beside a host. Its numbers are float32, whatever the model's are."""

    def __init__(self) -> None:
        super().__init__()
        self.still = False  # whether the host answers as if it were alone

    @classmethod
    @abstractmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        """One that fits the module of that name, on the CPU.

        Raises:
            WorkbenchError: none fits there.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `at` was told, as JSON holds it."""

    @abstractmethod
    def hook(self, host: nn.Module) -> None:
        """Register what lets it speak, as bound methods: these are right in a copy of the model too."""


def hang(model: PreTrainedModel, modules: Mapping[str, Beside]) -> None:
    """Put each beside the module of its name; one that stands there already goes on speaking."""
    for name, module in modules.items():
        host = model.get_submodule(name)
        before = sum(isinstance(child, Beside) for child in host.children())
        host.add_module(f"{CHILD}{before or ''}", module.to(model.device))
        module.hook(host)
