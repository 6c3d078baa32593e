"""Modules beside a model's own (`beside.py`) at work: their training, the folder that holds them, and putting such a folder on its base.

What it is not: which modules beside which, and how they start, which is a method's. No change of the weights equals them, so nothing folds
them in: a folder of ours holds them, with the base that they stand on and what to build written in adapter_config.json, and
`materials/models.py` opens it. Nothing in it is run: it names a kind of module that is known here, and numbers. Where peft has the same
(`prompts.py`), the folder is peft's.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.beside import BESIDE, CONFIG, stays_beside
from workbench.core.errors import WorkbenchError
from workbench.materials.atoms import Atoms
from workbench.materials.attachment import Attachment, resting
from workbench.materials.beside import Beside, hang
from workbench.materials.bottleneck import Bottleneck
from workbench.materials.channels import Channels
from workbench.materials.experts import Experts, LowRank
from workbench.materials.folding import folded
from workbench.materials.prefix import Prefix, Prompt
from workbench.materials.prompts import LEARNT, as_peft, of_peft
from workbench.materials.zero_attention import ZeroAttention

TENSORS = "adapter_model.safetensors"  # as peft's, so that the folder is known as an adapter
KINDS: dict[str, type[Beside]] = {
    "atoms": Atoms, "bottleneck": Bottleneck, "channels": Channels, "experts": Experts, "low rank": LowRank, "prefix": Prefix,
    "prompt": Prompt, "zero attention": ZeroAttention,
}  # fmt: skip


class InsertedAttachment(Attachment):
    """Modules by the names of those that they stand beside; they move and nothing else does."""

    def __init__(self, model: PreTrainedModel, modules: Mapping[str, Beside]):
        self.model, self.modules = model, modules
        model.requires_grad_(False)
        hang(model, modules)

    def base(self) -> AbstractContextManager[None]:
        return resting(self.modules.values())

    def save(self, folder: Path) -> None:
        if known := as_peft(self.model, self.modules):
            config, learnt = known
            save_file({LEARNT: learnt.contiguous()}, folder / TENSORS, metadata={"format": "pt"})
            config.save_pretrained(str(folder))
            return
        names = {kind: name for name, kind in KINDS.items()}
        told = {name: {"kind": names[type(module)], **module.settings()} for name, module in self.modules.items()}
        tensors = {name: tensor.float().contiguous() for name, tensor in self.state().items()}
        save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
        described = {"base_model_name_or_path": self.model.name_or_path, BESIDE: told}
        (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    def state(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": own for name, each in self.modules.items() for key, own in each.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict({key: state[f"{name}.{key}"] for key in module.state_dict()})


def opened(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` itself with an adapter folder: the modules of ours beside its own, what peft made folded in.

    Raises:
        WorkbenchError: the modules do not fit; OSError, ValueError, RuntimeError, SafetensorError: as `folding.folded`.
    """
    if not stays_beside(folder):
        return folded(model, folder)
    _put_on(model, folder)
    return model


def _put_on(model: PreTrainedModel, folder: Path) -> None:
    """The modules of such a folder beside those of its base, as they were when it was saved."""
    told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    tensors = load_file(folder / TENSORS)
    try:
        modules = _own(model, told[BESIDE], tensors) if BESIDE in told else of_peft(model, told, tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:  # no such module, or settings that are none
        raise _unfit(model, folder, str(error)) from error
    hang(model, modules)


def _own(model: PreTrainedModel, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Beside]:
    """What a folder of ours holds.

    Raises:
        WorkbenchError: a kind of module that is not known here; AttributeError, TypeError, ValueError, RuntimeError: they do not fit.
    """
    modules = {name: _built(model, name, dict(settings)) for name, settings in told.items()}
    wanted = {f"{name}.{key}": tensor.shape for name, module in modules.items() for key, tensor in module.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        odd = sorted(set(wanted.items()) ^ {(name, tensor.shape) for name, tensor in tensors.items()})
        raise ValueError(f"its {odd[0][0]} has another shape, or is missing on one side")
    for name, module in modules.items():
        module.load_state_dict({key: tensors[f"{name}.{key}"] for key in module.state_dict()})
    return modules


def _built(model: PreTrainedModel, name: str, settings: dict[str, Any]) -> Beside:
    kind = settings.pop("kind", None)
    if kind not in KINDS:
        raise WorkbenchError(
            f"The adapter puts a module of the kind {kind!r} beside {name}, and known here are {', '.join(KINDS)}. It was saved by another "
            "version of this workbench; open it with that one."
        )
    model.get_submodule(name)
    return KINDS[kind].at(model, name, **settings)


def _unfit(model: PreTrainedModel, folder: Path, why: str) -> WorkbenchError:
    return WorkbenchError(
        f"The adapter in {folder} does not fit this {type(model).__name__}: {why}. It belongs to another base, or its folder is damaged: "
        "give it the base that it was trained on, or save it again from its run."
    )
