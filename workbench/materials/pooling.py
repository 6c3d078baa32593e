"""One vector for a text: the last hidden states of a causal model, pooled over its tokens and brought to length 1.

What it is not: it chooses no model and keeps nothing (`around.py`). Tags as in the project's notes: [R] read in published code,
[A] abstract only, [REC] our reconstruction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.models import blocks, hidden_states

Pooling = Literal["mean", "weighted", "last", "htp"]
STRETCH = 128  # tokens that one summary stands for, until there are more than MOST of them
MOST = 8


@torch.no_grad()
def pooled(model: PreTrainedModel, batch: dict[str, Tensor], how: Pooling) -> Tensor:
    """(B, D) float32 vectors of length 1 from (B, T) `input_ids` and `attention_mask`, padded on the right.

    `mean` of all tokens; `weighted`, where token t counts t times, because later ones have seen more [R: RDS+]; the `last` token; or
    `htp`, the mean of all tokens where summaries of the text stand before it (`summarised`).
    """
    mask = batch["attention_mask"].float()
    if how == "htp":
        counts = -(batch["attention_mask"].sum(1) // -STRETCH)
        states = summarised(model, batch, counts.clamp(1, MOST)).float()
    else:
        states = hidden_states(model, batch).float()
    if how == "weighted":
        mask = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    elif how == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        mask = (places == mask.sum(1, keepdim=True) - 1).float()
    return torch.nn.functional.normalize((states * mask[..., None]).sum(1), dim=-1)


def summarised(model: PreTrainedModel, batch: dict[str, Tensor], counts: Tensor) -> Tensor:
    """(B, T, D) the last hidden states of the tokens where each of the B rows is preceded by its number of summaries, (B,) `counts`.

    After the idea of Hierarchical Token Prepending (arXiv:2511.14868) [REC]. In a causal model no token sees what comes after it. Here a
    row is parted into equal stretches, and each has a slot before the first token: zero at first, and after each block what the last token
    of its stretch is then [REC]. So from the second block on the first token sees a summary of the whole. The paper prepends summaries of
    stretches, renews them at each layer and takes the mean [A]; how exactly is ours. It costs a slot for each stretch.

    Raises:
        WorkbenchError: the model has no list of blocks that could be listened to.
    """
    layers = blocks(model)
    if not layers:
        raise WorkbenchError(
            f"{type(model).__name__} does not name its blocks in a way known here, so summaries cannot be put before its tokens (htp). "
            "Choose another pooling, such as weighted, or another model."
        )
    ids, mask = batch["input_ids"], batch["attention_mask"]
    most = int(counts.max())
    slots = torch.arange(most, device=ids.device)
    used = slots < counts[:, None]  # a row with fewer has its own first: none is seen that is not used
    lengths = mask.sum(1, keepdim=True)
    ends = most + (lengths * (slots + 1) // counts[:, None].clamp(min=1) - 1).clamp(min=0)
    embedded = model.get_input_embeddings()(ids)
    whole = torch.cat([used.to(mask.dtype), mask], 1)
    shown = {
        "inputs_embeds": torch.cat([embedded.new_zeros(len(ids), most, embedded.shape[-1]), embedded], 1),
        "attention_mask": whole,
        "position_ids": (whole.cumsum(1) - 1).clamp(min=0),  # as if the slots that are not used were not there
    }
    with _renewed(layers, torch.where(used, ends, slots)):
        return hidden_states(model, shown)[:, most:]


@contextmanager
def _renewed(layers: list[nn.Module], sources: Tensor) -> Iterator[None]:
    """As long as it is open, each of the layers gives out in its first K places the states of the (B, K) places `sources`."""

    def renew(_: nn.Module, __: Any, given: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        states = given if isinstance(given, Tensor) else given[0]
        summaries = states.gather(1, sources[..., None].expand(-1, -1, states.shape[-1]))
        states = torch.cat([summaries, states[:, sources.shape[1] :]], 1)
        return states if isinstance(given, Tensor) else (states, *given[1:])

    handles = [layer.register_forward_hook(renew) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
