"""A model in memory with copies of some of its layers between them, each of which changes nothing yet.

What it is: where the copies stand, what of them is zero, and the config that says so. What it is not: which layers (`methods/adapters/`),
training (`whole.py`), or models on the disk with their layers in another order (`stack.py`, whose config this is). A copy of a layer adds
to the residual stream what its attention and its MLP write; with the matrices that write set to zero it adds nothing, to the bit.
"""

import copy
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.models import BLOCK, hidden_states
from workbench.materials.modules import writes
from workbench.materials.stack import misfits, stacked_config

EXPERTS = re.compile(r"experts\.(down_proj|w2)(_bias)?$")  # of all experts in one tensor
SHORT = 4  # tokens that are read to see that nothing has changed


def places(sources: Sequence[int]) -> list[int]:
    """Where the copies stand: what comes second of the same layer."""
    return [place for place in range(1, len(sources)) if sources[place] == sources[place - 1]]


def grow(model: PreTrainedModel, sources: Sequence[int]) -> list[str]:
    """Layer k becomes what layer `sources[k]` was, or a silent copy of it where that stands before it; returns the copies' parameters.

    Raises:
        WorkbenchError: the model's layers cannot be told apart from their number alone, or a copy would not be silent.
    """
    root, config = _root(model), model.config.to_dict()
    wanted = stacked_config(config, sources)
    if next(misfits(config, wanted, sources), ""):
        raise WorkbenchError(
            f"This {type(model).__name__} builds its layers by their number, so a copy would be built as another kind when the model is "
            "loaded again. Choose another distance between copies, or another adapter."
        )
    before, copies = _short_answer(model), places(sources)
    _lengthen(model.get_submodule(root), copies)
    model.config.update({name: value for name, value in wanted.items() if config.get(name) != value})
    if not torch.equal(_short_answer(model), before):
        raise WorkbenchError(
            f"A copied layer of this {type(model).__name__} changes what the model says, because the matrices that it writes with are not "
            "known here by name. Choose another adapter."
        )
    return [f"{root}.{place}.{name}" for place in copies for name, _ in model.get_submodule(f"{root}.{place}").named_parameters()]


def _root(model: PreTrainedModel) -> str:
    """The name of the list of layers."""
    found = {name.rpartition(".")[0] for name, _ in model.named_modules() if BLOCK.fullmatch(name)}
    if len(found) != 1:
        raise WorkbenchError(
            f"This {type(model).__name__} has layers in {len(found)} places, and it is not known where copies belong. Choose another "
            "adapter."
        )
    return found.pop()


@torch.no_grad()
def _lengthen(layers: nn.Module, copies: Sequence[int]) -> None:
    assert isinstance(layers, nn.ModuleList)
    for place in copies:
        layer = copy.deepcopy(layers[place - 1])
        for name, parameter in layer.named_parameters():
            if writes(f"layers.{place}.{name}") or EXPERTS.search(name):
                parameter.zero_()
        layers.insert(place, layer)
    for place, layer in enumerate(layers):
        for module in layer.modules():
            if "layer_idx" in vars(module):
                module.layer_idx = place  # by which attention finds its place in the cache


@torch.no_grad()
def _short_answer(model: PreTrainedModel) -> Tensor:
    ids = torch.arange(SHORT, device=model.device)[None]
    return hidden_states(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
