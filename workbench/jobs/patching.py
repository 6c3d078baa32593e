"""The ops of `workbench_kernels` put into a transformers model, and taken out again.

An instance is given a `forward` of ours in the place of its class's; classes and the modules of transformers stay as they are, so other
models of the process notice nothing, and `restore` deletes it. What is known is known by its exact class; the rest is left alone, and the
report says why. Children are still called as modules (`q_proj`, `gate_proj`, …), so their hooks and whatever adapter stands in their place
are heard; where somebody listens to a module whose place an op takes (`act_fn`, `q_norm`, the parts of a LoRA), the old way is gone.

On a GPU every op is put in. On a CPU only `lora_linear` is: the others have no other arithmetic there than transformers.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from workbench_kernels.lora_linear import lora_linear
from workbench_kernels.qk_rope import qk_rope
from workbench_kernels.rms_norm import rms_norm
from workbench_kernels.swiglu import geglu, swiglu

Forward = Callable[..., Any]
FASTER_ON_CPU = ("lora_linear",)
PARTS = ("RMSNorm", "MLP", "Attention")  # how a class ends that would be worth knowing
TAKES = ("hidden_states", "position_embeddings", "attention_mask", "past_key_values", "kwargs")  # what an attention is called with


@dataclass(frozen=True)
class Entry:
    """What is known of a class: the op that takes its place, who builds its forward (or says why it cannot), and where the class lives."""

    op: str
    build: Callable[..., Forward | str]
    home: str = "transformers.models."


@dataclass
class Patched:
    """What stands in a model: how many modules of which class each op took over, and how many of which were left alone, by reason."""

    replaced: dict[str, Counter[str]] = field(default_factory=dict)
    left: dict[str, Counter[str]] = field(default_factory=dict)
    forwards: list[tuple[nn.Module, Forward]] = field(default_factory=list)

    def restore(self) -> None:
        """Take ours out. What somebody has put over it since stays, and goes on calling it."""
        for module, forward in self.forwards:
            if vars(module).get("forward") is forward:
                del module.forward
        self.forwards.clear()

    def __str__(self) -> str:
        took = "; ".join(f"{op} in {_counted(classes)}" for op, classes in self.replaced.items())
        left = "; ".join(f"{_counted(classes)} ({why})" for why, classes in self.left.items())
        return (took or "nothing was replaced") + (f". Left alone: {left}" if left else "")


def install(model: PreTrainedModel, everywhere: bool = False) -> Patched:
    """Put the ops in where they belong, in a model whose adapter is attached; `everywhere`: on a CPU too, where only some are faster."""
    patched = Patched()
    for module in model.modules():
        name = type(module).__name__
        entry = TABLE.get(name)
        known = entry is not None and type(module).__module__.startswith(entry.home)
        if known and not everywhere and model.device.type == "cpu" and entry.op not in FASTER_ON_CPU:
            forward: Forward | str = "torch is as fast on a CPU"
        elif known:
            forward = "its forward was replaced already" if "forward" in vars(module) else entry.build(module)
        elif name.endswith(PARTS):
            forward = "its class is not known here"
        else:
            continue
        if isinstance(forward, str):
            patched.left.setdefault(forward, Counter())[name] += 1
            continue
        module.forward = forward
        patched.forwards.append((module, forward))
        patched.replaced.setdefault(entry.op, Counter())[name] += 1
    return patched


@contextmanager
def patched(model: PreTrainedModel, everywhere: bool = False) -> Iterator[Patched]:
    """`install` for the length of a `with`."""
    found = install(model, everywhere)
    try:
        yield found
    finally:
        found.restore()


def rehearsals(model: PreTrainedModel, numbers: torch.dtype) -> dict[Hashable, Callable[[], None]]:
    """The ops that stand in a model, called as a step calls them, forward and backward, on two tokens of zeros; one call for all modules
    of a kind. No module is called, so whoever listens hears nothing.

    `numbers`: of the arithmetic; what products are made in, unless it is float32, which leaves them to the weights.
    """
    config, embedded = model.config.get_text_config(), model.get_input_embeddings().weight.dtype
    made = embedded if numbers == torch.float32 else numbers
    stream, zeros = torch.promote_types(embedded, made), partial(torch.zeros, device=model.device)  # a product is added to what comes in
    ours = [(module, forward) for module in model.modules() if isinstance(forward := vars(module).get("forward"), partial)]
    attentions = [module for module, forward in ours if forward.func is _attended]
    of_heads = {id(norm) for module in attentions if (norms := _head_norms(module)) for norm in norms[:2]}
    found: dict[Hashable, Callable[[], None]] = {}
    for module, forward in ours:
        if forward.func is _normed and id(module) not in of_heads:
            x, (_, eps, gemma) = zeros(2, len(module.weight), dtype=stream, requires_grad=True), forward.args
            kind = (rms_norm, len(module.weight), module.weight.dtype, module.weight.requires_grad, gemma)
            found[kind] = partial(both_ways, rms_norm, [x, module.weight], eps, gemma)
        elif forward.func in (_gated, _gated_in_one):
            x, gate = zeros(2, 2 * config.intermediate_size, dtype=made, requires_grad=True), forward.args[2]
            found[gate, forward.func] = partial(both_ways, partial(_halves, gate, forward.func is _gated), [x])
    for module in attentions:
        d, norms = module.head_dim, _head_norms(module)
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


def _counted(classes: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in classes.items())


def _unheard(module: nn.Module) -> bool:
    """Whether a module can be passed by: nobody listens to it, and nobody else answers for it."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    forward = vars(module).get("forward")
    return not any(hooks) and (forward is None or (isinstance(forward, partial) and forward.func is _normed))


