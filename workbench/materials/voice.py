"""Who speaks token by token: what a decoder is given, and what it makes of it.

What it is not: a model with its cache, which the job makes (`jobs/compare.py`), or a way to choose tokens (`methods/decoders/`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor


class Voice(ABC):
    """Somebody who speaks; what was heard is kept, so a call costs only the tokens that are new."""

    @abstractmethod
    def logits(self, tokens: Sequence[int]) -> Tensor:
        """(V,) next-token logits after all of `tokens`, float32."""


class Speaker(Voice):
    """The voice of one model."""

    @abstractmethod
    def anew(self) -> "Speaker":
        """The same model, having heard nothing; it keeps a cache of its own."""

    @abstractmethod
    def texts(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text."""

    @abstractmethod
    def lent(self, other: "Speaker", named: Callable[[str], bool]) -> AbstractContextManager[None]:
        """For the length of a `with`, the parameters whose names are `named` are the other model's; what was heard before stays heard."""
