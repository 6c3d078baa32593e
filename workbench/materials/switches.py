"""Weights that stay as they are or are switched off, one by one: a number beside each says which.

    W' = b ⊙ W,   b = 1 where m > −margin, else 0,   ∂L/∂m := ∂L/∂W' ⊙ W / rms(W)

m starts at 0, so all weights are on. The gradient goes through the switch as if it were not there, so a weight that is off has one too and
may come back. Divided by the root mean square of W it is as large as a weight's own: g ⊙ W would often be smaller than the ε in Adam's
denominator, and all else in Adam's step does not depend on it [D].

Gradient dropout. With g the gradient of what is learnt and k that of KL(base ‖ model) on the same texts, a number's gradient stays with
probability (1 + sign(g)(g + k) / (|g| + |k|)) / 2 and is else multiplied by 1 − λ [R]: it always stays where both pull the same way, and
seldom where it takes the model farther from its base than it brings the task nearer. k takes a pass of the base and one forth and back of
the model; while nothing is off the two are the same, k is 0, and none is made. It is taken on every token that the model was given, since
nobody tells here which are learnt [O].

What it is not: which weights, which is a method's (`methods/adapters/mask_tuning.py`). The model is at any time the tuned one: a weight
that is off is 0 in it. Beside it are kept the weights as they were, and the numbers. Tags: [R] read in the published code
(wuw2019/R-AMT, trainers/masktuning.py), [D] derived, [O] our own choice.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.attachment import Attachment, Carry
from workbench.materials.models import head_logits
from workbench.materials.sparse import save_sparse
from workbench.materials.token_stats import kl

SLICE = 256  # tokens whose logits are held at a time


class Switch:
    """One weight and the numbers that say which of its entries are on."""

    def __init__(self, weight: nn.Parameter, margin: float):
        self.weight, self.margin = weight, margin
        self.first = weight.detach().clone()
        self.values = nn.Parameter(torch.zeros(weight.shape, device=weight.device))
        self.unit = self.first.float().square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        self.pulled = torch.zeros(())  # the gradient of the KL
        self._seen = self.values._version
        weight.requires_grad_(True)
        weight.register_post_accumulate_grad_hook(self._take)

    @torch.no_grad()
    def _take(self, weight: nn.Parameter) -> None:
        """The gradient of the numbers; the weight's own is let go."""
        assert weight.grad is not None
        own = weight.grad.float() * self.first / self.unit
        self.values.grad = own if self.values.grad is None else self.values.grad.add_(own)
        weight.grad = None

    def on(self, values: Tensor) -> Tensor:
        return values > -self.margin

    @torch.no_grad()
    def put(self) -> None:
        """The weight as the numbers say."""
        self.weight.copy_(self.first.masked_fill(~self.on(self.values), 0))
        self._seen = self.values._version

    def settle(self) -> None:
        if self.values._version != self._seen:
            self.put()

    @torch.no_grad()
    def turned(self, step: Tensor) -> Tensor:
        """What a step of the numbers that was just taken did to the weight."""
        now, before = self.on(self.values), self.on(self.values - step)
        return (now.to(step.dtype) - before.to(step.dtype)) * self.first

    @torch.no_grad()
    def delta(self) -> tuple[Tensor, Tensor]:
        """(K,) ascending places in the flattened weight of what is off, (K,) float32 change there."""
        first = self.first.flatten()
        places = (~self.on(self.values).flatten() & (first != 0)).nonzero()[:, 0]
        return places, -first[places].float()


