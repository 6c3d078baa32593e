"""LLaMA-Adapter (arXiv:2303.16199): what the prompts add, that it starts from nothing, and that it answers the same wherever opened."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from workbench.core.errors import WorkbenchError
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.llama_adapter import LlamaAdapter

IDS = torch.arange(5, 45).reshape(4, 10)
HOST = "model.layers.1.self_attn"
SMALL = {
    "vocab_size": 50, "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 24, "pad_token_id": 0,
}  # fmt: skip


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def moved(**knobs: int) -> InsertedAttachment:
    """Every number of it is random, so the gates are open."""
    attachment, generator = LlamaAdapter(**{"tokens": 3, **knobs}).attach(make_model(), seed=0), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, generator=generator)
    return attachment


def test_what_it_adds_is_attention_to_the_prompts_alone_by_the_head() -> None:
    attachment = moved()
    host, own = attachment.model.get_submodule(HOST), attachment.modules[HOST]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        q, k, v = host.q_proj(x), host.k_proj(own.prompt), host.v_proj(own.prompt)
        parts = []
        for head in range(4):
            mine, shared = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)  # two heads share keys and values
            shares = (q[..., mine] @ k[:, shared].T / 8**0.5).softmax(-1)
            parts.append(own.gate[head] * shares @ v[:, shared])
        assert torch.allclose(own(host, x), host.o_proj(torch.cat(parts, -1)), atol=1e-6)


def test_gates_open_first_and_then_the_prompts_learn() -> None:
    attachment = LlamaAdapter().attach(make_model(), seed=0)
    assert torch.equal(said(attachment.model), said(make_model()))
    for open_ in (False, True):
        attachment.model(IDS, labels=IDS).loss.backward()
        for own in attachment.modules.values():
            gate, prompt = own.get_parameter("gate"), own.get_parameter("prompt")
            assert gate.grad.any() and bool(prompt.grad.any()) == open_
            gate.data -= gate.grad
            gate.grad = prompt.grad = None


def test_prompts_say_the_same_to_every_place_of_the_text_and_nothing_of_what_comes_later() -> None:
    attachment = moved()
    with torch.no_grad():
        whole, part = attachment.model.eval()(IDS).logits, attachment.model(IDS[:, :6]).logits
    assert torch.allclose(whole[:, :6], part, atol=1e-5)


def test_an_answer_is_the_same_with_the_cache_and_without() -> None:
    attachment = moved()
    for own in attachment.modules.values():
        own.get_parameter("gate").data.mul_(30)
    model = attachment.model.eval()
    told = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached, uncached = (model.generate(IDS[:2], use_cache=use, **told) for use in (True, False))
    assert torch.equal(cached, uncached) and not torch.equal(cached, make_model().generate(IDS[:2], **told))


def test_the_last_blocks_alone_and_what_they_cost() -> None:
    attachment = LlamaAdapter(tokens=3, blocks=2).attach(make_model(), seed=0)
    assert set(attachment.modules) == {"model.layers.1.self_attn", "model.layers.2.self_attn"}
    assert LlamaAdapter(tokens=3, blocks=2).cost(make_model()).trained == 2 * (3 * 32 + 4)


def test_its_seed_fixes_the_start_and_no_random_state_is_touched() -> None:
    model, before = make_model(), torch.get_rng_state()
    one = LlamaAdapter().attach(model, seed=0).state()
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (LlamaAdapter().attach(make_model(), seed=seed).state() for seed in (0, 1))
    prompts = [name for name in one if name.endswith("prompt")]
    assert len(prompts) == 3 and all(torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]) for name in prompts)


def test_what_is_saved_answers_as_what_was_trained(tmp_path: Path) -> None:
    attachment = moved()
    for name in ("saved", "base"):
        (tmp_path / name).mkdir()
    attachment.save(tmp_path / "saved")
    make_model().save_pretrained(tmp_path / "base")
    opened = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert torch.equal(said(opened), said(attachment.model)) and not torch.allclose(said(opened), said(make_model()), atol=1e-2)


def test_norms_of_single_heads_are_passed_too() -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8)).eval()
    attachment = LlamaAdapter(tokens=3).attach(model, seed=0)
    host, own = model.get_submodule(HOST), attachment.modules[HOST]
    nn.init.ones_(own.get_parameter("gate"))
    for name in ("q_norm", "k_norm"):
        nn.init.uniform_(host.get_submodule(name).weight, 0.5, 3.0)
    x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        q = host.q_norm(host.q_proj(x).unflatten(-1, (2, 8)))
        k = host.k_norm(host.k_proj(own.prompt).unflatten(-1, (2, 8)))
        v = host.v_proj(own.prompt).unflatten(-1, (2, 8))
        heads = [(q[..., head, :] @ k[:, head].T / 8**0.5).softmax(-1) @ v[:, head] for head in range(2)]
        assert torch.allclose(own(host, x), host.o_proj(torch.cat(heads, -1)), atol=1e-6)


def test_queries_keys_and_values_of_one_matrix_are_taken_apart() -> None:
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(**{**SMALL, "num_key_value_heads": 1})).eval()
    attachment = LlamaAdapter(tokens=3).attach(model, seed=0)
    host, own = model.get_submodule(HOST), attachment.modules[HOST]
    nn.init.ones_(own.get_parameter("gate"))
    x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        query, key, value = host.qkv_proj.weight.split((16, 8, 8))
        heads = [(x @ query[at : at + 8].T @ (own.prompt @ key.T).T / 8**0.5).softmax(-1) @ (own.prompt @ value.T) for at in (0, 8)]
        assert torch.allclose(own(host, x), host.o_proj(torch.cat(heads, -1)), atol=1e-6)


def test_other_attentions_are_refused_with_a_remedy() -> None:
    """Matrices of other names that are stored the other way round; norms of all heads together."""
    with torch.device("meta"):
        for model in (GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2)), Olmo2ForCausalLM(Olmo2Config(**SMALL))):
            with pytest.raises(WorkbenchError, match="Choose another adapter"):
                LlamaAdapter().cost(model)
