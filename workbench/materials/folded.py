"""A model with an adapter of any kind as tensors under the names of its base's files: read once, folded in, and held in memory.

What it is not: the folding (`folding.py`), a model on disk (`jobs/fold.py`), or the reading of a LoRA block by block, which holds nothing
and which a `Member` does by itself (`family.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from workbench.core.beside import foldable, unmergeable
from workbench.core.errors import WorkbenchError
from workbench.materials.family import HEAD, Member, open_member
from workbench.materials.models import ModelRef, load


@dataclass(frozen=True)
class FoldedMember(Member):
    """A member whose adapter is folded in; what is not in `tensors` is the base's."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape) if name in self.tensors else super().shape(name)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        own = self.tensors.get(name)
        if own is None:
            return super().rows(name, start, stop)
        return (own[start:stop] if own.dim() else own).float()


def any_member(ref: ModelRef) -> Member:
    """The model behind a reference, with an adapter of whatever kind; one that cannot be read block by block is folded in memory.

    Raises:
        WorkbenchError: the model cannot be read, or its adapter stays beside it and changes no weights.
    """
    if ref.adapter is None:
        return open_member(ref)
    if not foldable(ref.adapter):
        raise WorkbenchError(unmergeable(ref.label))
    try:
        return open_member(ref)
    except WorkbenchError:  # no plain LoRA, or a damaged one, which folding says in its own words
        return _folded(ref)


def _folded(ref: ModelRef) -> Member:
    base = open_member(replace(ref, adapter=None))
    tensors = by_file(load(ref, torch.device("cpu"), torch.float32), base)
    whole = base.untied() if HEAD in tensors else base
    return FoldedMember(ref.label, whole.config, whole.entries, tensors=tensors)


def by_file(model: PreTrainedModel, base: Member) -> dict[str, Tensor]:
    """The model's tensors by the names that they have in the base's files; of those that share their numbers each that is there."""
    tensors: dict[str, Tensor] = revert_weight_conversion(model, model.state_dict())
    there = {tensor.data_ptr() for name, tensor in tensors.items() if name in base.entries}
    found = {name: tensor for name, tensor in tensors.items() if name in base.entries or tensor.data_ptr() not in there}
    strange = sorted(found.keys() - base.entries.keys() - {HEAD})
    if strange:
        raise WorkbenchError(
            f"The base {base.label} does not hold {strange[0]} in its files, so the model cannot be written as they are. Write the base "
            "anew with transformers (save_pretrained), and let the adapter stand on that folder."
        )
    return found
