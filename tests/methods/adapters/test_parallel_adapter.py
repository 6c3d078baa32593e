"""The parallel adapter (arXiv:2110.04366): what it adds, what it costs, and that it answers the same wherever it is opened."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from workbench.core.errors import WorkbenchError
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.parallel_adapter import ParallelAdapter

IDS = torch.arange(5, 45).reshape(4, 10)
FORMS = ["parallel", "sequential"]


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def attached(model: PreTrainedModel | None = None, seed: int = 0, **knobs: object) -> InsertedAttachment:
    return ParallelAdapter(**{"units": 6, **knobs}).attach(model or make_model(), seed)


def moved(model: PreTrainedModel | None = None, **knobs: object) -> InsertedAttachment:
    """Every number of it is random."""
    attachment, generator = attached(model, **knobs), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    return attachment


def around(attachment: InsertedAttachment, layer: int = 1) -> tuple[nn.Module, dict[str, Tensor], Callable[[Tensor], Tensor]]:
    """An MLP, the numbers beside it in float64, and the MLP alone."""
    attachment.model.double()
    mlp = attachment.model.get_submodule(f"model.layers.{layer}.mlp")
    alone = make_model().double().get_submodule(f"model.layers.{layer}.mlp")
    return mlp, {name: tensor.double() for name, tensor in attachment.modules[f"model.layers.{layer}.mlp"].state_dict().items()}, alone


@pytest.mark.parametrize("form", FORMS)
def test_what_it_adds_is_the_formula(form: str) -> None:
    mlp, own, alone = around(moved(form=form, scale=2.5))
    x = torch.randn(7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        read = x if form == "parallel" else alone(x)
        inner = read @ own["down"].T + own["down_bias"]
        wanted = alone(x) + 2.5 * (inner.clamp_min(0) @ own["up"].T + own["up_bias"])
        assert torch.allclose(mlp(x), wanted, rtol=1e-12) and (inner < 0).any() and (inner > 0).any()


@pytest.mark.parametrize("form", FORMS)
def test_it_starts_with_zeros_where_it_writes_and_its_seed_fixes_the_rest(form: str) -> None:
    one, again, other = (attached(seed=seed, form=form).state() for seed in (0, 0, 1))
    assert all(not tensor.any() for name, tensor in one.items() if not name.endswith(".down"))
    downs = [name for name in one if name.endswith(".down")]
    assert len(downs) == 3 and all(0 < float(one[name].abs().max()) <= 32**-0.5 for name in downs), "Kaiming-uniform with a = √5"
    assert all(torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]) for name in downs)


def test_no_random_state_is_touched() -> None:
    model, before = make_model(), torch.get_rng_state()
    attached(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_where_every_unit_is_open_it_is_a_low_rank_change_of_the_block() -> None:
    """A ReLU that nothing goes below is none: y − F(x) = s·W_up·W_down·x, of rank r."""
    attachment = moved()
    for module in attachment.modules.values():
        nn.init.constant_(module.get_parameter("down_bias"), 1000.0)
        module.get_parameter("up_bias").data = -(module.get_parameter("up") @ module.get_parameter("down_bias")).detach()
    mlp, own, alone = around(attachment)
    own["up_bias"] = -own["up"] @ own["down_bias"]
    attachment.modules["model.layers.1.mlp"].get_parameter("up_bias").data = own["up_bias"]
    with torch.no_grad():
        eye = torch.eye(32, dtype=torch.float64)
        change = (mlp(eye) - alone(eye)).T
    assert torch.allclose(change, 4 * own["up"] @ own["down"], atol=1e-9) and torch.linalg.matrix_rank(change, rtol=1e-9) == 6


def test_with_the_relu_it_is_no_change_of_the_weights() -> None:
    mlp, _, alone = around(moved())
    one, other = torch.randn(2, 1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        added = [mlp(x) - alone(x) for x in (one, other, one + other, torch.zeros_like(one))]
    assert not torch.allclose(added[0] + added[1], added[2] + added[3], atol=1e-3)


@pytest.mark.parametrize(("form", "beside"), [("parallel", "gate_proj"), ("sequential", "down_proj")])
def test_it_counts_two_matrices_and_two_vectors_for_each_block(form: str, beside: str) -> None:
    found = ParallelAdapter(units=6, form=form).cost(make_model())
    each = 2 * 6 * 32 + 6 + 32
    assert found.trained == 3 * each and {(module, trained) for module, _, trained, _ in found.by_module if trained} == {(beside, each)}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_the_same_with_the_cache_and_without(form: str) -> None:
    model = moved(form=form).model
    told = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached, uncached = (model.generate(IDS[:2], use_cache=use, **told) for use in (True, False))
    assert torch.equal(cached, uncached) and not torch.equal(cached, make_model().generate(IDS[:2], **told))


def test_gradients_are_the_same_where_activations_are_computed_anew() -> None:
    found = []
    for anew in (False, True):
        attachment = moved()
        if anew:
            attachment.model.gradient_checkpointing_enable({"use_reentrant": False})
        attachment.model.train()
        attachment.model(IDS, labels=IDS).loss.backward()
        found.append({name: parameter.grad for name, parameter in attachment.trained()})
    assert all(gradient.any() and torch.allclose(gradient, found[1][name], rtol=1e-5) for name, gradient in found[0].items())


def test_it_learns_in_float32_beside_a_model_in_half_precision() -> None:
    attachment = moved(make_model().to(torch.bfloat16))
    assert {parameter.dtype for _, parameter in attachment.trained()} == {torch.float32}
    assert said(attachment.model).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        attachment.model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for _, parameter in attachment.trained())


def test_a_copy_of_the_model_has_modules_of_its_own() -> None:
    attachment = moved()
    twin, before = copy.deepcopy(attachment.model), said(attachment.model)
    for _, numbers in attachment.trained():
        nn.init.zeros_(numbers)
    assert torch.equal(said(attachment.model), said(make_model())) and torch.equal(said(twin), before)


@pytest.mark.parametrize("make", [make_model, gpt2])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_answers_as_what_was_trained(make: Callable[[], PreTrainedModel], form: str, tmp_path: Path) -> None:
    attachment = moved(make(), form=form, scale=1.5)
    for name in ("saved", "base"):
        (tmp_path / name).mkdir()
    attachment.save(tmp_path / "saved")
    make().save_pretrained(tmp_path / "base")
    opened = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert not opened.training and torch.equal(said(opened), said(attachment.model))
    assert not torch.allclose(said(opened), said(make()), atol=1e-2)


def opt() -> PreTrainedModel:
    """Its MLPs are matrices of the block, not a module."""
    return OPTForCausalLM(
        OPTConfig(vocab_size=50, hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16)
    )


def bloom() -> PreTrainedModel:
    """Its MLPs add the residual stream themselves."""
    return BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2))


@pytest.mark.parametrize("make", [opt, bloom])
def test_mlps_that_nothing_can_stand_beside_are_refused_with_a_remedy(make: Callable[[], PreTrainedModel]) -> None:
    with torch.device("meta"), pytest.raises(WorkbenchError, match="Choose another adapter"):
        ParallelAdapter().cost(make())


def test_it_is_told_before_the_start_that_it_cannot_be_merged() -> None:
    assert "cannot be merged" in ParallelAdapter().costs()


def test_with_a_prefix_it_starts_after_drawn_words_and_both_are_saved(tmp_path: Path) -> None:
    """MAM: at first the bottlenecks say nothing, and attention reads what stands before the text."""
    words = torch.randint(400, (6,), generator=torch.Generator().manual_seed(4))
    after_words = said_of(make_model(), torch.cat([words.expand(4, -1), IDS], 1))[:, 6:]
    attachment = attached(seed=4, prefix=6)
    assert torch.allclose(said(attachment.model), after_words, atol=1e-5)
    adapter = ParallelAdapter(prefix=6, units=8)
    assert adapter.cost(make_model()).trained == ParallelAdapter(units=8).cost(make_model()).trained + 3 * 2 * 6 * 2 * 8
    assert "does not start" in adapter.costs() and "does not start" not in ParallelAdapter().costs()
    generator = torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    assert {type(module).__name__ for module in attachment.modules.values()} == {"Bottleneck", "Prefix"} and len(attachment.modules) == 6
    make_model().save_pretrained(tmp_path / "base")
    (tmp_path / "saved").mkdir()
    attachment.save(tmp_path / "saved")
    loaded = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert torch.equal(said(loaded), said(attachment.model)) and not torch.allclose(said(loaded), after_words, atol=1e-2)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make_model()))


@torch.no_grad()
def said_of(model: nn.Module, ids: Tensor) -> Tensor:
    return model.eval()(ids).logits
