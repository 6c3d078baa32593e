"""MixLoRA: experts that are LoRAs of a shared MLP, tokens that hear only those they were given to, and a router that is kept in balance."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from pico import make_model
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.experts import DOWN, GATE, UP, Experts, balance
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.mixlora import MixLoRA, MixLoRAAttachment

IDS = torch.arange(5, 45).reshape(4, 10)
MLPS = [f"model.layers.{layer}.mlp" for layer in range(3)]
FEW = {"experts": 4, "rank": 3, "alpha": 6.0}


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def attached(model: PreTrainedModel | None = None, seed: int = 0, **knobs: object) -> MixLoRAAttachment:
    return MixLoRA(**{**FEW, **knobs}).attach(model or make_model(), seed)


def moved(model: PreTrainedModel | None = None, **knobs: object) -> MixLoRAAttachment:
    """Every number of it is random."""
    attachment, generator = attached(model, **knobs), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    return attachment


def by_the_formula(mlp: nn.Module, own: Experts, x: Tensor) -> Tensor:
    """Token by token and expert by expert, W_d and all."""
    shares, chosen = (x @ own.router.T).softmax(-1).topk(own.chosen, -1)
    answers = []
    for token, given, among in zip(x, shares / shares.sum(-1, keepdim=True), chosen.tolist(), strict=True):
        said = torch.zeros_like(token)
        for share, e in zip(given, among, strict=True):
            lora = {name: own.scale * own.write[name][e] @ own.read[name][e] for name in (GATE, UP, DOWN)}
            whole = {name: mlp.get_submodule(name).weight + lora[name] for name in lora}
            said = said + share * whole[DOWN] @ (nn.functional.silu(whole[GATE] @ token) * (whole[UP] @ token))
        answers.append(said)
    return torch.stack(answers)


@pytest.mark.parametrize("per_token", [1, 2, 4])
def test_what_a_token_hears_is_the_formula(per_token: int) -> None:
    attachment = moved(per_token=per_token)
    attachment.model.double()
    mlp, own = attachment.model.get_submodule(MLPS[1]), attachment.modules[MLPS[1]]
    assert isinstance(own, Experts)
    x = torch.randn(9, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(mlp(x[None])[0], by_the_formula(mlp, own, x), rtol=1e-5), "the router chooses in float32"


def test_at_the_start_no_expert_says_anything_and_the_seed_fixes_what_each_reads() -> None:
    one, again, other = (attached(seed=seed).state() for seed in (0, 0, 1))
    assert torch.equal(said(attached().model), said(make_model()))
    assert all(tensor.any() == ("write" not in name) for name, tensor in one.items())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one if "write" not in name)
    read = one[f"{MLPS[0]}.read.{DOWN}"]
    assert not torch.equal(read[0], read[1]) and 0.9 * 64**-0.5 < float(read.abs().max()) <= 64**-0.5
    routers = torch.cat([one[f"{name}.router"].flatten() for name in MLPS])
    assert 0.017 < float(routers.std()) < 0.023


def test_no_random_state_is_touched() -> None:
    model, before = make_model(), torch.get_rng_state()
    attached(model).model.train()(IDS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("attention", "targets"), [(False, "mlp"), (True, "all linear")])
def test_one_expert_is_lora(attention: bool, targets: str) -> None:
    one = moved(experts=1, per_token=1, attention=attention)
    lora = LoRA(rank=3, alpha=6.0, dropout=0.0, targets=targets).attach(make_model(), seed=0)
    state = one.state()
    for name, layer in lora.model.named_modules():
        if isinstance(layer, LoraLayer):
            host, _, matrix = name.rpartition(".")
            for side, factor in (("read", layer.lora_A), ("write", layer.lora_B)):
                own = state[f"{host}.{side}.{matrix}"][0] if host in MLPS else state[f"{name}.{side}"]
                factor["default"].weight.data = own.clone()
    assert torch.allclose(said(one.model), said(lora.model), atol=1e-4)
    assert not torch.allclose(said(one.model), said(make_model()), atol=1e-1)


def test_only_the_experts_that_were_chosen_hear_the_loss() -> None:
    """Routers that always prefer experts 2 and 0: the logits of the others are lower whatever x is, where x is not negative."""
    attachment = moved()
    own = attachment.modules[MLPS[0]]
    assert isinstance(own, Experts)
    own.router.data = torch.tensor([1.0, -1.0, 2.0, -2.0])[:, None].expand(4, 32).clone()
    x = torch.rand(2, 5, 32, generator=torch.Generator().manual_seed(0))
    attachment.model.get_submodule(MLPS[0])(x).square().sum().backward()
    for factors in (own.read, own.write):
        for factor in factors.values():
            assert [bool(slice_.any()) for slice_ in factor.grad] == [True, False, True, False]
    assert own.router.grad.any()


@contextmanager
def watched(attachment: MixLoRAAttachment) -> Iterator[dict[str, list[Tensor]]]:
    """What each MLP reads."""
    seen: dict[str, list[Tensor]] = {name: [] for name in MLPS}
    hooks = [
        attachment.model.get_submodule(name).register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].detach()))
        for name in MLPS
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def explicit(attachment: MixLoRAAttachment, batches: list[Tensor], strength: float) -> dict[str, Tensor]:
    """Router gradients of the loss plus the balance of each batch by its share of all tokens, by autograd."""
    tokens = sum(batch.numel() for batch in batches)
    total = torch.zeros(())
    for batch in batches:
        with watched(attachment) as seen:
            total = total + attachment.model(batch, labels=batch).loss
        for name in MLPS:
            own, (x,) = attachment.modules[name], seen[name]
            assert isinstance(own, Experts)
            probabilities = (x.flatten(0, -2) @ own.router.T).softmax(-1)
            chosen = probabilities.topk(own.chosen, -1).indices
            total = total + strength * balance(probabilities, chosen) * batch.numel() / tokens
    routers = {name: attachment.modules[name].get_parameter("router") for name in MLPS}
    return dict(zip(routers, torch.autograd.grad(total, list(routers.values())), strict=True))


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_pull_on_the_router_is_the_gradient_of_the_balance_over_the_window(anew: bool, scale: float) -> None:
    """Batches of unlike length, with activations computed anew or not, with a loss that is scaled up and gradients scaled down again."""
    batches = [IDS, IDS[:1, :4]]
    wanted = explicit(moved(balance=0.5), batches, 0.5)
    attachment = moved(balance=0.5)
    if anew:
        attachment.model.gradient_checkpointing_enable({"use_reentrant": False})
    attachment.model.train()
    attachment.redraw(1)
    for batch in batches:
        (scale * attachment.model(batch, labels=batch).loss).backward()
    routers = {name: attachment.modules[name].get_parameter("router") for name in MLPS}
    plain = {name: router.grad.div_(scale).clone() for name, router in routers.items()}
    attachment.before_step(1)
    for name, router in routers.items():
        assert torch.allclose(router.grad, wanted[name], rtol=1e-3, atol=1e-6)
        assert not torch.allclose(plain[name], wanted[name], rtol=0.1, atol=1e-4)


def test_what_does_not_train_does_not_count_and_a_step_that_was_left_out_is_forgotten() -> None:
    attachment = moved(balance=1.0)
    routers = [module.router for module in attachment.mixtures]
    said(attachment.model)
    attachment.model.train()
    with torch.no_grad():
        attachment.model(IDS)
    with attachment.base():
        attachment.model(IDS)
    assert all(module.pull() is None for module in attachment.mixtures)
    attachment.model(IDS)
    assert all(module.pull() is not None for module in attachment.mixtures)
    assert attachment.redraw(2) == {}
    attachment.before_step(2)
    assert all(router.grad is None for router in routers)
    attachment.model(IDS)
    attachment.before_step(3)
    assert all(router.grad.any() for router in routers) and all(module.pull() is None for module in attachment.mixtures)


def test_the_pull_brings_a_lopsided_router_into_balance() -> None:
    attachment = attached(balance=1.0, per_token=1)
    own = attachment.mixtures[0]
    x = torch.randn(200, 32, generator=torch.Generator().manual_seed(0)) + 0.3
    own.router.data[0] += 0.1
    optimizer, found = torch.optim.SGD([own.router], lr=0.5), []
    attachment.model.train()
    for step in range(60):
        attachment.model.get_submodule(MLPS[0])(x)
        attachment.before_step(step)
        optimizer.step()
        optimizer.zero_grad()
        probabilities = (x @ own.router.T).softmax(-1).detach()
        found.append(float(balance(probabilities, probabilities.topk(1, -1).indices)))
    assert found[0] > 1.1 and found[-1] - 1 < (found[0] - 1) / 3


def test_one_expert_for_a_token_gives_the_router_nothing_but_the_pull() -> None:
    attachment = moved(per_token=1)
    attachment.model(IDS, labels=IDS).loss.backward()
    assert all(module.router.grad.abs().max() < 1e-6 < module.write[UP].grad.abs().max() for module in attachment.mixtures)


def test_it_counts_three_matrices_an_expert_and_a_router() -> None:
    alone, both = (MixLoRA(**FEW, attention=attention).cost(make_model()).trained for attention in (False, True))
    assert alone == 3 * (4 * 3 * 3 * (32 + 64) + 4 * 32)
    assert both - alone == LoRA(rank=3, targets="attention").cost(make_model()).trained


def test_it_is_told_before_the_start_that_it_cannot_be_merged_and_what_memory_it_takes() -> None:
    assert "cannot be merged" in MixLoRA().costs() and "3 experts for a token" in MixLoRA(per_token=3).costs()


def test_an_answer_is_the_same_with_the_cache_and_without() -> None:
    model = moved().model
    told = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached, uncached = (model.generate(IDS[:2], use_cache=use, **told) for use in (True, False))
    assert torch.equal(cached, uncached) and not torch.equal(cached, make_model().generate(IDS[:2], **told))


def test_what_is_saved_answers_as_what_was_trained_to_the_bit(tmp_path: Path) -> None:
    attachment = moved()
    for name in ("saved", "base"):
        (tmp_path / name).mkdir()
    attachment.save(tmp_path / "saved")
    make_model().save_pretrained(tmp_path / "base")
    opened = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert not opened.training and torch.equal(said(opened), said(attachment.model))
    with pytest.raises(WorkbenchError, match="experts already"):
        attached(opened)


def test_a_lora_on_top_is_heard_by_the_experts() -> None:
    """They multiply by what stands at their host's matrices now."""
    model = moved().model
    before = said(model)
    on_top = LoRA(rank=2, dropout=0.0, targets="mlp").attach(model, seed=0)
    assert torch.equal(said(on_top.model), before)
    on_top.model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad.any() for name, parameter in on_top.trained() if "lora_B" in name)


