"""Who answers in a comparison, loaded so that they cost least: models of one base share its weights and are read in one batch.

What it is not: what they are asked and how they answer (`compare.py`), or the sharing itself (`materials/choir.py`). Before a weight is
read, the bytes of all of them are counted and held against what is free.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.beside import foldable
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.words import size
from workbench.jobs.machine import share_cores
from workbench.materials.choir import Choir, Part, takes_turns
from workbench.materials.differing import between, of_lora
from workbench.materials.models import ADAPTER, ModelRef, load, skeleton
from workbench.materials.precision import place
from workbench.materials.speakers import ModelVoice, Singer
from workbench.materials.tensors import read_header


@dataclass
class Cast:
    """Everybody who answers, in the order of the models."""

    tokenizer: PreTrainedTokenizerBase
    voices: list[ModelVoice] = field(default_factory=list)
    choirs: dict[str, Choir] = field(default_factory=dict)  # by where the common model lies

    def gather(self, refs: Sequence[ModelRef]) -> Iterator[Progress]:
        """Load them.

        Raises:
            WorkbenchError: they do not fit into memory, one cannot be opened, or their vocabularies differ.
        """
        check_room(refs)
        for index, ref in enumerate(refs):
            yield Progress(index, len(refs), f"loading {ref.label}")
            voice = self._voice(ref)
            share_cores(voice.model)
            self.voices.append(voice)
            _same_vocabulary(self.voices[0].model, voice.model, ref.label)

    def disband(self) -> None:
        """Let go of the shared models: what is put on them holds on to them, and they to it."""
        for choir in self.choirs.values():
            choir.disband()

    def _voice(self, ref: ModelRef) -> ModelVoice:
        if ref.adapter is not None and not foldable(ref.adapter):
            return ModelVoice(load(ref, *place()), self.tokenizer)
        choir = self.choirs.get(ref.path)
        if choir is None:
            model = load(replace(ref, adapter=None), *place())
            joined = self._joined(model) if ref.adapter is None else None
            if joined is not None:
                return joined
            if not takes_turns(model):
                return ModelVoice(model if ref.adapter is None else load(ref, *place()), self.tokenizer)
            choir = self.choirs[ref.path] = Choir(model)
        if ref.adapter is None:
            return Singer(choir, {}, self.tokenizer)
        part: Part | None = of_lora(choir.model, ref.adapter, ref.label)
        if part is not None:
            return Singer(choir, part, self.tokenizer)
        whole = load(ref, *place())
        part = between(choir.model, whole)
        return ModelVoice(whole, self.tokenizer) if part is None else Singer(choir, part, self.tokenizer)

    def _joined(self, model: PreTrainedModel) -> Singer | None:
        """A model of its own as a part of one that is there."""
        for choir in self.choirs.values():
            part = between(choir.model, model)
            if part is not None:
                return Singer(choir, part, self.tokenizer)
        return None


def check_room(refs: Sequence[ModelRef]) -> None:
    """Raise the arithmetic if the models' weights are more than is free. How little a model differs shows when it lies there: it counts
    whole."""
    wanted: dict[str, int] = {}
    for ref in refs:
        shared = ref.adapter is None or foldable(ref.adapter)
        if shared:
            wanted.setdefault(Path(ref.path).name if ref.adapter else ref.label, _whole(ref))
        if ref.adapter is not None:
            wanted[ref.label] = _factors(ref.adapter) or _whole(ref)
    needed, there = sum(wanted.values()), free()
    if needed > there:
        parts = " + ".join(f"{label} ({size(held)})" for label, held in wanted.items())
        raise WorkbenchError(
            f"The comparison needs {size(needed)} for {parts}, and this machine has {size(there)} free. Choose fewer or smaller models."
        )


def _whole(ref: ModelRef) -> int:
    return sum(parameter.numel() for parameter in skeleton(ref.path).parameters()) * place()[1].itemsize


def _factors(adapter: Path) -> int:
    """Bytes of an adapter that is held as factors, once by itself and once beside its rows; 0 where it is not of that kind."""
    try:
        told = json.loads((adapter / ADAPTER[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    if told.get("peft_type") != "LORA":
        return 0
    numbers = sum(math.prod(entry.shape) for entry in read_header(adapter / ADAPTER[1]).values())
    return 2 * numbers * place()[1].itemsize


def free() -> int:
    """Bytes that a model may take: of the GPU's memory where there is one."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available


def _same_vocabulary(base: PreTrainedModel, model: PreTrainedModel, label: str) -> None:
    ours, theirs = base.config.vocab_size, model.config.vocab_size
    if ours != theirs:
        raise WorkbenchError(
            f"{label} has a vocabulary of {theirs} tokens and the first model one of {ours}: token by token they cannot be "
            "held against each other. Compare models of one family."
        )
