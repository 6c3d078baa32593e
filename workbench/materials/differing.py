"""What makes one model of another: only what differs is held, in the shape that costs least to speak by (`choir.py`).

What it is: a LoRA or DoRA folder as factors by the base's names; any other model of the same shape by comparing the two tensor by tensor,
which takes adapters of every kind that folds, full tuning, merges, and untied heads alike. What it is not: loading (`models.py`), or what
cannot be told as a change of tensors: modules beside the model's own, other shapes, other settings; these answer None, and stay models of
their own.
"""

import json
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.choir import Change, LowRank, Part, Sparse, by_rows
from workbench.materials.lora import PREFIX, Lora, read_lora
from workbench.materials.models import ADAPTER
from workbench.materials.tensors import read_rows

FEW = 0.1  # share of a matrix's numbers; with twice as many apart, a product with them took as long as one with the whole matrix
LENGTHS = ".lora_magnitude_vector"
SAYS_NOTHING = {  # settings that change no number in a forward pass
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "tie_word_embeddings", "torch_dtype",
    "transformers_version", "use_cache",
}  # fmt: skip


def of_lora(model: PreTrainedModel, folder: Path, label: str) -> Part | None:
    """The part of an adapter folder on its base; None where it is not made of two factors beside matrices, or not of this model's."""
    try:
        lora, replaced, lengths = _read(folder, label)
    except (WorkbenchError, OSError, ValueError, SafetensorError):  # what is wrong with it, if anything, is told where it is opened
        return None
    there = parameters(model)
    fits = all(name in there and there[name].shape == shape and there[name].is_floating_point() for name, shape in lora.wanted())
    if not fits:
        return None
    part: dict[str, Change] = {name: tensor.to(there[name]) for name, tensor in replaced.items()}
    for name, pair in lora.factors.items():
        down, up = pair.right.T.contiguous().to(there[name]), pair.left.T.contiguous().to(there[name])
        gain = lengths[name].to(there[name]) / (there[name] + (down @ up).T).norm(dim=1) if name in lengths else None
        part[name] = LowRank(down, up, gain)
    return part if by_rows(model, part) else None


def between(model: PreTrainedModel, other: PreTrainedModel) -> Part | None:
    """What makes `other` of `model`, holding on to the other's tensors; None where it is not only tensors that differ."""
    ours, theirs = parameters(model), parameters(other)
    if settings(model) != settings(other) or ours.keys() != theirs.keys():
        return None
    if any(not own.is_floating_point() or (own.shape, own.dtype) != (theirs[name].shape, theirs[name].dtype) for name, own in ours.items()):
        return None  # a quantised tensor is more than its numbers
    names = Counter(map(id, theirs.values()))
    part: dict[str, Change] = {}
    for name, own in ours.items():
        tensor = theirs[name]
        if not torch.equal(own, tensor):
            part[name] = tensor if names[id(tensor)] > 1 else _least(model, name, own, tensor)
    return part if by_rows(model, part) else None


def parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    """By every name that each has; a head that is tied to the embeddings has two, and is one object."""
    once: dict[nn.Parameter, Tensor] = {}
    return {name: once.setdefault(own, own.data) for name, own in model.named_parameters(remove_duplicate=False)}


def settings(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's forward pass goes by, beside its tensors."""
    return {name: value for name, value in model.config.to_dict().items() if name not in SAYS_NOTHING}


def written_out(model: PreTrainedModel, name: str, change: Change | None) -> Tensor:
    """The tensor of the model as a part has it."""
    if isinstance(change, Tensor):
        return change
    own = model.get_parameter(name).data
    if isinstance(change, Sparse):
        return own + change.change.to_dense()
    if change is None:
        return own
    moved = own + (change.down @ change.up).T
    return moved if change.gain is None else moved * change.gain[:, None]


def _read(folder: Path, label: str) -> tuple[Lora, dict[str, Tensor], dict[str, Tensor]]:
    """The adapter, the tensors that it brings, and by matrix the lengths that a DoRA gives its rows.

    `read_lora` knows no lengths and is shown the rest.
    """
    told = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))
    if not told.get("use_dora"):
        lora = read_lora(folder, label)
        return lora, _brought(lora), {}
    tensors = load_file(folder / ADAPTER[1])
    found = {name: tensors.pop(name) for name in [*tensors] if LENGTHS in name}
    with TemporaryDirectory(prefix="workbench-") as scratch:
        (Path(scratch) / ADAPTER[0]).write_text(json.dumps(told | {"use_dora": False}), encoding="utf-8")
        save_file(tensors, Path(scratch) / ADAPTER[1])
        lora = read_lora(Path(scratch), label)
        brought = _brought(lora)
    return lora, brought, {f"{name.removeprefix(PREFIX).partition(LENGTHS)[0]}.weight": lengths for name, lengths in found.items()}


def _brought(lora: Lora) -> dict[str, Tensor]:
    return {name: read_rows(entry, 0, entry.rows) for name, entry in lora.replaced.items()}


def _least(model: PreTrainedModel, name: str, own: Tensor, tensor: Tensor) -> Change:
    """The places that differ where they are few, else the whole tensor."""
    matrix = own.dim() == 2 and own.dtype == torch.float32 and isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Linear)
    if not matrix:
        return tensor
    if int((own != tensor).sum()) > FEW * own.numel():
        return tensor
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return Sparse((tensor - own).to_sparse_csr())
