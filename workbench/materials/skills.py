"""Skills that tasks share, as peft's Poly layers hold them: which task is read, how it mixes the skills, and what is saved of that.

    y = W x + B A x / r,   A = Σ w_k A_k,   B = Σ w_k B_k,   w_k = σ(z_k) / Σ σ(z_j) of the task's own row of numbers z

With several splits the inputs and the outputs are cut into as many parts, and each part has weights w of its own. What it is not: how many
skills there are, or how fast the routing z moves, which is a method's (`methods/adapters/polytropon.py`).

A text whose task nobody knows is read with all skills alike. So what is saved is the LoRA of that mean, which anything opens; beside it in
`tasks` the LoRA of each task, for what a task makes of the skills is one LoRA of rank r [D]; and in `skills` all of them with their
routing, as peft opens it. Tags: [D] derived.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.poly import PolyLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import PREFIX, Lora
from workbench.materials.low_rank import FIRST, LowRankAttachment, write
from workbench.materials.models import ADAPTER

SKILLS, TASKS = "skills", "tasks"  # folders in the one that is saved
FACTORS = ("poly_lora_A", "poly_lora_B")


class SkillsAttachment(LowRankAttachment):
    """The skills move, unless they are `frozen`, and the routing `pace` times as fast."""

    def __init__(self, wrapper: PeftModel, pace: float, frozen: bool):
        super().__init__(wrapper)
        self._pace, self._names = pace, list[str]()
        self._tasks: Tensor | None = None  # (B,) of the rows that are read now, −1 for one that is not known
        for _, layer in skilled(self.model):
            if frozen:  # said to peft, which would let them learn again whenever an adapter is switched back on
                layer.frozen_peft_weight_names = {FIRST: FACTORS}
                layer.set_adapter(layer.active_adapters)
            layer.register_forward_pre_hook(self._asked, with_kwargs=True)
            layer.poly_router[FIRST].register_forward_hook(self._shared, with_kwargs=True)

    def groups(self) -> list[dict[str, Any]]:
        routing = [own for name, own in self.trained() if name.endswith(".module_logits")]
        skills = [own for name, own in self.trained() if not name.endswith(".module_logits")]
        return [*([{"params": skills}] if skills else []), {"params": routing, "pace": self._pace}]

    def meet(self, tasks: Sequence[str]) -> None:
        room = min(layer.n_tasks[FIRST] for _, layer in skilled(self.model))
        if len(tasks) < 2:
            raise WorkbenchError(
                "All rows belong to one task, and skills are shared among several. Name the column that tells the tasks apart under "
                "data.task, mix in another data set, or choose lora."
            )
        if len(tasks) > room:
            raise WorkbenchError(
                f"The rows belong to {len(tasks)} tasks, and the adapter has room for {room}. Set tasks to {len(tasks)} or more."
            )
        self._names = list(tasks)

    def hear(self, tasks: Tensor | None) -> None:
        self._tasks = None if tasks is None else tasks.amax(1)  # what fills a row up is −1

    def heed(self, earlier: Lora) -> None:
        """Take over the skills of an earlier run."""
        file = (earlier.folder or Path()) / SKILLS / ADAPTER[1]
        there = load_file(file) if earlier.folder and file.exists() else {}
        for name, layer in skilled(self.model):
            for key in FACTORS:
                own, given = layer.get_parameter(f"{key}.{FIRST}"), there.get(f"{PREFIX}{name}.{key}")
                if given is None or given.shape != own.shape:
                    what = "none" if given is None else f"others, of {tuple(given.shape)} numbers instead of {tuple(own.shape)}"
                    raise WorkbenchError(
                        f"The skills of an earlier run are wanted for {name}, and it has {what}. Name a finished run of this method with "
                        "the same skills, splits, rank and targets, or leave the field empty."
                    )
                own.data.copy_(given)

    def save(self, folder: Path) -> None:
        self._write(folder, even)
        self.wrapper.save_pretrained(folder / SKILLS, safe_serialization=True)
        for place, name in enumerate(self._names):
            own = folder / TASKS / f"{place}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:60]}"
            own.mkdir(parents=True)
            self._write(own, lambda layer, place=place: routed(layer, place))  # type: ignore[misc]

    @torch.no_grad()
    def _write(self, folder: Path, weights: Callable[[PolyLayer], Tensor]) -> None:
        """The skills mixed by `weights` as one LoRA."""
        factors, rank = dict[str, Tensor](), 1
        for name, layer in skilled(self.model):
            factors[f"{PREFIX}{name}.lora_A.weight"], factors[f"{PREFIX}{name}.lora_B.weight"] = mixed(layer, weights(layer))
            rank = layer.r[FIRST]
        config = LoraConfig(
            r=rank,
            lora_alpha=1,  # peft's Poly divides by the rank
            target_modules=[name for name, _ in skilled(self.model)],
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.model.name_or_path,
        )
        write(folder, config, factors)

    def _asked(self, layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        tasks = self._tasks if self._tasks is not None else inputs[0].new_full((len(inputs[0]),), -1, dtype=torch.long)
        return inputs, {"task_ids": tasks, **named}

    def _shared(self, router: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], weights: Tensor) -> Tensor:
        """All skills alike where the task is not known; its place in the table is then the last one's, which learns nothing by it."""
        known = named["task_ids"].to(weights.device) >= 0
        return torch.where(known[:, None, None], weights, 1 / weights.shape[-1])


def skilled(model: nn.Module) -> Iterator[tuple[str, PolyLayer]]:
    """peft's layers by the names of the matrices that they stand in for."""
    for name, module in model.named_modules():
        if isinstance(module, PolyLayer):
            yield name, module


def even(layer: PolyLayer) -> Tensor:
    """(splits, skills) weights that are all alike."""
    splits, skills, *_ = layer.poly_lora_A[FIRST].shape
    return torch.full((splits, skills), 1 / skills, device=layer.poly_lora_A[FIRST].device)


def routed(layer: PolyLayer, task: int) -> Tensor:
    """(splits, skills) weights of a task, without the noise of training."""
    own = layer.poly_router[FIRST].module_logits[task].sigmoid().view_as(even(layer))
    return own / own.sum(1, keepdim=True)


def mixed(layer: PolyLayer, weights: Tensor) -> tuple[Tensor, Tensor]:
    """(r, n) and (m, r): the skills of a matrix as one LoRA's factors."""
    reading = torch.einsum("qs,qsdr->qdr", weights, layer.poly_lora_A[FIRST])
    writing = torch.einsum("qs,qsrd->rqd", weights, layer.poly_lora_B[FIRST])
    return reading.flatten(0, 1).T, writing.flatten(1).T
