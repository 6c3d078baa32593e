"""swiglu and geglu: the reference against float64, gradcheck in both modes, and the MLPs of transformers. The kernel is in `rings/`."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import Gemma3TextConfig, GemmaConfig, LlamaConfig, PreTrainedConfig
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP
from transformers.models.llama.modeling_llama import LlamaMLP
from workbench_kernels.swiglu import geglu, reference, swiglu


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return (3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).to(dtype)


def gelu_tanh(x: float) -> float:
    """arXiv:1606.08415, section 2."""
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("gelu, by_hand", [(False, lambda x: x / (1 + math.exp(-x))), (True, gelu_tanh)])
def test_its_gradient_is_that_of_its_formula(gelu: bool, by_hand: Callable[[float], float]) -> None:
    gate, up = drawn(3, 7), drawn(3, 7, seed=1)
    expected = torch.tensor([[by_hand(x) * y for x, y in zip(*rows, strict=True)] for rows in zip(gate.tolist(), up.tolist(), strict=True)])
    torch.testing.assert_close(reference(gate, up, gelu).float(), expected, rtol=1e-6, atol=1e-12)
    given = (gate.requires_grad_(), up.requires_grad_())
    assert torch.autograd.gradcheck(lambda *both: reference(*both, gelu), given, check_forward_ad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "mlp, config, op", [(LlamaMLP, LlamaConfig, swiglu), (GemmaMLP, GemmaConfig, geglu), (Gemma3MLP, Gemma3TextConfig, geglu)]
)
def test_it_is_what_transformers_computes(
    mlp: type[torch.nn.Module], config: type[PreTrainedConfig], op: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    theirs, x = mlp(config(hidden_size=32, intermediate_size=40)).to(dtype), drawn(2, 5, 32, dtype=dtype)
    assert torch.equal(theirs.down_proj(op(theirs.gate_proj(x), theirs.up_proj(x))), theirs(x))


def test_the_activation_is_rounded_before_the_product() -> None:
    """silu(1) = 0.731059 is 0.730469 in bfloat16; 9 times that is 6.574, which becomes 6.5625. Rounded once, 6.580 would become 6.59375."""
    gate, up = torch.ones(1, dtype=torch.bfloat16), torch.full((1,), 9.0, dtype=torch.bfloat16)
    assert swiglu(gate, up).item() == 6.5625


def test_numbers_of_two_kinds_are_promoted_as_torch_does() -> None:
    """What autocast or adapters in float32 may bring: the reference takes it, whatever the road."""
    gate, up = drawn(2, 6, dtype=torch.bfloat16), drawn(2, 6, dtype=torch.float32)
    assert swiglu(gate, up).dtype == torch.float32