def test_a_copy_of_the_model_has_experts_of_its_own() -> None:
    attachment = moved()
    twin, before = copy.deepcopy(attachment.model), said(attachment.model)
    for _, numbers in attachment.trained():
        nn.init.zeros_(numbers)
    assert torch.equal(said(attachment.model), said(make_model())) and torch.equal(said(twin), before)


def test_it_learns_in_float32_beside_a_model_in_half_precision() -> None:
    attachment = moved(make_model().to(torch.bfloat16))
    assert said(attachment.model).dtype == torch.bfloat16
    assert torch.equal(said(attached(make_model().to(torch.bfloat16)).model), said(make_model().to(torch.bfloat16)))
    with torch.autocast("cpu", torch.bfloat16):
        attachment.model.train()(IDS, labels=IDS).loss.backward()
    attachment.before_step(1)
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for _, parameter in attachment.trained())


def gemma() -> PreTrainedModel:
    """Another activation function."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=50, num_hidden_layers=2, **shape)).eval()


def test_other_gated_mlps_are_at_home_and_those_without_a_gate_are_refused_with_a_remedy() -> None:
    assert torch.equal(said(attached(gemma()).model), said(gemma()))
    with pytest.raises(WorkbenchError, match="Choose another adapter"):
        MixLoRA().cost(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)))


def test_an_mlp_that_does_something_else_with_the_same_matrices_is_refused() -> None:
    class Odd(type(make_model().model.layers[0].mlp)):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    model = make_model()
    model.model.layers[1].mlp = Odd(model.config)
    with pytest.raises(WorkbenchError, match="not the usual gated ones"):
        attached(model)


def test_more_experts_for_a_token_than_there_are_is_refused_with_a_remedy() -> None:
    with pytest.raises(WorkbenchError, match="Set experts for a token to 4 or less"):
        MixLoRA(**FEW, per_token=5).cost(make_model())


def test_it_tells_how_the_tokens_of_a_step_were_shared_out(pico_batch: dict[str, torch.Tensor]) -> None:
    attachment = MixLoRA(experts=4, per_token=2).attach(make_model(), seed=0)
    assert attachment.loads() == []
    attachment.model.train()
    for mixture in attachment.mixtures:  # experts 0 and 1 are always the likeliest: their routers read what is never 0
        torch.nn.init.zeros_(mixture.router)
    attachment.redraw(1)
    for _ in range(2):
        attachment.model(**pico_batch).loss.backward()
    attachment.before_step(1)
    assert sum(attachment.loads()) == pytest.approx(1.0) and sorted(attachment.loads()) == [0, 0, 0.5, 0.5]
    attachment.before_step(2)
    assert attachment.loads() == [], "a step without a pass that trains tells nothing"
