"""The slow weights of a run, which follow what is trained and are evaluated and kept in its place. What τ is: `core/averaged.py`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.materials.attachment import Carry

Trained = Sequence[tuple[str, nn.Parameter]]


@dataclass
class Average:
    """`slow`: by parameter, float32, where the parameters are; nothing before the first step, and where none is wanted."""

    slow: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def begin(self, trained: Trained, momentum: float) -> None:
        """Before a step: where the slow weights start, which is where the run stands when they are first wanted."""
        if not momentum:
            self.slow = {}
        elif not self.slow:
            self.slow = {name: parameter.detach().float().clone() for name, parameter in trained}

    @torch.no_grad()
    def follow(self, trained: Trained, momentum: float) -> None:
        """After a step: float32, because in bfloat16 a share of 0.001 would be rounded away."""
        for name, parameter in trained if self.slow else ():
            self.slow[name].lerp_(parameter.float(), 1 - momentum)

    def carry(self, name: str, parameter: nn.Parameter, carry: Carry) -> None:
        """The parameter stands for other numbers now: those that stay are as slow as they were, new ones start where they stand."""
        if name in self.slow:
            stays = carry(torch.ones_like(self.slow[name])) > 0
            self.slow[name] = torch.where(stays, carry(self.slow[name]), parameter.detach().float())

    def only(self, trained: Trained) -> None:
        """Others are trained now: those that stay are as slow as they were, new ones start where they stand, the rest are let go."""
        if self.slow:
            self.slow = {name: self.slow.get(name, parameter.detach().float().clone()) for name, parameter in trained}

    @contextmanager
    def in_place(self, trained: Trained) -> Iterator[None]:
        """For the length of a `with`, the slow weights stand where the trained ones do; then those are back, to the bit."""
        fast = {name: parameter.detach().clone() for name, parameter in trained} if self.slow else {}
        self._put(trained, self.slow)
        try:
            yield
        finally:
            self._put(trained, fast)

    def settle(self, trained: Trained) -> None:
        """The slow weights stand where the trained ones do for good, and with that this average is over."""
        self._put(trained, self.slow)
        self.slow = {}

    def load_state(self, state: Mapping[str, Tensor], trained: Trained) -> None:
        places = {name: parameter.device for name, parameter in trained}
        self.slow = {name: tensor.to(places[name]) for name, tensor in state.items()}

    @torch.no_grad()
    def _put(self, trained: Trained, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in trained if weights else ():
            parameter.copy_(weights[name])
