"""qk_rope: the reference against complex numbers and gradcheck in both modes, and what the attentions of transformers hand over. The kernel
is in `rings/`."""

import pytest
import torch
from torch import Tensor
from transformers import Gemma3TextConfig, LlamaConfig, PreTrainedConfig, Qwen3Config, StableLmConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma3.modeling_gemma3 import Gemma3Attention, Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding
from transformers.models.stablelm.modeling_stablelm import StableLmAttention, StableLmRotaryEmbedding
from workbench_kernels.qk_rope import qk_rope, reference

PLACES = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]])  # the second row is two packed examples


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turns(places: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The angles (B, T, width/2) of arXiv:2104.09864, section 3.4, and their cos and sin as transformers hands them out: (B, T, width)."""
    angle = places[..., None] * 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return angle, *(torch.cat((half, half), -1) for half in (angle.cos(), angle.sin()))


@pytest.mark.parametrize("width", [8, 4])
def test_it_multiplies_by_complex_numbers_of_size_one(width: int) -> None:
    """The first half of what turns is the real part. What does not turn stays as it is."""
    q, k = drawn(2, 5, 3, 8), drawn(2, 5, 1, 8, seed=1)
    angle, cos, sin = turns(PLACES, width)
    for x, found in zip((q, k), reference(q, k, cos, sin), strict=True):
        z = torch.complex(*x[..., :width].chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)[:, :, None]
        torch.testing.assert_close(found, torch.cat((z.real, z.imag, x[..., width:]), -1), rtol=1e-12, atol=1e-12)


def test_scores_depend_on_distances_alone() -> None:
    q, k = drawn(1, 5, 1, 8), drawn(1, 5, 1, 8, seed=1)
    here, there = ([x[0, :, 0] for x in reference(q, k, *turns(PLACES[:1] + shift, 8)[1:])] for shift in (0, 1000))
    torch.testing.assert_close(here[0] @ here[1].T, there[0] @ there[1].T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gemma", [False, True])
def test_the_norm_comes_before_the_rotation_and_is_each_heads_own(gemma: bool) -> None:
    q, k, wq, wk = drawn(2, 5, 3, 8), drawn(2, 5, 1, 8, seed=1), drawn(8, seed=2), drawn(8, seed=3)
    _, cos, sin = turns(PLACES, 8)
    unit = [x / (x.square().sum(-1, keepdim=True) / 8 + 1e-6).sqrt() * (1 + w if gemma else w) for x, w in ((q, wq), (k, wk))]
    for found, expected in zip(reference(q, k, cos, sin, wq, wk, 1e-6, gemma), reference(*unit, cos, sin), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gemma", [False, True])
@pytest.mark.parametrize("width", [8, 4])
def test_its_gradient_is_that_of_its_formula(width: int, gemma: bool) -> None:
    """In both modes: a forward-mode derivative has no other road."""
    _, cos, sin = turns(PLACES[:, :2], width)
    given = [drawn(*shape, seed=i).requires_grad_() for i, shape in enumerate([(2, 2, 2, 8), (2, 2, 1, 8), (8,), (8,)])]
    op = lambda q, k, wq, wk: reference(q, k, cos, sin, wq, wk, 1e-6, gemma)  # noqa: E731
    assert torch.autograd.gradcheck(op, given, check_forward_ad=True)


SIZES = {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "attention, rotary, config, kind",
    [
        (LlamaAttention, LlamaRotaryEmbedding, LlamaConfig(**SIZES), ()),
        (StableLmAttention, StableLmRotaryEmbedding, StableLmConfig(**SIZES), ()),  # turns a quarter of each head
        (Qwen3Attention, Qwen3RotaryEmbedding, Qwen3Config(**SIZES, head_dim=16), ()),
        (Gemma3Attention, Gemma3RotaryEmbedding, Gemma3TextConfig(**SIZES, head_dim=16), ("sliding_attention",)),
    ],
    ids=["llama", "stablelm", "qwen3", "gemma3"],
)
def test_it_is_what_transformers_computes(
    attention: type[torch.nn.Module],
    rotary: type[torch.nn.Module],
    config: PreTrainedConfig,
    kind: tuple[str, ...],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit what the model's own attention gives to the function that attends, which has heads before tokens."""
    seen = list[Tensor]()
    monkeypatch.setitem(
        ALL_ATTENTION_FUNCTIONS, "watched", lambda _, q, k, v, *more, **named: (seen.extend((q, k)) or q.transpose(1, 2), None)
    )
    config._attn_implementation = "watched"
    theirs, x = attention(config, 0).to(dtype), drawn(2, 5, 48).to(dtype)
    cos, sin = rotary(config)(x, PLACES, *kind)
    heads = theirs.q_proj(x).view(2, 5, -1, 16), theirs.k_proj(x).view(2, 5, -1, 16)
    norms = []
    if attention in (Qwen3Attention, Gemma3Attention):
        norms = [torch.nn.init.normal_(norm.weight) for norm in (theirs.q_norm, theirs.k_norm)]
    theirs(hidden_states=x, position_embeddings=(cos, sin), attention_mask=None)
    found = qk_rope(*heads, cos, sin, *norms, eps=config.rms_norm_eps if norms else 0.0, gemma=attention is Gemma3Attention)
    for one, other in zip(found, seen, strict=True):
        assert torch.equal(one, other.transpose(1, 2))


def test_angles_in_float32_are_not_rounded_and_the_result_is_of_the_kind_of_q() -> None:
    q, k = (drawn(1, 5, heads, 8).bfloat16() for heads in (2, 1))
    _, cos, sin = turns(PLACES[:1], 8)
    found, exact = qk_rope(q, k, cos.float(), sin.float()), reference(q.double(), k.double(), cos, sin)
    for one, other in zip(found, exact, strict=True):
        assert torch.equal(one, other.bfloat16())
