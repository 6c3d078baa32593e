"""Ops of ours inside transformers models: the logits, loss and gradients that there were without, and nothing left behind."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from workbench.jobs import patching
from workbench.jobs.patching import install, patched

FAMILIES = ("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma", "Gemma2", "Gemma3", "Phi3")
NORMS = {"Qwen3": 9, "Gemma2": 9, "Gemma3": 13}  # in two layers: 5 without norms of heads and behind the parts
SHAPE = {
    "vocab_size": 67, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
BANDS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
MORE: dict[str, dict[str, Any]] = {
    "Qwen2": BANDS | {"use_sliding_window": True}, "Qwen3": BANDS | {"use_sliding_window": True}, "Mistral": {"sliding_window": 6},
    "Gemma2": BANDS | {"query_pre_attn_scalar": 8}, "Gemma3": BANDS | {"query_pre_attn_scalar": 8},
    "Mixtral": {"num_local_experts": 2, "num_experts_per_tok": 2}, "Phi3": {"head_dim": 6},
}  # fmt: skip


def tiny(family: str, **changes: Any) -> PreTrainedModel:
    """Two layers with random weights everywhere, norms too; the attention that the family loads with."""
    shape, kind = SHAPE | MORE.get(family, {}) | changes, {"Gemma3": "gemma3_text"}.get(family, family.lower())
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2 + (1.0 if parameter.dim() == 1 else 0.0)
    return model.eval()


def adapted(model: PreTrainedModel, **changes: Any) -> PeftModel:
    """LoRA on every matrix, with B away from zero."""
    wrapper = get_peft_model(model, LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": "all-linear", **changes}))
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapper.named_parameters():
        if "lora_" in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.2).to(parameter.dtype)
    return wrapper.eval()


def ids(rows: int = 2, tokens: int = 9) -> Tensor:
    return torch.randint(1, 67, (rows, tokens), generator=torch.Generator().manual_seed(3))


def worked(model: nn.Module, **given: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, loss, and the gradient of everything that learns."""
    model.zero_grad()
    found = model(input_ids=ids(), labels=ids(), **given)
    found.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    return found.logits.detach(), found.loss.detach(), gradients


def far(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-12)).item()


def same(found: tuple[Tensor, Tensor, dict[str, Tensor]], expected: tuple[Tensor, Tensor, dict[str, Tensor]], most: float = 1e-5) -> None:
    pairs = {"logits": (found[0], expected[0]), "loss": (found[1], expected[1])}
    assert found[2].keys() == expected[2].keys()
    pairs |= {name: (found[2][name], gradient) for name, gradient in expected[2].items()}
    for name, (one, other) in pairs.items():
        assert far(one, other) <= most, f"{name}: {far(one, other):.1e}"