# The forwards. They are partials of functions, not closures, so that a copy of a model that is patched computes with its own numbers.


def _normed(module: Any, eps: float, gemma: bool, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, module.weight, eps, gemma)


def _gated(module: Any, alone: Forward, gate: Forward, x: Tensor) -> Tensor:
    return module.down_proj(gate(module.gate_proj(x), module.up_proj(x))) if _unheard(module.act_fn) else alone(x)


def _gated_in_one(module: Any, alone: Forward, gate: Forward, hidden_states: Tensor) -> Tensor:
    if not _unheard(module.activation_fn):
        return alone(hidden_states)
    return module.down_proj(gate(*module.gate_up_proj(hidden_states).chunk(2, -1)))


def _attended(
    module: Any, told: dict[str, Any], eager: Forward, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None, past_key_values: Any = None, **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """As transformers computes it, but for what happens to q and k between their projections and the attention. `told`: what this
    family tells the attention beside the rest."""
    shape = hidden_states.shape[:-1]
    q, k, v = (project(hidden_states).view(*shape, -1, module.head_dim) for project in (module.q_proj, module.k_proj, module.v_proj))
    q, k, v = (each.transpose(1, 2) for each in (*_turned(module, q, k, *position_embeddings), v))
    if past_key_values is not None:
        k, v = past_key_values.update(k, v, module.layer_idx)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager)
    dropout = module.attention_dropout if module.training else 0.0
    out, weights = attend(module, q, k, v, attention_mask, dropout=dropout, scaling=module.scaling, **told, **kwargs)
    return module.o_proj(out.reshape(*shape, -1).contiguous()), weights


