"""Who speaks token by token: what a decoder is given, and what it makes of it.

What it is not: a model with its cache (`speakers.py`), or a way to choose tokens (`methods/decoders/`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

Blend = Callable[[Tensor, Tensor], Tensor]
"""Of what a block makes of a hidden state with the model's own weights, and of what it makes of it with another's."""


class Prompting:
    """What becomes of a prompt before anybody reads it."""

    def asks(self, prompt: str) -> str:
        """What the models are asked in its place."""
        return prompt


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

    def end(self) -> int | None:
        """The token that ends an answer, if there is one."""
        return None

    def reads(self) -> float:
        """The most tokens that it can read."""
        return math.inf

    def blended(self, other: "Speaker", blend: Blend) -> Voice:
        """Both models, block by block, as one voice with caches of its own: each block of the two reads the same hidden state, and the
        next reads what `blend` makes of what they say. Embeddings, final norm and head are this model's."""
        raise NotImplementedError

    def turned(self, neurons: Mapping[int, Sequence[int]], factor: float) -> Voice:
        """The model with what these neurons of its MLPs say, by layer, times the factor, as one voice with a cache of its own."""
        raise NotImplementedError
