"""A peft LoRA adapter as numbers that are added to blocks of rows of its base, so that it never has to be written out.

W = W₀ + s·B·A with s = alpha/r, or alpha/√r for rsLoRA (arXiv:2106.09685, arXiv:2312.03732). It follows what peft's
`merge_and_unload` computes, but takes the product in float64 and rounds once. What it cannot apply exactly it refuses with a
sentence: other adapter kinds, and starts (PiSSA, OLoRA, CorDA, …) that moved the base itself. It trains and saves nothing.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.core.beside import beside, unmergeable
from workbench.core.errors import WorkbenchError
from workbench.materials.tensors import FLOATS, Entry, read_header, read_rows

PREFIX = "base_model.model."
_REMEDY = (
    'Make a model of it first ("Save as a model" in the Runs tab, or for example python -m workbench fold run:0001 --name NAME), '
    "and merge that."
)
_EXACT_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")  # the starts of peft that leave the base as it was
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Factors:
    """The change of one weight matrix: `left` (out, r) times `right` (r, in), float64, the scale s already in `left`; `scale` tells it."""

    left: Tensor
    right: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Lora:
    """An adapter by the names of the base's tensors: `factors` are added, `replaced` stand in their place (`modules_to_save`)."""

    factors: dict[str, Factors]
    replaced: dict[str, Entry]
    folder: Path | None = None  # where it was read

    @property
    def touched(self) -> set[str]:
        return {*self.factors, *self.replaced}

    def wanted(self) -> list[tuple[str, tuple[int, ...]]]:
        """The tensors that the base must have, with their shapes."""
        whole = [(name, entry.shape) for name, entry in self.replaced.items()]
        return [*whole, *((name, (pair.left.shape[0], pair.right.shape[1])) for name, pair in self.factors.items())]

    def apply(self, name: str, start: int, block: Tensor) -> Tensor:
        """Rows of the tuned tensor from rows (n, in) of the base's, beginning at row `start`; float32 in and out, on their device."""
        if name not in self.factors:
            return block
        factors, device = self.factors[name], block.device
        return (factors.left[start : start + block.shape[0]].to(device) @ factors.right.to(device)).add_(block).float()


def read_lora(folder: Path, label: str) -> Lora:
    """The adapter of a peft folder; what cannot be applied exactly is a `WorkbenchError`."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{label} has no readable adapter_config.json in {folder}. Save the adapter again.") from error
    weights = folder / "adapter_model.safetensors"
    if not weights.exists():
        raise WorkbenchError(f"{label} has no weights: {weights} is missing. Save the adapter as safetensors (peft does by default).")
    _refuse(config, label)
    return replace(_gather(config, read_header(weights), label), folder=folder)


def _refuse(config: dict[str, Any], label: str) -> None:
    if beside(config):
        raise WorkbenchError(unmergeable(label))
    if config.get("peft_type") != "LORA":
        raise WorkbenchError(f"{label} is an adapter of the kind {config.get('peft_type')}; only LoRA adapters are merged here. {_REMEDY}")
    kinds = {
        "use_dora": "uses DoRA",
        "use_qalora": "uses QALoRA",
        "fan_in_fan_out": "adapts layers whose weights are stored transposed",
    }
    for flag, words in kinds.items():
        if config.get(flag):
            raise WorkbenchError(f"{label} {words} ({flag}), which is not applied here. {_REMEDY}")
    for flag, words in {
        "alora_invocation_tokens": "speaks only after certain tokens",
        "layer_replication": "repeats layers of its base",
    }.items():
        if config.get(flag):
            raise WorkbenchError(f"{label} {words} ({flag}), so it cannot become part of its base's weights. Leave it out of the merge.")
    if config.get("init_lora_weights", True) not in _EXACT_STARTS:
        raise WorkbenchError(
            f"{label} was started with {config['init_lora_weights']!r}, which also moved its base, so adding it to the base would be "
            f"wrong. {_REMEDY}"
        )


def _gather(config: dict[str, Any], entries: dict[str, Entry], label: str) -> Lora:
    sides: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Entry] = {}
    for key, entry in entries.items():
        name = key.removeprefix(PREFIX)
        if entry.format not in FLOATS:
            raise WorkbenchError(f"{label} stores {name} as {entry.format}. Only float32, float16 and bfloat16 are merged.")
        found = _FACTOR.fullmatch(name)
        if found:
            sides.setdefault(found["module"], {})[found["side"]] = read_rows(entry, 0, entry.rows).double()
        elif "lora_" in name or "token_adapter" in name:
            raise WorkbenchError(f"{label} holds {name}, which is not applied here. {_REMEDY}")
        else:
            replaced[name.replace(".base_layer.", ".")] = entry  # peft keeps a copy of the embeddings it adapts under that name
    return Lora({f"{module}.weight": _factors(config, module, pair, label) for module, pair in sides.items()}, replaced)


def _factors(config: dict[str, Any], module: str, pair: dict[str, Tensor], label: str) -> Factors:
    if set(pair) != {"A", "B"} or any(side.dim() != 2 for side in pair.values()) or pair["A"].shape[0] != pair["B"].shape[1]:
        raise WorkbenchError(f"{label} is damaged: the two factors of {module} do not fit together. Save the adapter again.")
    rank = pair["A"].shape[0]
    alpha = _alpha(config, module)
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Factors(pair["B"] * scale, pair["A"], scale)


def _alpha(config: dict[str, Any], module: str) -> float:
    """peft's rule: the first pattern that matches the end of the module's name; the rank itself is read from the factors."""
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return alpha
    return config["lora_alpha"]
