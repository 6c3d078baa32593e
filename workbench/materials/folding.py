"""An adapter of any of peft's kinds folded into the model that it stands on: W₀ + ΔW in place of W₀, and nothing beside it.

What it is not: a LoRA as numbers for blocks of rows (`lora.py`), the reading of the base (`models.py`), or a model on disk
(`jobs/fold.py`).
"""

from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel


def folded(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """`model` itself, which answers as with the adapter of the peft folder beside it.

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: the folder is damaged, belongs to another base, or cannot be folded.
    """
    with torch.sparse.check_sparse_tensor_invariants():  # sparse adapters: torch warns of those that are not checked
        wrapper = PeftModel.from_pretrained(model, adapter)
        config = wrapper.active_peft_config
        if not isinstance(wrapper.base_model, BaseTuner):
            raise ValueError(f"an adapter of the kind {config.peft_type.value} changes no weights")
        if config.to_dict().get("layer_replication"):
            raise ValueError("it repeats layers of its base (layer_replication), and peft adds what each of them learnt to all of them")
        _part(model)
        return wrapper.merge_and_unload()


def _part(model: PreTrainedModel) -> None:
    """Give the head numbers of its own where an adapter moves it or the embeddings, and the two were one tensor: peft adds to that tensor
    in place, and would move both."""
    sides = [model.get_output_embeddings(), model.get_input_embeddings()]
    head, embedding = (side.get_base_layer() if isinstance(side, BaseTunerLayer) else side for side in sides)
    apart = any(isinstance(side, BaseTunerLayer) and not isinstance(side, TrainableTokensLayer) for side in sides)  # which moves both alike
    if apart and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
