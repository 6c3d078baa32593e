"""Attention over packed rows, each computed alone instead of under a mask that hides the others.

A mask over a pack of T tokens costs T² of work and memory, rows of length l only Σ l². Where a batch is packed (`materials/packing.py`:
positions begin anew, no mask, no cache), a hook on the backbone finds the rows once and tells every layer by the names that transformers
has for it (`cu_seq_lens_q`, `max_length_q`, …). A GPU then takes torch's variable-length flash attention, anything else one causal product
a row. Every other batch (padded, with a cache, a single row) goes on to transformers' own `sdpa`, with the mask that it would have had.

`same_packed` is the proof at the start of a run: a pack must say of its rows what they say alone.
"""

import functools
import importlib.util
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from workbench_kernels import road

from workbench.core.errors import WorkbenchError
from workbench.materials.models import hidden_states

NAME = "workbench_packed"  # of our attention among transformers'
KNOWN = (  # backbones whose attention is causal, whole or over a window, and gets its mask from nowhere else
    "LlamaModel", "Qwen2Model", "Qwen3Model", "MistralModel", "MixtralModel", "Phi3Model", "GemmaModel", "Gemma3TextModel",
)  # fmt: skip
ROWS, TOKENS = 4, 128  # of a pack that are compared, and of each row
# Of a state's size that rounding may make. In random Llamas of 2 to 24 layers it made up to 0.12 in float16 and 0.17 in bfloat16, and rows
# that saw one another 1.4 or more.
MOST = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.25, torch.bfloat16: 0.25}


@dataclass
class Apart:
    """A model whose packed rows are kept apart by our attention; where `left` says why not, transformers' mask does it as before."""

    model: PreTrainedModel
    left: str = ""
    before: str = "sdpa"
    handle: RemovableHandle | None = field(default=None, repr=False)

    def restore(self) -> None:
        if self.handle is not None:
            self.handle.remove()
            self.handle = None
            self.model.set_attn_implementation(self.before)


def install(model: PreTrainedModel) -> Apart:
    """Let the model's attention compute packed rows one by one, if it is one that is known and goes by `sdpa`."""
    backbone = model.base_model
    if type(backbone).__name__ not in KNOWN:
        return Apart(model, f"{type(backbone).__name__} is not known here")
    if model.config._attn_implementation != "sdpa":
        return Apart(model, f"its attention is {model.config._attn_implementation}, not sdpa")
    if model.config.to_dict().get("use_bidirectional_attention"):
        return Apart(model, "its attention looks ahead")
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return Apart(model, handle=backbone.register_forward_pre_hook(_tell, with_kwargs=True))


def rows_of(position_ids: Tensor) -> Tensor:
    """(S + 1,) int32: where the S rows of (B, T) positions begin, one pack after the other, and where the last one ends."""
    begins = torch.ones_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
    return pad(begins.flatten().nonzero()[:, 0], (0, 1), value=begins.numel()).int()


def _tell(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Every layer where the rows begin. The mask that goes along is none: transformers passes what has four dimensions on as it is."""
    places = kwargs.get("position_ids")
    if places is None or kwargs.get("attention_mask") is not None or kwargs.get("past_key_values") is not None:
        return None
    shown = [one for one in (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if one is not None]
    if kwargs.get("use_cache") is not False or shown[0].shape[:2] != places.shape or road.forced() == "reference":
        return None
    begins = rows_of(places)
    if len(begins) == len(places) + 1:
        return None
    longest = int(begins.diff().max())
    told = {"cu_seq_lens_q": begins, "cu_seq_lens_k": begins, "max_length_q": longest, "max_length_k": longest}
    return args, {**kwargs, **told, "attention_mask": places.new_empty(1, 1, 1, 0)}


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None, max_length_q: int | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """(B, T, Hq, D) of query (B, Hq, T, D), key and value (B, Hk, T, D); as transformers' interface wants it."""
    if cu_seq_lens_q is None or max_length_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    flat = [each.transpose(1, 2).flatten(0, 1) for each in (query, key, value)]  # (B·T, H, D)
    window = sliding_window if sliding_window and sliding_window < max_length_q else None
    if _flashes(query, dropout, window):
        out = _flashed(*flat, cu_seq_lens_q, max_length_q, scaling, window)
    else:
        out = _one_by_one(*flat, cu_seq_lens_q.tolist(), dropout, scaling, window)
    return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, begins: list[int], dropout: float, scaling: float | None, window: int | None
) -> Tensor:
    """One causal product a row."""
    parts = []
    for start, end in itertools.pairwise(begins):
        q, k, v = (each[start:end].transpose(0, 1)[None] for each in (query, key, value))
        band = None
        if window is not None and end - start > window:
            band = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device).tril().triu(1 - window)
        grouped = q.shape[1] != k.shape[1]
        out = scaled_dot_product_attention(q, k, v, band, dropout, is_causal=band is None, scale=scaling, enable_gqa=grouped)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