def forwards(model: nn.Module) -> dict[str, Callable[..., Any]]:
    """What each module computes with, by name."""
    return {name: module.forward for name, module in model.named_modules()}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each op was called by a patched model."""
    calls = Counter[str]()

    def counting(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: calls.update([name]) or op(*given, **named)

    for name in ("rms_norm", "qk_rope", "lora_linear"):
        monkeypatch.setattr(patching, name, counting(name, vars(patching)[name]))
    together = patching.lora_linears
    monkeypatch.setattr(
        patching, "lora_linears", lambda x, layers: calls.update({"lora_linear": len(layers), "together": 1}) or together(x, layers)
    )
    for act, gate in patching.GATES.items():
        monkeypatch.setitem(patching.GATES, act, counting(gate.__name__, gate))
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lora", [False, True], ids=["alone", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_patched_model_computes_the_same(family: str, lora: bool, dtype: torch.dtype, taken: Counter[str]) -> None:
    model = tiny(family)
    whole = (adapted(model) if lora else model).to(dtype)
    before, expected = forwards(whole), worked(whole)
    with patched(model, everywhere=True) as found:
        same(worked(whole), expected)
    heads = 4 if family in ("Qwen3", "Gemma3") else 0  # norms that the rotation takes along
    gate, linears = "geglu" if "Gemma" in family else "swiglu", 4 if family == "Phi3" else 7
    assert taken == Counter(
        {"rms_norm": NORMS.get(family, 5) - heads, gate: 2, "qk_rope": 2 * (family != "Phi3"), "lora_linear": 2 * linears * lora}
        | {"together": 4 * lora * (family != "Phi3")}  # q, k and v of two layers, gate and up of two
    )
    assert sum(found.replaced["rms_norm"].values()) == NORMS.get(family, 5)
    assert forwards(whole) == before
    assert not any("forward" in vars(module) for module in whole.modules())
    assert torch.equal(worked(whole)[0], expected[0])


def test_of_a_mixture_of_experts_the_norms_are_taken(taken: Counter[str]) -> None:
    model = tiny("Mixtral")
    expected = worked(model)
    with patched(model, everywhere=True) as found:
        same(worked(model), expected)
    assert found.replaced == {"rms_norm": {"MixtralRMSNorm": 5}} and taken == {"rms_norm": 5}


def test_the_report_counts_what_was_replaced_and_what_was_not() -> None:
    model = tiny("Llama")
    adapted(model)
    with patched(model, everywhere=True) as found:
        assert found.left == {}
        assert found.replaced == {
            "rms_norm": {"LlamaRMSNorm": 5}, "swiglu": {"LlamaMLP": 2}, "qk_rope": {"LlamaAttention": 2}, "lora_linear": {"Linear": 14},
        }  # fmt: skip
    with patched(model) as found:  # on a CPU
        assert found.replaced == {"lora_linear": {"Linear": 14}}
        assert found.left == {"torch is as fast on a CPU": {"LlamaRMSNorm": 5, "LlamaMLP": 2, "LlamaAttention": 2}}
        assert (
            str(found) == "lora_linear in 14 Linear. Left alone: 2 LlamaAttention, 2 LlamaMLP, 5 LlamaRMSNorm (torch is as fast on a CPU)"
        )
    phi = install(tiny("Phi3"), everywhere=True)
    assert phi.replaced == {"rms_norm": {"Phi3RMSNorm": 5}, "swiglu": {"Phi3MLP": 2}}
    assert phi.left == {"its class is not known here": {"Phi3Attention": 2}}


class OwnRMSNorm(LlamaRMSNorm):
    pass


class Named(nn.Module):
    """Of a known name, from elsewhere."""


Named.__name__ = "LlamaMLP"


def test_what_is_unusual_is_left_alone_with_its_reason() -> None:
    model = tiny("Llama", hidden_act="gelu")
    layers = model.model.layers
    layers[0].input_layernorm = OwnRMSNorm(24)
    layers[0].self_attn.forward = layers[0].self_attn.forward
    model.model.other = Named()
    theirs, found = layers[0].self_attn.forward, install(model, everywhere=True)
    assert found.left == {
        "its class is not known here": {"OwnRMSNorm": 1, "LlamaMLP": 1},
        "its forward was replaced already": {"LlamaAttention": 1},
        "its activation is GELUActivation": {"LlamaMLP": 2},
    }
    assert found.replaced == {"rms_norm": {"LlamaRMSNorm": 4}, "qk_rope": {"LlamaAttention": 1}}
    found.restore()
    assert vars(layers[0].self_attn)["forward"] == theirs and "forward" not in vars(layers[1].self_attn)


def test_a_lora_over_something_else_than_a_linear_is_left_alone() -> None:
    shape = {"n_embd": 24, "n_layer": 1, "n_head": 4, "vocab_size": 67, "n_positions": 16}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **shape))
    get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    assert install(model).left["it stands over a Conv1D"] == {"Linear": 1}


def test_an_attention_that_is_called_in_another_way_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "TAKES", ("hidden_states", "cos", "sin"))
    assert install(tiny("Llama"), everywhere=True).left == {"this release of transformers calls it in another way": {"LlamaAttention": 2}}


def disabled(whole: PeftModel) -> None:
    whole.disable_adapter_layers()


def merged(whole: PeftModel) -> None:
    whole.merge_adapter()


def two(whole: PeftModel) -> None:
    whole.add_adapter("second", LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear"))
    whole.base_model.set_adapter(["default", "second"])


def none(whole: PeftModel) -> None:
    whole.base_model.set_adapter([])


def dora(whole: PeftModel) -> None:
    whole.add_adapter("second", LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear", use_dora=True))
    whole.set_adapter("second")


def biased(whole: PeftModel) -> None:
    whole.add_adapter("second", LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear", lora_bias=True))
    whole.set_adapter("second")


def listened(whole: PeftModel) -> None:
    for name, module in whole.named_modules():
        if name.endswith(("base_layer", "lora_A.default")):
            module.register_forward_hook(lambda module, given, out: out * 1.5)


def replaced(whole: PeftModel) -> None:
    for name, module in whole.named_modules():
        if name.endswith("lora_B.default"):
            module.forward = lambda x, module=module: nn.functional.linear(x, module.weight) * 2


@pytest.mark.parametrize("change", [disabled, merged, two, none, dora, biased, listened, replaced])
def test_whatever_else_peft_can_do_is_left_to_peft(change: Callable[[PeftModel], None], taken: Counter[str]) -> None:
    """Also where it comes up after the ops were put in: the layers are asked at each call."""
    plain, whole = (adapted(tiny("Llama", attention_bias=True, mlp_bias=True)) for _ in range(2))
    with patched(whole.get_base_model()):
        before = whole(input_ids=ids()).logits
        assert taken["lora_linear"] == 14
        for one in (plain, whole):
            torch.manual_seed(4)
            change(one)
        after = whole(input_ids=ids()).logits
        assert torch.equal(after, plain(input_ids=ids()).logits)
        assert taken["lora_linear"] == 14 and (far(after, before) > 0.01) == (change is not merged)


def test_a_batch_of_several_adapters_and_one_that_is_switched_off_for_a_while(taken: Counter[str]) -> None:
    whole = adapted(tiny("Llama"))
    whole.add_adapter("second", LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear"))
    names = ["default", "second"]
    mixed = whole(input_ids=ids(), adapter_names=names).logits
    with whole.disable_adapter():
        off = whole(input_ids=ids()).logits
    with patched(whole.get_base_model()):
        assert torch.equal(whole(input_ids=ids(), adapter_names=names).logits, mixed)
        with whole.disable_adapter():
            assert torch.equal(whole(input_ids=ids()).logits, off)
        assert not taken
        whole.set_adapter("second")
        torch.testing.assert_close(whole(input_ids=ids()).logits[1], mixed[1])
        assert taken["lora_linear"] == 14


@pytest.mark.parametrize("family", ["Qwen3", "Phi3"])
def test_whoever_listens_is_heard(family: str, taken: Counter[str]) -> None:
    model = tiny(family)
    heard = Counter[str]()
    for name, module in model.named_modules():
        if name.startswith("model.layers.1"):
            module.register_forward_hook(lambda module, given, out, name=name: heard.update([name]))
    model(input_ids=ids())
    alone = Counter(heard)
    heard.clear()
    with patched(model, everywhere=True):
        model(input_ids=ids())
    assert heard == alone and set(heard.values()) == {1}
    assert taken["swiglu"] == 1 and taken["rms_norm"] == (
        7 if family == "Qwen3" else 5
    )  # the norms of heads and the gate of one layer stand aside


def dropping(layer: Any) -> None:
    layer.lora_dropout["default"] = nn.Dropout(0.5).train()


def answered(layer: Any) -> None:
    forward = layer.forward
    layer.forward = lambda x: forward(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None), lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: layer.lora_A["default"].register_forward_hook(lambda *_: None), lambda layer: layer.enable_adapters(False),
        dropping, answered,
    ],
    ids=["heard", "heard before", "its A is heard", "switched off", "drops", "somebody else's"],
)  # fmt: skip
def test_projections_are_taken_together_only_where_each_is_nothing_but_ours(change: Callable[[Any], object], taken: Counter[str]) -> None:
    """One of them is anything else: then it is called, and so are those beside it."""
    model = tiny("Llama")
    whole, layer = adapted(model), model.model.layers[0].self_attn.k_proj
    called = list[str]()
    with patched(model, everywhere=True):
        change(layer)
        torch.manual_seed(0)
        found = worked(whole)
        assert taken["together"] == 3
        for name in ("q_proj", "k_proj", "v_proj"):
            model.model.layers[0].self_attn.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
        torch.manual_seed(0)
        same(worked(whole), found)
    assert called == ["q_proj", "k_proj", "v_proj"]
    torch.manual_seed(0)
    same(worked(whole), found)


def test_a_norm_of_heads_that_somebody_else_answers_for_is_asked() -> None:
    model = tiny("Qwen3")
    model.model.layers[0].self_attn.k_norm.forward = lambda x: x * 0.5
    expected = worked(model)
    with patched(model, everywhere=True) as found:
        same(worked(model), expected)
    assert found.left == {"its forward was replaced already": {"Qwen3RMSNorm": 1}}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_writes_the_same_tokens_with_a_cache(family: str) -> None:
    model = tiny(family)
    prompt = ids(2, 7)
    mask = torch.ones_like(prompt)
    mask[0, :3] = 0
    given = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    expected = model.generate(prompt, **given)
    with patched(model, everywhere=True):
        assert torch.equal(model.generate(prompt, **given), expected)
        assert torch.equal(model(input_ids=expected[1:]).logits[0, 6:-1].argmax(-1), expected[1, 7:])  # and without one


@pytest.mark.parametrize("recompute", [False, True])
def test_training_with_dropout_and_recomputed_layers_is_the_same(recompute: bool) -> None:
    model = tiny("Qwen3", attention_dropout=0.2)
    whole = adapted(model, lora_dropout=0.3).train()
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    torch.manual_seed(5)
    expected = worked(whole, use_cache=False)
    with patched(model, everywhere=True):
        torch.manual_seed(5)
        same(worked(whole, use_cache=False), expected)
        torch.manual_seed(6)
        assert not torch.equal(worked(whole, use_cache=False)[0], expected[0])


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_halves_beside_float32_and_autocast(base: torch.dtype, autocast: bool, taken: Counter[str]) -> None:
    """The adapter stays in float32, its gradients too; all in float32 lies no farther off than without us, give or take a rounding."""
    exact = adapted(tiny("Llama"))
    expected = worked(exact)
    model = tiny("Llama").to(base)
    whole = adapted(model)
    for name, parameter in whole.named_parameters():
        parameter.data = parameter.data.float() if "lora_" in name else parameter.data
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        without = worked(whole)
        with patched(model, everywhere=True):
            found = worked(whole)
    assert taken["lora_linear"] == 14
    for name, gradient in without[2].items():
        assert found[2][name].dtype == torch.float32
        assert far(found[2][name], expected[2][name]) <= 1.3 * far(gradient, expected[2][name]) + 0.01, name
    assert far(found[0], expected[0]) <= 1.3 * far(without[0], expected[0]) + 1e-3
    assert found[0].dtype == without[0].dtype


def test_a_forward_derivative_goes_through() -> None:
    """As the step-safety probe takes it."""
    model = tiny("Llama")
    whole = adapted(model)
    parameters = {name: parameter.detach() for name, parameter in whole.named_parameters()}

    def derivative() -> Tensor:
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            duals = {name: forward_ad.make_dual(value, value.cos()) for name, value in parameters.items()}
            return forward_ad.unpack_dual(torch.func.functional_call(whole, duals, (), {"input_ids": ids()}).logits).tangent

    expected = derivative()
    with patched(model, everywhere=True):
        torch.testing.assert_close(derivative(), expected, rtol=1e-4, atol=1e-4)


def test_a_copy_of_a_patched_model_computes_with_its_own_numbers() -> None:
    model = tiny("Qwen3")
    whole = adapted(model)
    before = whole(input_ids=ids()).logits
    with patched(model, everywhere=True):
        other = copy.deepcopy(whole)
        for parameter in whole.parameters():
            parameter.data.mul_(0.5)
        torch.testing.assert_close(other(input_ids=ids()).logits, before)
        assert far(whole(input_ids=ids()).logits, before) > 0.01


def test_what_was_put_over_ours_stays() -> None:
    model = tiny("Llama")
    expected, found = worked(model), install(model, everywhere=True)
    norm = model.model.norm
    ours = norm.forward
    norm.forward = lambda x: ours(x)
    theirs = norm.forward
    found.restore()
    assert norm.forward is theirs and sum("forward" in vars(module) for module in model.modules()) == 1
    same(worked(model), expected)


def test_an_error_inside_takes_them_out_too() -> None:
    model = tiny("Llama")
    with pytest.raises(ValueError, match="stop"), patched(model, everywhere=True):
        raise ValueError("stop")
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_second_install_finds_the_first_and_takes_nothing() -> None:
    model = tiny("Llama")
    first = install(model, everywhere=True)
    second = install(model, everywhere=True)
    assert second.replaced == {} and set(second.left) == {"its forward was replaced already"}
    second.restore()
    assert len(first.forwards) == 9 and all("forward" in vars(module) for module, _ in first.forwards)
