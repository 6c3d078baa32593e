"""What each neuron would do to the likelihood of a token if it spoke much louder: one number for each input of the matrices that write.

A matrix that writes to the residual stream adds Σ_j a_j v_j, a what it reads and v_j its columns. With x what a block leaves at a place,
less what this matrix wrote there,

    score_j = log p(token | x + β a_j v_j)

where p is what the model would say if it ended after that block: the logit lens. The score of all neurons is taken without a gradient, and
so holds for large β too. What it is not: a choice of neurons (`methods/adapters/nmke.py`). Where a family norms what the matrix writes
before it is added, the column as it stands is taken [O]. Tags: [O] our own choice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.low_rank import upright_of
from workbench.materials.models import blocks, head_logits, hidden_states, layer_of

SLICE = 512  # neurons whose logits are held at a time


@torch.no_grad()
def scores(model: PreTrainedModel, names: Sequence[str], ids: Tensor, token: int, factor: float) -> Iterator[tuple[str, Tensor]]:
    """(n,) float32 of each matrix by name, for the token after the (T,) `ids`."""
    spoken, left = _heard(model, names, ids)
    for name in names:
        matrix = model.get_submodule(name)
        read, written = spoken[name]
        columns = upright_of(matrix, matrix.get_parameter("weight")).T.float() * read.float()[:, None]
        stream = left[layer_of(f"{name}.") or 0].float() - written.float()
        parts = [stream + factor * part for part in columns.split(SLICE)]
        yield name, torch.cat([head_logits(model, ended(model, part)).log_softmax(-1)[:, token] for part in parts])


@torch.no_grad()
def ended(model: PreTrainedModel, states: Tensor) -> Tensor:
    """(N, D): what the head would read if the model ended with these (N, D). What stands behind the last block sees each token alone, so it
    need not be known by name: they are put in the place of what the last block leaves."""
    last, own = blocks(model)[-1], states[:, None].to(model.dtype)
    with ExitStack() as hooks:
        hooks.callback(last.register_forward_hook(lambda block, given, made: (own, *made[1:]) if isinstance(made, tuple) else own).remove)
        return hidden_states(model, {"input_ids": torch.zeros(1, 1, dtype=torch.long, device=states.device)})[:, 0]


def _heard(model: PreTrainedModel, names: Sequence[str], ids: Tensor) -> tuple[dict[str, tuple[Tensor, Tensor]], list[Tensor]]:
    """At the last place: what each matrix reads and writes, and what each block leaves."""
    spoken, left = dict[str, tuple[Tensor, Tensor]](), list[Tensor]()

    def speaker(name: str) -> Callable[..., None]:
        def heard(matrix: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            spoken[name] = given[0].reshape(-1, given[0].shape[-1])[-1], made.reshape(-1, made.shape[-1])[-1]

        return heard

    def leave(block: nn.Module, given: Any, made: Any) -> None:
        left.append((made[0] if isinstance(made, tuple) else made)[0, -1])

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(model.get_submodule(name).register_forward_hook(speaker(name)).remove)
        for block in blocks(model):
            hooks.callback(block.register_forward_hook(leave).remove)
        hidden_states(model, {"input_ids": ids[None]})
    return spoken, left