class SwitchAttachment(Attachment):
    """Entries of the weights named may be switched off; `dropping` is λ."""

    def __init__(self, model: PreTrainedModel, names: Collection[str], margin: float, dropping: float, seed: int):
        self.model, self.dropping, self.seed = model, dropping, seed
        model.requires_grad_(False)
        self.switches = {name: Switch(weight, margin) for name, weight in model.named_parameters() if name in names}
        assert len(self.switches) == len(names), "names are those of weights of the model"
        self._forget()
        self._away = False  # whether the base stands in the model's place, or texts are read that were read already
        model.base_model.register_forward_pre_hook(self._before, with_kwargs=True)

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, switch.values) for name, switch in self.switches.items()]

    def dense(self, displacement: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.switches[name].turned(step) for name, step in displacement.items()}

    def redraw(self, step: int) -> dict[str, Carry]:
        """What a step that was left out has read is not the next one's."""
        self._forget()
        return {}

    def tallies(self) -> Sequence[Tensor]:
        """How many tokens were read, and of each weight the gradient of their KL; nothing while nothing is off."""
        if not self.dropping or not self._any_off():
            return ()
        if self._tokens is None:
            self._pull()
        assert self._tokens is not None
        return [self._tokens, *(switch.pulled for switch in self.switches.values())]

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        tokens, *_ = self.tallies() or [None]
        generator = torch.Generator(self.model.device).manual_seed(self.seed * 1_000_003 + step)
        for switch in self.switches.values():
            task = switch.values.grad
            if tokens is not None and task is not None:
                kept = stays(task, switch.pulled / tokens.clamp(min=1), generator)
                switch.values.grad = torch.where(kept, task, (1 - self.dropping) * task)
        self._forget()

    def after_step(self, step: int) -> None:
        """An optimizer that is fused leaves no trace by which a change could be noticed."""
        for switch in self.switches.values():
            switch.put()

    @contextmanager
    def base(self) -> Iterator[None]:
        away, self._away = self._away, True
        with torch.no_grad():
            for switch in self.switches.values():
                switch.weight.copy_(switch.first)
        try:
            yield
        finally:
            self._away = away
            for switch in self.switches.values():
                switch.put()

    def save(self, folder: Path) -> None:
        for switch in self.switches.values():
            switch.put()
        deltas = {name: switch.delta() for name, switch in self.switches.items()}
        save_sparse(folder, self.model, {name: delta for name, delta in deltas.items() if len(delta[0])})

    def state(self) -> dict[str, Tensor]:
        return {name: switch.values.detach() for name, switch in self.switches.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, switch in self.switches.items():
            switch.values.copy_(state[name])

    def _any_off(self) -> bool:
        return bool(torch.stack([~switch.on(switch.values).all() for switch in self.switches.values()]).any())

    def _before(self, backbone: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """The model takes over numbers that changed, and what it is to learn from is kept for the KL."""
        if self._away:
            return
        for switch in self.switches.values():
            switch.settle()
        if torch.is_grad_enabled() and self.dropping:
            self._read.append(Reading(inputs, named, self.model.device.type))

    def _forget(self) -> None:
        self._read: list[Reading] = []
        self._tokens: Tensor | None = None
        for switch in self.switches.values():
            switch.pulled = torch.zeros(())

    def _pull(self) -> None:
        """Add up the gradient of the KL over the texts that were read."""
        tasks = [values.grad for _, values in self.trained()]
        self._away, self._tokens = True, torch.zeros((), device=self.model.device)
        try:
            for switch in self.switches.values():
                switch.values.grad = torch.zeros_like(switch.values)
            with torch.enable_grad(), torch.random.fork_rng():
                for reading in self._read:
                    self._tokens += self._pulled(reading)
        finally:
            self._away = False
            for switch, task in zip(self.switches.values(), tasks, strict=True):
                switch.pulled, switch.values.grad = switch.values.grad, task

    def _pulled(self, reading: "Reading") -> int:
        """Add up the gradient of the KL over a reading's tokens; how many they are. Both models are asked with the same dropout."""
        with torch.no_grad(), self.base(), torch.random.fork_rng():
            wanted = reading.again(self.model)
        found = reading.again(self.model)
        end = found.detach().requires_grad_()
        for start in range(0, len(end), SLICE):
            part = slice(start, start + SLICE)
            with reading.numbers():
                tables = (head_logits(self.model, own[part]).log_softmax(-1) for own in (wanted, end))
                kl(*tables).sum().backward()
        found.backward(end.grad)
        return len(end)


class Reading:
    """What the backbone was given, and in which numbers it was multiplied."""

    def __init__(self, inputs: tuple[Any, ...], named: dict[str, Any], device: str):
        self.inputs = inputs
        self.named = {name: value.detach() if isinstance(value, Tensor) else value for name, value in named.items()}  # noisy embeddings
        self.device, self.half = device, torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def numbers(self) -> torch.autocast:
        return torch.autocast(self.device, self.half, enabled=self.half is not None)

    def again(self, model: PreTrainedModel) -> Tensor:
        """(N, D) what the head reads of the tokens that are no padding."""
        with self.numbers():
            hidden = model.base_model(*self.inputs, **self.named).last_hidden_state
        mask = self.named.get("attention_mask")
        return hidden.flatten(0, 1) if mask is None or mask.ndim != 2 else hidden[mask.bool()]


def stays(task: Tensor, pulled: Tensor, generator: torch.Generator) -> Tensor:
    """Where a gradient is not dropped."""
    size = (task.abs() + pulled.abs()).clamp(min=torch.finfo(task.dtype).tiny)
    chance = (1 + task.sign() * (task + pulled) / size) / 2
    return torch.rand(task.shape, generator=generator, device=task.device) < chance
