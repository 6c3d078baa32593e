"""The ops of `workbench_kernels` put into a transformers model, and taken out again.

An instance is given a `forward` of ours in the place of its class's; classes and the modules of transformers stay as they are, so other
models of the process notice nothing, and `restore` deletes it. What is known is known by its exact class; the rest is left alone, and the
report says why. Children are still called as modules (`q_proj`, `gate_proj`, …), so their hooks and whatever adapter stands in their place
are heard; where somebody listens to a module whose place an op takes (`act_fn`, `q_norm`, the parts of a LoRA), the old way is gone. Not
called are only LoRA layers of one x that nobody listens to and that drop nothing: q, k and v are one op then, and so are gate and up.

On a GPU every op is put in. On a CPU only `lora_linear` is: the others have no other arithmetic there than transformers.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from workbench_kernels.lora_linear import lora_linear
from workbench_kernels.lora_linears import Layer, lora_linears
from workbench_kernels.qk_rope import qk_rope
from workbench_kernels.rms_norm import rms_norm
from workbench_kernels.swiglu import geglu, swiglu

from workbench.materials.rounded import as_plain, full, holds

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


def _counted(classes: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in classes.items())


def _unheard(module: nn.Module) -> bool:
    """Whether a module can be passed by: nobody listens to it, and nobody else answers for it."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    forward = vars(module).get("forward")
    return not any(hooks) and (forward is None or (isinstance(forward, partial) and forward.func in (normed, _adapted)))


# The forwards. They are partials of functions, not closures, so that a copy of a model that is patched computes with its own numbers.


def normed(module: Any, eps: float, gemma: bool, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, module.weight, eps, gemma)


def gated(module: Any, alone: Forward, gate: Forward, x: Tensor) -> Tensor:
    return module.down_proj(gate(*_projected(x, module.gate_proj, module.up_proj))) if _unheard(module.act_fn) else alone(x)


def gated_in_one(module: Any, alone: Forward, gate: Forward, hidden_states: Tensor) -> Tensor:
    if not _unheard(module.activation_fn):
        return alone(hidden_states)
    return module.down_proj(gate(*module.gate_up_proj(hidden_states).chunk(2, -1)))


def attended(
    module: Any, told: dict[str, Any], eager: Forward, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None, past_key_values: Any = None, **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """As transformers computes it, but for what happens to q and k between their projections and the attention. `told`: what this
    family tells the attention beside the rest."""
    shape = hidden_states.shape[:-1]
    made = _projected(hidden_states, module.q_proj, module.k_proj, module.v_proj)
    q, k, v = (each.view(*shape, -1, module.head_dim) for each in made)
    q, k, v = (each.transpose(1, 2) for each in (*_turned(module, q, k, *position_embeddings), v))
    if past_key_values is not None:
        k, v = past_key_values.update(k, v, module.layer_idx)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager)
    dropout = module.attention_dropout if module.training else 0.0
    out, weights = attend(module, q, k, v, attention_mask, dropout=dropout, scaling=module.scaling, **told, **kwargs)
    return module.o_proj(out.reshape(*shape, -1).contiguous()), weights


