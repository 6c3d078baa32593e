"""Models by reference: where one lies, what it is called, and loading it safely.

A reference is what a spec says: `pocket` (the demo model), `run:0001` (what a run made), `model:NAME` (a merged model of
the workspace), a folder, or a hub id this machine can reach. A folder may hold a peft adapter, on the base that it names. Weights are
read from safetensors only, and code that comes with a model is never run. Knows nothing of training or merging.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor, nn

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import ASSETS, Workspace, named
from workbench.materials import rounded
from workbench.materials.opening import ALONE, from_files

if TYPE_CHECKING:  # its model code takes seconds to import, and a merge has no use for it
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POCKET = "pocket"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
LAYER = re.compile(r"^(?:.*\.)?(?:layers|h)\.(\d+)\.")
BLOCK = re.compile(r"(?:.*\.)?(?:layers|h)\.\d+")


@dataclass(frozen=True)
class ModelRef:
    """A model that can be loaded: `path` is a folder or a hub id; `adapter` a peft folder that goes on top of it."""

    reference: str
    label: str
    path: str
    adapter: Path | None = None


@dataclass(frozen=True)
class ModelChoice:
    reference: str
    label: str
    kind: Literal["demo", "run", "merged"]


def resolve(reference: str, workspace: Workspace) -> ModelRef:
    """The model that `reference` names; what is missing or unsafe is a `WorkbenchError`."""
    kind, _, name = reference.partition(":")
    if reference == POCKET:
        return ModelRef(reference, "pocket", str(_checked(ASSETS / "pocket", "The demo model")))
    if kind == "run":
        return _of_run(reference, named(name), workspace)
    if kind == "model":
        return _of_folder(reference, name, workspace.model(named(name)), f"The model {name!r}", workspace)
    folder = Path(reference).expanduser()
    if folder.exists() or (os.sep in reference.removesuffix("/") and reference.startswith((".", "/", "~"))):
        return _of_folder(reference, folder.name, folder, f"The folder {reference}", workspace)
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", reference):
        return ModelRef(reference, reference, reference)
    raise WorkbenchError(f"{reference!r} names no model. Use 'pocket', 'run:0001', 'model:NAME', a folder, or a hub id such as org/name.")


def available(workspace: Workspace) -> list[ModelChoice]:
    """The models that can be chosen without typing: the demo model, what runs made, what was merged."""
    choices = [ModelChoice(POCKET, "pocket (demo)", "demo")]
    for folder in sorted(workspace.run_folders(), reverse=True):
        adapter, model = _standing(folder / "adapter"), _standing(folder / "model")
        if all((adapter / name).exists() for name in ADAPTER) or (model / "config.json").exists():
            choices.append(ModelChoice(f"run:{folder.name}", _run_label(folder), "run"))
    for folder in sorted(workspace.model().iterdir()):
        killed = folder.suffix in (".partial", ".old")
        if not killed and ((folder / "config.json").exists() or _is_adapter(folder)):
            choices.append(ModelChoice(f"model:{folder.name}", folder.name, "merged"))
    return choices


def load(ref: ModelRef, device: torch.device, dtype: torch.dtype, four_bits: bool = False) -> PreTrainedModel:
    """The model in eval mode on `device`, its adapter folded in or beside it; `four_bits`: its matrices as `rounded` holds them. Attention
    is torch's scaled dot product where the family allows it, and else the family's own (Gemma 2)."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    wanted = {"quantization_config": rounded.settings(dtype), "device_map": {"": device}} if four_bits else {}
    try:
        model = from_files(ref.path, dtype, **wanted)
    except (OSError, ValueError, ImportError, SafetensorError) as error:  # a quantised model wants libraries of its own
        raise _cannot_load(ref, error) from error
    if ref.adapter is not None:
        from workbench.materials.inserted import opened

        try:
            model = opened(model, ref.adapter)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise WorkbenchError(
                f"The adapter of {ref.label} in {ref.adapter} cannot be put on its base: {' '.join(str(error).split())[:300].rstrip('.')}. "
                "Resume that run, which writes it anew, or choose another model."
            ) from error
    rounded.steady(model)
    return model.to(device).eval()


