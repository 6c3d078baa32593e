"""What the neurons of a model's MLPs say to rows: on which tokens they fire, and how much of the MLP's answer is theirs.

A neuron is one number that the matrix at an MLP's end reads. It fires where what its activation function reads is above 0, which for ReLU,
SiLU and GELU is where it answers above 0. What it is not: a choice of neurons (`methods/`), or mixtures of experts, whose neurons each see
some of the tokens only; they are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.evidence import Batch
from workbench.materials.experts import Experts
from workbench.materials.mlps import Mlp, mlps, outputs_along
from workbench.materials.models import hidden_states

SMALL = 1e-8  # beside a norm that may be 0

Hear = Callable[[Tensor, Tensor], None]
"""What a module reads and what it writes, (B, T, …) each."""


def neurons_of(model: PreTrainedModel, label: str, instead: str = "an inspection of layers or of answers") -> list[Mlp]:
    """The MLP of each block.

    Raises:
        WorkbenchError: the blocks do not have one each.
    """
    sentence = (
        f"{label} shares the work of its MLPs among experts, or has MLPs that are not known here, so its neurons cannot be told apart. "
        f"Leave it out, or choose {instead}."
    )
    if any(isinstance(module, Experts) for module in model.modules()):
        raise WorkbenchError(sentence)
    try:
        return mlps(model)
    except WorkbenchError as error:  # whose remedy is another adapter
        raise WorkbenchError(sentence) from error


@torch.no_grad()
def listened(model: PreTrainedModel, batch: Batch, hear: Mapping[str, Hear]) -> None:
    """One pass in which each module of these names is heard."""

    shape = batch["input_ids"].shape  # some families give their MLPs all tokens in one row

    def listener(told: Hear) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, given, made: told(given[0].reshape(*shape, -1), made.reshape(*shape, -1))

    with ExitStack() as hooks:
        for name, told in hear.items():
            hooks.callback(model.get_submodule(name).register_forward_hook(listener(told)).remove)
        hidden_states(model, batch)


def firing(model: PreTrainedModel, every: Sequence[Mlp], batch: Batch) -> list[Tensor]:
    """Of each MLP (B, n) float64: on which share of a row's tokens each neuron fires."""
    seen = batch["attention_mask"].bool()
    found = dict[str, Tensor]()

    def hear(mlp: Mlp) -> Hear:
        def heard(read: Tensor, written: Tensor) -> None:
            fires = (written[..., : mlp.neurons] > 0) & seen[..., None]  # where gate and up are one matrix, gate comes first
            found[mlp.gate] = fires.sum(1).double() / seen.sum(1, keepdim=True)

        return heard

    listened(model, batch, {mlp.gate: hear(mlp) for mlp in every})
    return [found[mlp.gate].cpu() for mlp in every]


def contributions(model: PreTrainedModel, every: Sequence[Mlp], batch: Batch, where: Tensor) -> list[Tensor]:
    """Of each MLP (B, n) float32: |a_j| ‖W_j‖ / ‖W a‖ of each neuron, a mean over the tokens `where` (B, T) says so."""
    found = dict[str, Tensor]()

    def hear(mlp: Mlp, sizes: Tensor) -> Hear:
        def heard(read: Tensor, written: Tensor) -> None:
            shares = read.abs() * sizes / (written.norm(dim=-1, keepdim=True) + SMALL)
            found[mlp.down] = (shares * where[..., None]).sum(1) / where.sum(1, keepdim=True).clamp(min=1)

        return heard

    sizes = {mlp.down: model.get_parameter(f"{mlp.down}.weight").norm(dim=outputs_along(model, mlp.down)) for mlp in every}
    listened(model, batch, {mlp.down: hear(mlp, sizes[mlp.down]) for mlp in every})
    return [found[mlp.down].cpu() for mlp in every]
