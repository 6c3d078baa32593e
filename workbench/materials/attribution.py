"""What each output of a layer adds to the likelihood of the token that a model would say next: integrated gradients.

A layer's outputs z are scaled up from nothing to what they are, and of the way there the gradient is taken at M places:

    Attr_j = z_j · (1/M) Σ_k ∂p/∂z_j at (k/M) z,   k = 1 … M

p is the probability of the token that the model itself finds likeliest after the prompt. With many places the outputs of all tokens
together add up to what p loses when the layer writes nothing [K]. With M = 1 it is gradient times value, and one backward pass serves all
layers. What it is not: a choice by it (`methods/adapters/`). Tags: [K] known.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.evidence import Batch, still
from workbench.materials.models import head_logits, hidden_states


def attributions(model: PreTrainedModel, names: Sequence[str], batch: Batch, steps: int = 1) -> dict[str, Tensor]:
    """(B, D) float32 by module name, of what each layer writes for the last token of each prompt (`Evidence.prompts`)."""
    with still(model), torch.enable_grad():
        if steps == 1:
            return _all_at_once(model, names, batch)
        with torch.no_grad():
            token = _probabilities(model, batch).argmax(-1)
        return {name: _along(model, name, batch, token, steps) for name in names}


def _all_at_once(model: PreTrainedModel, names: Sequence[str], batch: Batch) -> dict[str, Tensor]:
    written = dict[str, Tensor]()

    def keep(name: str) -> Callable[..., Tensor]:
        def kept(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
            written[name] = made if made.requires_grad else made.requires_grad_()
            return written[name]

        return kept

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(model.get_submodule(name).register_forward_hook(keep(name)).remove)
        likeliest = _probabilities(model, batch).amax(-1)
    found = torch.autograd.grad(likeliest.sum(), [written[name] for name in names])
    return {name: _of_last(batch, own.float() * written[name].detach()) for name, own in zip(names, found, strict=True)}


def _along(model: PreTrainedModel, name: str, batch: Batch, token: Tensor, steps: int) -> Tensor:
    found = [_scaled(model, name, batch, token, step / steps) for step in range(1, steps + 1)]
    _, written = found[-1]  # scaled by 1
    return torch.stack([gradient for gradient, _ in found]).mean(0) * written


def _scaled(model: PreTrainedModel, name: str, batch: Batch, token: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """(B, D) each: the gradient where the layer writes that share of what it would, and what it writes there."""
    written = list[Tensor]()

    def scale(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        written.append((share * made).detach().requires_grad_())
        return written[-1]

    with ExitStack() as hooks:
        hooks.callback(model.get_submodule(name).register_forward_hook(scale).remove)
        likelihood = _probabilities(model, batch).gather(1, token[:, None])
    gradient = torch.autograd.grad(likelihood.sum(), written[0])[0]
    return _of_last(batch, gradient).float(), _of_last(batch, written[0].detach()).float()


def _probabilities(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(B, V) float32 of the token after each prompt."""
    return head_logits(model, _of_last(batch, hidden_states(model, batch))).softmax(-1)


def _of_last(batch: Batch, states: Tensor) -> Tensor:
    last = batch["last"]
    return states[torch.arange(len(last), device=last.device), last]