def _turned(module: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """q (B, T, Hq, D) and k (B, T, Hk, D), each head normed where the family has such norms, and rotated."""
    norms = _head_norms(module)
    if norms is not None:
        q_norm, k_norm, eps, gemma = norms
        return qk_rope(q, k, cos, sin, q_norm.weight, k_norm.weight, eps, gemma)
    if "q_norm" in module._modules:
        q, k = module.q_norm(q), module.k_norm(k)
    return qk_rope(q, k, cos, sin)


def _head_norms(module: Any) -> tuple[Any, Any, float, bool] | None:
    """The norms of q and k with their ε, and whether they are Gemma's, where a family has such norms and they can be passed by."""
    q_norm, k_norm = (module._modules.get(name) for name in ("q_norm", "k_norm"))
    kind = NORMS.get(type(q_norm).__name__)
    if kind is None or type(k_norm) is not type(q_norm) or not (_unheard(q_norm) and _unheard(k_norm)):
        return None
    name, gemma = kind
    return q_norm, k_norm, vars(q_norm)[name], gemma


def _adapted(module: Any, alone: Forward, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """W x and the update in one. Whatever else peft may do is asked for at each call, and left to peft."""
    name = None if args or kwargs else _plain(module)
    if name is None:
        return alone(x, *args, **kwargs)
    base, drop = module.base_layer, module.lora_dropout[name]
    dropped = drop(x) if isinstance(drop, nn.Dropout) and drop.training else None
    return lora_linear(x, base.weight, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name], base.bias, dropped)


def _plain(layer: Any) -> str | None:
    """The one adapter that is at work in a layer of peft's, if all it does is to add s·B A x."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] in layer.lora_variant:
        return None
    name = active[0]
    linears = (layer.base_layer, layer.lora_A[name], layer.lora_B[name])
    plain = all(type(linear) is nn.Linear and _unheard(linear) for linear in linears) and linears[2].bias is None
    drop = layer.lora_dropout[name]
    usual = type(drop) in (nn.Identity, nn.Dropout) and _unheard(drop) and isinstance(layer.scaling[name], int | float)
    return name if plain and usual else None


# Who builds them; a text is why a module is left alone.


def _norm(module: nn.Module) -> Forward:
    name, gemma = NORMS[type(module).__name__]
    return partial(_normed, module, vars(module)[name], gemma)


def _mlp(module: Any) -> Forward | str:
    return _with_gate(module, module.act_fn, _gated)


def _mlp_in_one(module: Any) -> Forward | str:
    return _with_gate(module, module.activation_fn, _gated_in_one)


def _with_gate(module: nn.Module, act: nn.Module, forward: Forward) -> Forward | str:
    gate = GATES.get(type(act))
    return f"its activation is {type(act).__name__}" if gate is None else partial(forward, module, module.forward, gate)


def _attention(module: nn.Module) -> Forward | str:
    kind = type(module)
    if tuple(inspect.signature(kind.forward).parameters) != ("self", *TAKES):
        return "this release of transformers calls it in another way"
    return partial(_attended, module, ATTENTIONS[kind.__name__](module), vars(sys.modules[kind.__module__])["eager_attention_forward"])


def _lora(layer: Any) -> Forward | str:
    if type(layer.base_layer) is not nn.Linear or layer.fan_in_fan_out:
        return f"it stands over a {type(layer.base_layer).__name__}"
    return partial(_adapted, layer, layer.forward)


GATES: dict[type, Forward] = {ACT2CLS["silu"]: swiglu, ACT2CLS["swish"]: swiglu, ACT2CLS["gelu_pytorch_tanh"]: geglu}
NORMS = dict.fromkeys(
    ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm", "MixtralRMSNorm", "Phi3RMSNorm"), ("variance_epsilon", False)
) | dict.fromkeys(("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm"), ("eps", True))  # what ε is called; whether the weight is 1 + w
MLPS = ("LlamaMLP", "Qwen2MLP", "Qwen3MLP", "MistralMLP", "GemmaMLP", "Gemma2MLP", "Gemma3MLP")
ATTENTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {  # what the attention of a family is told beside the rest
    "LlamaAttention": lambda module: {},
    "GemmaAttention": lambda module: {},
    "MistralAttention": lambda module: {"sliding_window": module.config.sliding_window},
    "Qwen2Attention": lambda module: {"sliding_window": module.sliding_window},
    "Qwen3Attention": lambda module: {"sliding_window": module.sliding_window},
    "Gemma2Attention": lambda module: {"sliding_window": module.sliding_window, "softcap": module.attn_logit_softcapping},
    "Gemma3Attention": lambda module: {"sliding_window": module.sliding_window},
}
TABLE = (
    dict.fromkeys(NORMS, Entry("rms_norm", _norm))
    | dict.fromkeys(MLPS, Entry("swiglu", _mlp))
    | {"Phi3MLP": Entry("swiglu", _mlp_in_one)}
    | dict.fromkeys(ATTENTIONS, Entry("qk_rope", _attention))
    | {"Linear": Entry("lora_linear", _lora, "peft.tuners.lora.layer")}
)
