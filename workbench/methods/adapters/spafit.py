"""SPAFIT: blocks change more the higher they lie. Not here: LoRA's layers (`materials/low_rank.py`), or how vectors of the model are
trained (`materials/region.py`).

SPAFIT: Stratified Progressive Adaptation Fine-tuning for Pre-trained Large Language Models, 2024. Tags as in the project's notes: [P]
abstract, [N] notes on the paper by others, [O] our own choice.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.materials.models import layer_of
from workbench.materials.norms import norms
from workbench.materials.region import RegionAttachment, cost
from workbench.materials.regions import Rows
from workbench.methods.contracts import Adapter, Cost


class SPAFIT(Ranked, Adapter, title="SPAFIT (more change towards the top)", paper="arXiv:2405.00201"):
    """Leave the lower blocks alone, move only the biases of the middle ones, and give the upper ones a LoRA too.

    $$\\Delta b_\\ell = 0 \\;\\text{ for }\\; \\ell \\le N_1, \\qquad \\Delta W_\\ell = 0 \\;\\text{ for }\\; \\ell \\le N_2, \\qquad
    \\Delta W_\\ell = \\frac{\\alpha}{r} B_\\ell A_\\ell \\;\\text{ above}$$

    What language is made of in general lies low in a model, what a task needs lies high, so a change should grow from block to block [P].
    On nine tasks of GLUE this was better than LoRA or biases in all blocks, with a fraction of their numbers [P], 1 to 2 % of a
    BERT-large [N]. The LoRA stands beside the attention's matrices [N]; what the authors do with a decoder is not known to us.

    Many decoders have no biases. There the gains of the norms move in their place [O]: they too are one number for each channel. Where
    there are biases, those of the norms are among them. N₁ and N₂ are for you to choose [N]; a fifth that stands still and a LoRA in
    three quarters of the blocks above it are our choice [O]. Saved is one folder for peft, the LoRA with the vectors beside it.
    """

    over_rounded = True

    targets: Literal["all linear", "attention", "mlp"] = knob("attention", help="which matrices of the upper blocks learn a LoRA")
    frozen: float = knob(0.2, ge=0, lt=1, step=0.05, help="share of the blocks, from the bottom, that stand still")
    upper: float = knob(0.75, gt=0, le=1, step=0.05, help="share of the blocks above those, from the top, that learn a LoRA too")

    def attach(self, model: PreTrainedModel, seed: int) -> "SPAFITAttachment":
        wrapper = low_rank.wrapped(model, self, seed, target_modules=self._matrices(model))
        return SPAFITAttachment(wrapper, self._vectors(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        matrices = {f"{name}.weight": self.rank * sum(model.get_submodule(name).weight.shape) for name in self._matrices(model)}
        return cost(model, {**matrices, **self._vectors(model)})

    def _first(self, model: PreTrainedModel) -> tuple[int, int]:
        """The lowest block that moves, and the lowest that learns a LoRA; the last block always does."""
        blocks = model.config.num_hidden_layers
        moving = blocks - min(round(self.frozen * blocks), blocks - 1)
        return blocks - moving, blocks - max(1, round(self.upper * moving))

    def _matrices(self, model: PreTrainedModel) -> list[str]:
        first = self._first(model)[1]
        found = [name for name, _ in low_rank.matrices(model, self.where) if _at(name, first)]
        if not found:
            raise WorkbenchError(
                f"No matrix called {self.where} lies in the upper blocks of this {type(model).__name__}, from block {first} on, which are "
                "to learn a LoRA. Set upper higher or frozen lower, or choose other targets."
            )
        return found

    def _vectors(self, model: PreTrainedModel) -> dict[str, int]:
        """How many numbers each vector has that moves: the biases, or the gains of the norms in a model without biases."""
        inside = {name: parameter.numel() for name, parameter in model.named_parameters() if layer_of(name) is not None}
        biases = [name for name in inside if name.endswith(".bias")]
        found = biases or [f"{name}.weight" for name in norms(model) if f"{name}.weight" in inside]
        return {name: inside[name] for name in found if _at(name, self._first(model)[0])}


def _at(name: str, first: int) -> bool:
    """Whether something lies in block `first` or above."""
    layer = layer_of(name + ".")
    return layer is not None and layer >= first


class SPAFITAttachment(LowRankAttachment):
    """LoRA's layers in some blocks, and vectors of the model itself that move."""

    def __init__(self, wrapper: PeftModel, vectors: Mapping[str, int]):
        super().__init__(wrapper)
        self.vectors = RegionAttachment(self.model, {name: Rows(torch.arange(count)) for name, count in vectors.items()})
        wrapper.base_model.set_adapter(FIRST)  # the vectors' attachment has let everything else stand still

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        return [*self._factors(), *self.vectors.trained()]

    def dense(self, displacement: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {name for name, _ in self.vectors.trained()}
        return {**displacement, **self.vectors.dense({name: step for name, step in displacement.items() if name in own})}

    def after_step(self, step: int) -> None:
        self.vectors.after_step(step)

    @contextmanager
    def base(self) -> Iterator[None]:
        with super().base(), self.vectors.base():
            yield

    def save(self, folder: Path) -> None:
        """peft's own form: biases as with its `bias`, gains as whole norms that stand in the place of the base's."""
        moved = dict(self.vectors.trained())
        config = copy.deepcopy(self.wrapper.peft_config[FIRST])
        config.bias = "all" if any(name.endswith(".bias") for name in moved) else "none"
        config.modules_to_save = [name.rpartition(".")[0] for name in moved if not name.endswith(".bias")] or None
        factors = {name.replace(f".{FIRST}.", "."): factor for name, factor in self._factors()}
        low_rank.write(folder, config, {f"{PREFIX}{name}": numbers for name, numbers in {**factors, **moved}.items()})

    def state(self) -> dict[str, Tensor]:
        return {**{name: factor.detach() for name, factor in self._factors()}, **self.vectors.state()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, factor in self._factors():
            factor.copy_(state[name])
        self.vectors.load_state(state)

    def _factors(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in self.model.named_parameters() if ".lora_" in name]
