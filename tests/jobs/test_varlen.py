"""Packed rows one by one: the numbers of transformers' mask, of the rows alone, and every other batch as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from workbench_kernels import road

from workbench.core.errors import WorkbenchError
from workbench.jobs import patching, varlen
from workbench.jobs.varlen import install, rows_of, same_packed
from workbench.materials.models import hidden_states

LENGTHS = [[5, 1, 7, 3], [9, 7]]  # of the rows of two packs
SHAPE = {
    "vocab_size": 67, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
BANDS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "gemma": {}, "qwen2": BANDS | {"use_sliding_window": True}, "qwen3": BANDS | {"use_sliding_window": True},
    "mistral": {"sliding_window": 4}, "mixtral": {"sliding_window": 4, "num_local_experts": 2},
    "phi3": {"hidden_size": 32, "sliding_window": 4}, "gemma3_text": BANDS | {"query_pre_attn_scalar": 8},
}  # fmt: skip


def tiny(family: str = "llama", **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SHAPE | FAMILIES.get(family, {}) | {"initializer_range": 0.3} | changes))
    return AutoModelForCausalLM.from_config(config).eval()


def pack() -> dict[str, Tensor]:
    """Two packs of 16 tokens."""
    places = torch.tensor([[place for length in lengths for place in range(length)] for lengths in LENGTHS])
    return {"input_ids": torch.randint(1, 67, places.shape, generator=torch.Generator().manual_seed(1)), "position_ids": places}


def worked(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Final states, and the gradients of an uneven sum of them."""
    model.zero_grad()
    found = hidden_states(model, batch)
    (found * torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
    return found.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Where the rows began, each time that a layer took them one by one."""
    found, plain = list[list[int]](), varlen._one_by_one
    monkeypatch.setattr(varlen, "_one_by_one", lambda q, k, v, begins, *rest: found.append(begins) or plain(q, k, v, begins, *rest))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_the_mask_computes(family: str, asked: list[list[int]]) -> None:
    model, batch = tiny(family), pack()
    expected, gradients = worked(model, batch)
    apart = install(model)
    assert apart.left == ""
    found, others = worked(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(others, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert asked == [[0, 5, 6, 13, 16, 25, 32]] * 2  # once a layer, with the rows of both packs
    apart.restore()
    assert torch.equal(worked(model, batch)[0], expected) and len(asked) == 2


def test_in_float64_a_pack_is_its_rows_alone() -> None:
    model, batch = tiny().double(), pack()
    install(model)
    found = hidden_states(model, batch)
    for line, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            row = {"input_ids": batch["input_ids"][line : line + 1, start : start + length]}
            torch.testing.assert_close(found[line, start : start + length], hidden_states(model, row)[0], rtol=0, atol=1e-12)
            start += length


def test_rows_begin_where_positions_do_not_go_on() -> None:
    assert rows_of(torch.tensor([[0, 1, 2, 0, 0, 1], [3, 4, 0, 1, 2, 3]])).tolist() == [0, 3, 4, 6, 8, 12]
    assert rows_of(torch.arange(4)[None]).tolist() == [0, 4]


@pytest.mark.parametrize("mask", [True, False])
def test_every_other_batch_goes_as_before(mask: bool, asked: list[list[int]]) -> None:
    """Padded rows, rows that are not packed, a cache, and what is generated with one."""
    ids = pack()["input_ids"]
    given: dict[str, Any] = {"attention_mask": (torch.arange(16) >= torch.tensor([[0], [5]])).long()} if mask else {}
    model = tiny("qwen3")

    def everything() -> list[Tensor]:
        whole = model(input_ids=ids, **given, use_cache=False)
        first = model(input_ids=ids[:, :9], attention_mask=given["attention_mask"][:, :9] if mask else None, use_cache=True)
        then = model(input_ids=ids[:, 9:], **given, past_key_values=first.past_key_values, use_cache=True)
        in_order = model(input_ids=ids, position_ids=torch.arange(16).expand(2, 16), use_cache=False)
        text = model.generate(ids, **given, max_new_tokens=5, do_sample=False)
        return [whole.logits, first.logits, then.logits, in_order.logits, text]

    expected = everything()
    install(model)
    for one, other in zip(everything(), expected, strict=True):
        assert torch.equal(one, other)
    assert not asked


def test_a_pack_with_a_mask_or_a_cache_is_left_to_transformers_and_so_is_the_reference_road(asked: list[list[int]]) -> None:
    model, batch = tiny(), pack()
    given = [{"use_cache": False, "attention_mask": torch.ones_like(batch["input_ids"])}, {"use_cache": True}, {}]
    expected = [model(**batch, **more).logits for more in given]
    states = hidden_states(model, batch)
    install(model)
    for more, logits in zip(given, expected, strict=True):
        assert torch.equal(model(**batch, **more).logits, logits)
    with road.only("reference"):
        assert torch.equal(hidden_states(model, batch), states)
    assert not asked


def test_embeddings_in_the_place_of_ids_and_a_call_by_position(asked: list[list[int]]) -> None:
    model, batch = tiny(), pack()
    shown = {"inputs_embeds": model.get_input_embeddings()(batch["input_ids"]).detach(), "position_ids": batch["position_ids"]}
    expected = hidden_states(model, batch)
    install(model)
    torch.testing.assert_close(hidden_states(model, shown), expected)
    found = model.base_model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert len(asked) == 4


@pytest.mark.parametrize("recompute", [False, True])
def test_recomputed_layers_know_the_rows_too(recompute: bool, asked: list[list[int]]) -> None:
    model, batch = tiny("qwen3"), pack()
    expected, gradients = worked(model, batch)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    install(model.train())
    patching.install(model, everywhere=True)
    found, others = worked(model, batch)
    assert len(asked) == (4 if recompute else 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(others, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_autocast_computes_in_its_numbers() -> None:
    model, batch = tiny(), pack()
    expected = hidden_states(model, batch)
    install(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = hidden_states(model, batch)
    assert 0 < (found - expected).norm() / expected.norm() < 0.05


def test_a_forward_derivative_goes_through() -> None:
    """As the step-safety probe takes it."""
    model, batch = tiny(), pack()
    parameters = {name: parameter.detach() for name, parameter in model.base_model.named_parameters()}

    def derivative() -> Tensor:
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            duals = {name: forward_ad.make_dual(value, value.cos()) for name, value in parameters.items()}
            states = torch.func.functional_call(model.base_model, duals, (), {**batch, "use_cache": False}).last_hidden_state
            return forward_ad.unpack_dual(states).tangent

    expected = derivative()
    install(model)
    torch.testing.assert_close(derivative(), expected, rtol=1e-4, atol=1e-4)


def test_models_that_it_does_not_know_keep_their_attention(tmp_path: Path) -> None:
    odd = {
        "gemma2": {"query_pre_attn_scalar": 8},
        "llama": {"attn_implementation": "eager"},
        "gemma3_text": {"use_bidirectional_attention": True},
    }
    left = {family: install(tiny(family, **changes)).left for family, changes in odd.items()}
    assert left == {
        "gemma2": "Gemma2Model is not known here",
        "llama": "its attention is eager, not sdpa",
        "gemma3_text": "its attention looks ahead",
    }
    model = tiny()
    install(model)
    model.save_pretrained(tmp_path)
    assert varlen.NAME not in (tmp_path / "config.json").read_text()


# torch's variable-length attention as its releases call it, computed by a loop.


def looped(q: Tensor, k: Tensor, v: Tensor, begins: Tensor, scale: float | None, left: int) -> Tensor:
    parts = []
    for start, end in zip(begins.tolist(), begins.tolist()[1:], strict=False):
        places = torch.arange(end - start)
        seen = (places[:, None] >= places) & ((left < 0) | (places[:, None] - places <= left))
        parts.append(
            scaled_dot_product_attention(*(each[start:end].transpose(0, 1) for each in (q, k, v)), seen, scale=scale).transpose(0, 1)
        )
    return torch.cat(parts)


def first_release(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal and query.shape == key.shape == value.shape
    return looped(query, key, value, cu_seq_q, None, -1)


def second_release(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    assert window_size[1] == 0 and query.shape == key.shape == value.shape
    return looped(query, key, value, cu_seq_q, scale, window_size[0])


def third_release(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):
    assert window_size[1] == 0 and enable_gqa and max_q == max_k == 9
    key, value = (each.repeat_interleave(2, 1) for each in (key, value))
    return looped(query, key, value, cu_seq_q, scale, window_size[0])


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("release", [first_release, second_release, third_release])
def test_a_gpu_gets_all_rows_in_one_launch(release: Callable[..., Tensor], family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny(family, query_pre_attn_scalar=5), pack()
    expected = hidden_states(model, batch)
    calls = list[Callable[..., Tensor]]()
    names = frozenset(varlen.inspect.signature(release).parameters)
    monkeypatch.setattr(varlen, "_flash", lambda: (lambda *given, **named: calls.append(release) or release(*given, **named), names))
    monkeypatch.setattr(varlen, "_flashes", lambda query, dropout, window: window is None or "window_size" in names)
    install(model)
    torch.testing.assert_close(hidden_states(model, batch), expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == (1 if release is first_release and family == "gemma3_text" else 2)


def test_this_release_of_torch_has_it_and_a_cpu_does_not_take_it() -> None:
    found = varlen._flash()
    assert found is not None and {"cu_seq_q", "max_q", "window_size", "scale", "enable_gqa"} <= found[1]
    assert not varlen._flashes(torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16), 0.0, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_it_is_what_the_mask_computes(family: str, asked: list[list[int]]) -> None:
    model, batch = tiny(family).cuda().bfloat16(), {name: tensor.cuda() for name, tensor in pack().items()}
    exact = hidden_states(tiny(family), pack())
    masked = hidden_states(model, batch)
    install(model)
    found = hidden_states(model, batch)
    found.float().square().mean().backward()
    assert not asked
    assert (found.cpu() - exact).norm() <= 1.5 * (masked.cpu() - exact).norm() + 1e-3 * exact.norm()


# The proof at the start of a run.


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_pack_that_says_what_its_rows_say_is_passed(dtype: torch.dtype, apart: bool) -> None:
    model = tiny().to(dtype).train()
    if apart:
        install(model)
    before = torch.random.get_rng_state()
    found = same_packed(model, pack())
    assert 0 <= found <= {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.1)
    assert model.training and torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_that_see_one_another_end_the_run(dtype: torch.dtype) -> None:
    """An attention that sees the whole pack, as one does that was handed a mask of ones."""
    model = tiny().to(dtype)
    blind = lambda module, args, kwargs: (args, {**kwargs, "attention_mask": torch.ones_like(kwargs["position_ids"])})  # noqa: E731
    model.base_model.register_forward_pre_hook(blind, with_kwargs=True)
    with pytest.raises(
        WorkbenchError, match=r"rows of a pack see one another in this LlamaForCausalLM: in one pack, 4 of them .* Switch packing off"
    ):
        same_packed(model.train(), pack())
    assert model.training


def test_states_that_are_no_numbers_do_not_pass() -> None:
    model = tiny()
    nn.init.constant_(model.base_model.norm.weight, torch.nan)
    with pytest.raises(WorkbenchError, match="differ by nan"):
        same_packed(model, pack())


def test_it_reads_no_more_than_a_few_rows_of_one_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    read, plain = list[tuple[int, ...]](), varlen.hidden_states
    monkeypatch.setattr(varlen, "hidden_states", lambda model, batch: read.append(tuple(batch["input_ids"].shape)) or plain(model, batch))
    places = torch.cat([torch.arange(length) for length in (300, 40, 200, 8, 9)]).expand(3, -1)
    same_packed(tiny(max_position_embeddings=512), {"input_ids": torch.ones_like(places), "position_ids": places})
    assert read == [(1, 128 + 40 + 128 + 8), (1, 128), (1, 40), (1, 128), (1, 8)]


def test_a_pack_of_one_row_has_nothing_to_compare() -> None:
    places = torch.arange(6)[None]
    assert same_packed(tiny(), {"input_ids": places + 1, "position_ids": places}) == 0
