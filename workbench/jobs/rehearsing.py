"""The ops that stand in a model (`patching.py`), called as a step calls them: so that their kernels are compiled before the first."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from workbench_kernels.qk_rope import qk_rope
from workbench_kernels.rms_norm import rms_norm

from workbench.jobs.patching import Forward, attended, gated, gated_in_one, head_norms, normed


def rehearsals(model: PreTrainedModel, numbers: torch.dtype) -> dict[Hashable, Callable[[], None]]:
    """The ops that stand in a model, called as a step calls them, forward and backward, on two tokens of zeros; one call for all modules
    of a kind. No module is called, so whoever listens hears nothing.

    `numbers`: of the arithmetic; what products are made in, unless it is float32, which leaves them to the weights.
    """
    config, embedded = model.config.get_text_config(), model.get_input_embeddings().weight.dtype
    made = embedded if numbers == torch.float32 else numbers
    stream, zeros = torch.promote_types(embedded, made), partial(torch.zeros, device=model.device)  # a product is added to what comes in
    ours = [(module, forward) for module in model.modules() if isinstance(forward := vars(module).get("forward"), partial)]
    attentions = [module for module, forward in ours if forward.func is attended]
    of_heads = {id(norm) for module in attentions if (norms := head_norms(module)) for norm in norms[:2]}
    found: dict[Hashable, Callable[[], None]] = {}
    for module, forward in ours:
        if forward.func is normed and id(module) not in of_heads:
            x, (_, eps, gemma) = zeros(2, len(module.weight), dtype=stream, requires_grad=True), forward.args
            kind = (rms_norm, len(module.weight), module.weight.dtype, module.weight.requires_grad, gemma)
            found[kind] = partial(both_ways, rms_norm, [x, module.weight], eps, gemma)
        elif forward.func in (gated, gated_in_one):
            x, gate = zeros(2, 2 * config.intermediate_size, dtype=made, requires_grad=True), forward.args[2]
            found[gate, forward.func] = partial(both_ways, partial(_halves, gate, forward.func is gated), [x])
    for module in attentions:
        d, norms = module.head_dim, head_norms(module)
        q, k = (zeros(1, 2, heads, d, dtype=made, requires_grad=True) for heads in (config.num_attention_heads, config.num_key_value_heads))
        turn, weights = [zeros(1, 2, d, dtype=stream) for _ in range(2)], [norm.weight for norm in norms[:2]] if norms else []
        kind = (qk_rope, d, *((weight.dtype, weight.requires_grad) for weight in weights))
        found[kind] = partial(both_ways, qk_rope, [q, k, *turn, *weights], *(norms[2:] if norms else ()))
    return found


def both_ways(op: Callable[..., Tensor | tuple[Tensor, ...]], inputs: list[Tensor], *rest: Any) -> None:
    """Forward, and where gradients are taken backward to copies of what learns, so that nothing learns of it."""
    own = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
    y = op(*own, *rest)
    ys = (y,) if isinstance(y, Tensor) else y
    if torch.is_grad_enabled():
        torch.autograd.grad(ys, [tensor for tensor in own if tensor.requires_grad], [torch.zeros_like(each) for each in ys])


def _halves(gate: Forward, apart: bool, x: Tensor) -> Tensor:
    """The gate over both halves of its rows, where two projections made them or one."""
    halves = x.chunk(2, -1)
    return gate(*(half.contiguous() for half in halves)) if apart else gate(*halves)