@functools.cache
def _flash() -> tuple[Callable[..., Tensor], frozenset[str]] | None:
    """torch's variable-length attention and what its release takes; None where there is none."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def _flashes(query: Tensor, dropout: float, window: int | None) -> bool:
    """Whether it can: it wants halves on an A100 or later, heads of up to 256 in eights, no dropout, and its first release no window."""
    halves, size, found = query.dtype in (torch.float16, torch.bfloat16), query.shape[-1], _flash()
    if not query.is_cuda or not halves or size > 256 or size % 8 or dropout or found is None:
        return False
    return torch.cuda.get_device_capability(query.device) >= (8, 0) and (window is None or "window_size" in found[1])


def _flashed(query: Tensor, key: Tensor, value: Tensor, begins: Tensor, longest: int, scaling: float | None, window: int | None) -> Tensor:
    """All rows in one launch; the arguments have other names from release to release (torch 2.10 to 2.13)."""
    attend, takes = _flash()
    named: dict[str, Any] = {"window_size": (-1 if window is None else window - 1, 0)} if "window_size" in takes else {"is_causal": True}
    if "scale" in takes:
        named["scale"] = scaling
    elif scaling is not None:
        query = query * (scaling * query.shape[-1] ** 0.5)
    if "enable_gqa" in takes:
        named["enable_gqa"] = query.shape[1] != key.shape[1]
    else:
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
    return attend(query, key, value, begins, begins, longest, longest, **named)


@torch.no_grad()
def same_packed(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """How far the first rows of a packed batch lie from the same rows read alone: the largest ‖h′ − h‖ / ‖h‖ of a token's final state.

    A row is cut to its first tokens, so that it costs little whatever the batch holds; 0 for a pack of one row.

    Raises:
        WorkbenchError: they differ by more than rounding, so the rows of a pack see one another.
    """
    begins = rows_of(batch["position_ids"][:1])[: ROWS + 1].tolist()
    rows = [batch["input_ids"][:1, start : min(end, start + TOKENS)] for start, end in itertools.pairwise(begins)]
    places = [torch.arange(row.shape[1], device=row.device)[None] for row in rows]
    training = model.training
    model.eval()
    try:
        together = hidden_states(model, {"input_ids": torch.cat(rows, 1), "position_ids": torch.cat(places, 1)})
        alone = [hidden_states(model, {"input_ids": row, "position_ids": place}) for row, place in zip(rows, places, strict=True)]
    finally:
        model.train(training)
    expected = torch.cat(alone, 1).double()
    far = ((together.double() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-300)).max().item()
    most = MOST[together.dtype]
    if not far <= most:  # NaN too
        raise WorkbenchError(
            f"The rows of a pack see one another in this {type(model).__name__}: in one pack, {len(rows)} of them have states that differ "
            f"by {far:.2g} of their size from those that they have alone, and rounding makes {most:g} at most. The model's attention, or "
            "what the adapter put into it, reaches over the rows of a pack. Switch packing off and start again."
        )
    return far