def _turned(module: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """q (B, T, Hq, D) and k (B, T, Hk, D), each head normed where the family has such norms, and rotated."""
    norms = head_norms(module)
    if norms is not None:
        q_norm, k_norm, eps, gemma = norms
        return qk_rope(q, k, cos, sin, q_norm.weight, k_norm.weight, eps, gemma)
    if "q_norm" in module._modules:
        q, k = module.q_norm(q), module.k_norm(k)
    return qk_rope(q, k, cos, sin)


def head_norms(module: Any) -> tuple[Any, Any, float, bool] | None:
    """The norms of q and k with their ε, and whether they are Gemma's, where a family has such norms and they can be passed by."""
    q_norm, k_norm = (module._modules.get(name) for name in ("q_norm", "k_norm"))
    kind = NORMS.get(type(q_norm).__name__)
    if kind is None or type(k_norm) is not type(q_norm) or not (_unheard(q_norm) and _unheard(k_norm)):
        return None
    name, gemma = kind
    return q_norm, k_norm, vars(q_norm)[name], gemma


def _projected(x: Tensor, *projections: Any) -> tuple[Tensor, ...]:
    """What each makes of x: all in one where they are LoRA that ours stand in for and nobody listens to, else each called."""
    layers = [layer for projection in projections if (layer := _layer(projection)) is not None]
    return lora_linears(x, layers) if len(layers) == len(projections) else tuple(projection(x) for projection in projections)


def _layer(module: Any) -> Layer | None:
    """What stands in for it computes with; None where that is something else, or reads an x of its own, as after dropout."""
    forward = vars(module).get("forward")
    ours = isinstance(forward, partial) and forward.func is _adapted and _unheard(module)
    name = _plain(module) if ours else None
    if name is None or holds(module.base_layer) or (type(module.lora_dropout[name]) is nn.Dropout and module.lora_dropout[name].training):
        return None
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return Layer(module.base_layer.weight, a, b, module.scaling[name], module.base_layer.bias)


def _adapted(module: Any, alone: Forward, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """W x and the update in one. Whatever else peft may do is asked for at each call, and left to peft."""
    name, base = None if args or kwargs else _plain(module), module.base_layer
    if name is None or (holds(base) and not as_plain(base, x)):
        return alone(x, *args, **kwargs)
    drop = module.lora_dropout[name]
    dropped = drop(x) if isinstance(drop, nn.Dropout) and drop.training else None
    weight = partial(full, base) if holds(base) else base.weight
    y = lora_linear(x, weight, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name], base.bias, dropped)
    return y.to(x.dtype) if holds(base) else y  # as bitsandbytes hands it back


def _plain(layer: Any) -> str | None:
    """The one adapter that is at work in a layer of peft's, if all it does is to add s·B A x."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] in layer.lora_variant:
        return None
    name = active[0]
    base, *factors = linears = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    plain = type(base) is nn.Linear or holds(base)
    plain = plain and all(type(factor) is nn.Linear for factor in factors) and all(map(_unheard, linears)) and factors[1].bias is None
    drop = layer.lora_dropout[name]
    usual = type(drop) in (nn.Identity, nn.Dropout) and _unheard(drop) and isinstance(layer.scaling[name], int | float)
    return name if plain and usual else None


# Who builds them; a text is why a module is left alone.


def _norm(module: nn.Module) -> Forward:
    name, gemma = NORMS[type(module).__name__]
    return partial(normed, module, vars(module)[name], gemma)


def _mlp(module: Any) -> Forward | str:
    return _with_gate(module, module.act_fn, gated)


def _mlp_in_one(module: Any) -> Forward | str:
    return _with_gate(module, module.activation_fn, gated_in_one)


def _with_gate(module: nn.Module, act: nn.Module, forward: Forward) -> Forward | str:
    gate = GATES.get(type(act))
    return f"its activation is {type(act).__name__}" if gate is None else partial(forward, module, module.forward, gate)


def _attention(module: nn.Module) -> Forward | str:
    kind = type(module)
    if tuple(inspect.signature(kind.forward).parameters) != ("self", *TAKES):
        return "this release of transformers calls it in another way"
    return partial(attended, module, ATTENTIONS[kind.__name__](module), vars(sys.modules[kind.__module__])["eager_attention_forward"])


def _lora(layer: Any) -> Forward | str:
    base = layer.base_layer
    if not (type(base) is nn.Linear or holds(base)) or layer.fan_in_fan_out:
        return f"it stands over a {type(base).__name__}"
    if holds(base) and base.weight.is_cuda:
        return "bitsandbytes has kernels of its own on a GPU"
    if all(name in layer.lora_variant or factor.bias is not None for name, factor in layer.lora_B.items()):
        return "its update is more than s·B A x"
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
    | {"Linear": Entry("lora_linear", _lora, "peft.tuners.lora.layer"), "Linear4bit": Entry("lora_linear", _lora, "peft.tuners.lora.bnb")}
)
