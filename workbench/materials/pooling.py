"""One vector for a text: the last hidden states of a causal model, pooled over its tokens and brought to length 1.

What it is not: it chooses no model and keeps nothing (`around.py`). Tags as in the project's notes: [R] read in published code.
"""

from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.materials.models import hidden_states

Pooling = Literal["mean", "weighted", "last"]


@torch.no_grad()
def pooled(model: PreTrainedModel, batch: dict[str, Tensor], how: Pooling) -> Tensor:
    """(B, D) float32 vectors of length 1 from (B, T) `input_ids` and `attention_mask`, padded on the right.

    `mean` of all tokens; `weighted`, where token t counts t times, because later ones have seen more [R: RDS+]; or the `last` token.
    """
    mask = batch["attention_mask"].float()
    states = hidden_states(model, batch).float()
    if how == "weighted":
        mask = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    elif how == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        mask = (places == mask.sum(1, keepdim=True) - 1).float()
    return torch.nn.functional.normalize((states * mask[..., None]).sum(1), dim=-1)
