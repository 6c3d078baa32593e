"""Rows of single tokens at work: in the embeddings, in a head of their own, and in peft's TRAINABLE_TOKENS on the disk.

What is trained are rows of the model's own tables, with their values in float32 beside them (`region.py`); what is saved stands in the
place of the base's rows. What it is not: which tokens (`methods/adapters/trainable_tokens.py`). Tag: [V] measured by us.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import TrainableTokensConfig
from safetensors.torch import save_file
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import PREFIX
from workbench.materials.models import ADAPTER
from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Rows


class TokensAttachment(RegionAttachment):
    """The rows of the tokens move, in the head too where it has some of its own and `head` says so. `warnings`: told when a run begins."""

    def __init__(self, model: PreTrainedModel, ids: Sequence[int], head: bool, warnings: Sequence[str] = ()):
        self.ids, self._warnings = list(ids), list(warnings)
        super().__init__(model, {f"{table}.weight": Rows(torch.tensor(self.ids)) for table in tables(model, head)})

    def notes(self) -> list[str]:
        return self._warnings

    def save(self, folder: Path) -> None:
        rows = {name.removesuffix(".weight"): values.detach().cpu().contiguous() for name, values in self.trained()}
        config = TrainableTokensConfig(
            token_indices=self.ids,
            target_modules=list(rows) if len(rows) > 1 else next(iter(rows)),
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.model.name_or_path,
            inference_mode=True,
        )
        config.save_pretrained(folder)
        if is_tied(self.model):
            (both,) = rows.values()
            rows = {name: both.clone() for name in _names(self.model)}  # peft keeps them once for each
        tensors = {f"{PREFIX}{table}.trainable_tokens_delta": own for table, own in rows.items()}
        save_file(tensors, folder / ADAPTER[1], metadata={"format": "pt"})


def tables(model: PreTrainedModel, head: bool) -> list[str]:
    """The modules that hold a row for each token: the embeddings, and if wanted the head where it has rows of its own.

    Raises:
        WorkbenchError: the head's rows are wanted, and it adds biases, which peft forgets beside such rows.
    """
    names = _names(model)
    if not head or is_tied(model):
        return names[:1]
    if model.get_output_embeddings().bias is not None:
        raise WorkbenchError(
            f"The head of this {type(model).__name__} adds biases, and peft, which opens what is saved, forgets them. Set head to false, "
            "to train the embeddings alone."
        )
    return names


def passing(model: PreTrainedModel, head: bool) -> int:
    """Numbers of the whole gradients that are there at once: a head's is there twice while it is handed over, and that of a head which is
    tied to the embeddings is added to theirs besides [V]; embeddings alone have one."""
    if head or is_tied(model):
        return (2 + is_tied(model)) * model.get_output_embeddings().weight.numel()
    return model.get_input_embeddings().weight.numel()


def is_tied(model: PreTrainedModel) -> bool:
    """Whether embeddings and head are one table."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _names(model: PreTrainedModel) -> list[str]:
    """Of the embeddings and of the head."""
    sides = model.get_input_embeddings(), model.get_output_embeddings()
    return [next(name for name, module in model.named_modules() if module is side) for side in sides]
