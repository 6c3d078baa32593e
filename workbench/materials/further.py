"""More readings of a training batch, which a loss may ask for beside the plain one. What is disturbed there is the loss's own affair."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch


class Further(ABC):
    """Readings of one batch with something else inside the model. What a context changes, it puts back."""

    @abstractmethod
    def watching(self) -> AbstractContextManager[None]:
        """Around the plain reading, for what has to be measured there."""

    @abstractmethod
    def readings(self, generator: torch.Generator) -> Iterator[AbstractContextManager[None]]:
        """One context for each further reading; `generator` (CPU) is a function of seed and step alone."""