def built(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """The model of a config.json and a state dict, in eval mode on the CPU; a head that is tied may be left out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with ALONE:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), trust_remote_code=False)
    model.load_state_dict(tensors, strict=False)
    return model.float().eval()


def tokenizer(ref: ModelRef) -> PreTrainedTokenizerBase:
    """The model's tokenizer; where it has no padding token, its end token pads (padding is masked anyway)."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(ref.path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(ref, error) from error
    if found.pad_token_id is None:
        found.pad_token = found.eos_token or found.unk_token
    return found


@functools.lru_cache(maxsize=8)
def skeleton(path: str) -> PreTrainedModel:
    """The model's shape without its numbers (meta device), to count what an adapter would move."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(ModelRef(path, path, path), error) from error
    dtype = config.dtype
    with ALONE, torch.device("meta"):  # built in any other dtype, transformers would make that the default of all threads meanwhile
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model.config.dtype = dtype
    return model.to(dtype) if dtype else model


def layer_of(name: str) -> int | None:
    """The block a tensor belongs to (`model.layers.3.mlp.up_proj.weight` → 3), None outside the blocks."""
    found = LAYER.match(name)
    return int(found.group(1)) if found else None


def weights_by_module(model: nn.Module) -> Iterator[tuple[str, str, int, nn.Parameter]]:
    """Every parameter once, as (its name, its module's last name, its block or -1, the parameter)."""
    for name, parameter in model.named_parameters():
        module = name.split(".")[-2] if "." in name else name
        layer = layer_of(name)
        yield name, module, -1 if layer is None else layer, parameter


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder's blocks in their order."""
    return [module for name, module in model.named_modules() if BLOCK.fullmatch(name)]


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """(B, T, D) the backbone's output after its final norm, which is what the head reads."""
    shown = "inputs_embeds" if "inputs_embeds" in batch else "input_ids"
    inputs = {name: batch[name] for name in (shown, "attention_mask", "position_ids") if name in batch}
    return model.base_model(**inputs, use_cache=False).last_hidden_state


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """(…, V) float32 logits of hidden states, with the soft cap of the models that have one."""
    logits = model.get_output_embeddings()(hidden).float()
    cap = softcap(model)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def label_table(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """(N, V) float32 log-probabilities at the N positions whose next token is learnt; the head runs on those alone."""
    hidden = hidden_states(model, batch)[:, :-1][batch["labels"][:, 1:] != -100]
    return head_logits(model, hidden).log_softmax(-1)


def softcap(model: PreTrainedModel) -> float | None:
    """The final logits' soft cap c in c·tanh(z/c) (Gemma 2), None for other families."""
    return model.config.to_dict().get("final_logit_softcapping")


def _of_run(reference: str, run_id: str, workspace: Workspace) -> ModelRef:
    folder = workspace.home.resolve() / "runs" / run_id
    if not folder.is_dir():
        raise WorkbenchError(f"There is no run {run_id} in this workspace. `python -m workbench runs` lists the runs.")
    model = _standing(folder / "model")
    if (model / "config.json").exists():
        return ModelRef(reference, _run_label(folder), str(_checked(model, f"What run {run_id} made")))
    adapter = _standing(folder / "adapter")
    if not all((adapter / name).exists() for name in ADAPTER):
        raise WorkbenchError(
            f"Run {run_id} has made no adapter or model yet. Let it finish, or stop it: a stopped run keeps what it has learnt."
        )
    base = resolve(_spec_of(folder).get("model", POCKET), workspace)
    if base.adapter is not None:
        raise WorkbenchError(f"Run {run_id} was tuned on top of another adapter. {_remedy(base.reference)}")
    return ModelRef(reference, _run_label(folder), base.path, adapter)


def _of_folder(reference: str, label: str, folder: Path, what: str, workspace: Workspace) -> ModelRef:
    """A model folder, or an adapter folder on its base."""
    if not _is_adapter(folder):
        return ModelRef(reference, label, str(_checked(folder, what)))
    below = _base_of(folder)
    if not below:
        raise WorkbenchError(f"{what} does not say which model it stands on: base_model_name_or_path is missing in {folder / ADAPTER[0]}.")
    if _names_adapter(below, workspace):
        raise WorkbenchError(f"{what} stands on top of another adapter, {below}. {_remedy(below)}")
    return ModelRef(reference, label, resolve(below, workspace).path, folder)


def _remedy(adapter: str) -> str:
    """What to do with an adapter that others are to stand on."""
    command = f"python -m workbench fold {shlex.quote(adapter)} --name NAME"
    return f'Make a model of that one first ("Save as a model" in the Runs tab, or {command}), and tune that.'


def _is_adapter(folder: Path) -> bool:
    return all((folder / name).exists() for name in ADAPTER) and not (folder / "config.json").exists()


def _base_of(folder: Path) -> str:
    """What an adapter folder stands on: the folder that peft is told, and where that has moved, the reference of our recipe beside it."""
    try:
        told = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
    except (OSError, ValueError, AttributeError):
        told = ""
    return told if told and Path(told).is_dir() else str(_spec_of(folder, "merge.yaml").get("base") or told)


def _names_adapter(reference: str, workspace: Workspace) -> bool:
    """Whether a reference names an adapter; asked without opening anything, because an adapter may name itself as its base."""
    kind, _, name = reference.partition(":")
    if kind == "run":
        return not (_standing(workspace.home.resolve() / "runs" / named(name) / "model") / "config.json").exists()
    return _is_adapter(workspace.model(named(name)) if kind == "model" else Path(reference).expanduser())


def _standing(folder: Path) -> Path:
    """The folder; where a kill came between the two renames that put a newer one in its place, the older one."""
    older = folder.with_name(folder.name + ".old")
    return older if older.exists() and not folder.exists() else folder


def _run_label(folder: Path) -> str:
    """With its name, or else with what it learnt from, so that runs can be told apart."""
    spec = _spec_of(folder)
    name = spec.get("name") or Path((spec.get("data") or {}).get("path") or "").stem
    return f"run {folder.name} · {name}" if name else f"run {folder.name}"


def _spec_of(folder: Path, file: str = "spec.yaml") -> dict[str, Any]:
    """The spec that a run was started with, or that a merge was made by; nothing where it is missing or damaged."""
    spec = folder / file
    try:
        found = yaml.safe_load(spec.read_text(encoding="utf-8")) if spec.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _checked(folder: Path, what: str) -> Path:
    """The folder, if it holds a model that may be loaded."""
    if not folder.is_dir():
        raise WorkbenchError(f"{what} is not there: {folder} is not a folder.")
    if not (folder / "config.json").exists():
        raise WorkbenchError(f"{what} holds no model: config.json is missing. Choose the folder that holds config.json and *.safetensors.")
    if not any(folder.glob("*.safetensors")):
        pickles = [path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
        if pickles:
            raise WorkbenchError(
                f"{what} holds its weights as {pickles[0]}, which can run code when it is opened. "
                "Convert it to safetensors (save_pretrained of transformers does) and choose that folder."
            )
        raise WorkbenchError(f"{what} has no weights: there is no *.safetensors file beside config.json. Copy the weights there.")
    return folder


def _cannot_load(ref: ModelRef, error: Exception) -> WorkbenchError:
    reason = " ".join(str(error).split())[:300]
    if Path(ref.path).is_dir():
        return WorkbenchError(f"The model {ref.label} cannot be loaded from {ref.path}: {reason}")
    return WorkbenchError(
        f"The model {ref.reference!r} cannot be had: it is no folder here, and the hub was not reached or does not have it with "
        f"safetensors weights ({reason}). Give the path of a model folder, or check the name and the network."
    )
