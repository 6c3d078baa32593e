"""Block expansion: copies of layers that say nothing at first, learn alone, and are saved as a model with more layers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from workbench.core.errors import WorkbenchError
from workbench.methods.adapters.block_expansion import BlockExpansion
from workbench.methods.contracts import Attachment

IDS = torch.arange(5, 25).reshape(2, 10)


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=4, n_head=2, n_positions=32)).eval()


def gemma() -> PreTrainedModel:
    """Norms behind attention and MLP, and layers that look near and far in turn."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    config = Gemma2Config(vocab_size=50, num_hidden_layers=4, sliding_window=4, pad_token_id=0, bos_token_id=None, **shape)
    return Gemma2ForCausalLM(config).eval()


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(IDS).logits


def learn(attachment: Attachment) -> None:
    optimizer = torch.optim.SGD([parameter for group in attachment.groups() for parameter in group["params"]], lr=0.5)
    for _ in range(3):
        attachment.model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("layers", "every", "wanted"), [(3, 1, [0, 0, 1, 1, 2, 2]), (5, 2, [0, 1, 1, 2, 3, 3, 4]), (4, 4, [0, 1, 2, 3, 3])]
)
def test_copies_stand_where_the_distance_says(layers: int, every: int, wanted: list[int]) -> None:
    model, adapter = make_model(num_hidden_layers=layers), BlockExpansion(every=every)
    gates = [layer.mlp.gate_proj.weight.detach().clone() for layer in model.model.layers]
    grown = adapter.attach(model, seed=0).model
    assert len(grown.model.layers) == grown.config.num_hidden_layers == len(wanted)
    assert all(torch.equal(layer.mlp.gate_proj.weight, gates[source]) for layer, source in zip(grown.model.layers, wanted, strict=True))
    assert [layer.self_attn.layer_idx for layer in grown.model.layers] == list(range(len(wanted)))


@pytest.mark.parametrize("make", [make_model, gpt2, gemma])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_says_what_the_base_says_and_no_old_weight_moves(make: Callable[[], PreTrainedModel], dtype: torch.dtype) -> None:
    model = make().to(dtype)
    first, held = said(model), [parameter.detach().clone() for parameter in model.parameters()]
    old = list(model.parameters())
    attachment = BlockExpansion(every=2).attach(model, seed=0)
    assert torch.equal(said(attachment.model), first)
    learn(attachment)
    assert all(torch.equal(now, before) for now, before in zip(old, held, strict=True)) and not torch.equal(said(model), first)
    with attachment.base():
        assert torch.equal(said(model), first)


@pytest.mark.parametrize("make", [make_model, gpt2, gemma])
def test_what_is_saved_is_a_longer_model_that_transformers_loads(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    attachment = BlockExpansion(every=2).attach(make(), seed=0)
    learn(attachment)
    attachment.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(said(loaded), said(attachment.model))
    assert loaded.config.num_hidden_layers == make().config.num_hidden_layers * 3 // 2


def test_a_copy_looks_as_far_as_its_layer() -> None:
    model = gemma()
    kinds = model.config.layer_types
    grown = BlockExpansion(every=2).attach(model, seed=0).model
    assert grown.config.layer_types == [kinds[source] for source in (0, 1, 1, 2, 3, 3)]


def test_every_token_finds_its_place_in_the_cache() -> None:
    attachment = BlockExpansion(every=1).attach(make_model(), seed=0)
    learn(attachment)
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with_cache, without = (attachment.model.generate(IDS, use_cache=used, **how) for used in (True, False))
    assert torch.equal(with_cache, without)


def test_the_count_is_that_of_the_copies() -> None:
    model = make_model()
    each = sum(parameter.numel() for parameter in model.model.layers[0].parameters())
    assert BlockExpansion(every=1).cost(model).trained == 3 * each and BlockExpansion(every=2).cost(model).trained == each
    moving = {layer for _, layer, moved, _ in BlockExpansion(every=2).cost(model).by_module if moved}
    assert moving == {2}, "the copy behind the second layer is the third"


def experts(every: int) -> PreTrainedModel:
    """Every so many layers has experts, whose matrices come in one tensor."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    choice = {"num_experts": 2, "num_experts_per_tok": 1, "decoder_sparse_step": every}
    torch.manual_seed(0)
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=50, num_hidden_layers=4, head_dim=8, **choice, **shape)).eval()


def test_a_copy_of_experts_is_silent_and_one_that_would_become_another_kind_of_layer_is_refused() -> None:
    model = experts(every=1)
    first = said(model)
    assert torch.equal(said(BlockExpansion(every=2).attach(model, seed=0).model), first)
    with pytest.raises(WorkbenchError, match="another distance"):
        BlockExpansion(every=2).attach(experts(every=2), seed=0)


def test_what_cannot_be_grown_is_refused_with_a_remedy() -> None:
    model = make_model()
    model.tower = nn.Module()
    model.tower.layers = nn.ModuleList([nn.Identity()])
    with pytest.raises(WorkbenchError, match="in 2 places"):
        BlockExpansion(every=1).attach(model, seed=0)
    with pytest.raises(WorkbenchError, match="Set every to 3 or less"):
        BlockExpansion(every=4).cost(make_model())
    model = make_model()
    for layer in model.model.layers:
        layer.mlp.strange = nn.Linear(32, 32)
        layer.mlp.forward = lambda given, own=layer.mlp: own.strange(given)
    with pytest.raises(WorkbenchError, match="Choose another adapter"):
        BlockExpansion(every=1).attach(model, seed=0)
