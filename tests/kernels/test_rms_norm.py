"""rms_norm: the reference against float64, gradcheck, and transformers' own; what the op does without a GPU. The kernel is in `rings/`."""

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from workbench_kernels import road
from workbench_kernels.rms_norm import reference, rms_norm


@pytest.mark.parametrize("gemma", [False, True])
def test_its_gradient_is_that_of_its_formula(gemma: bool) -> None:
    x, w = (torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for shape in ((3, 7), (7,)))
    assert torch.autograd.gradcheck(lambda *given: reference(*given, 1e-6, gemma), (x.requires_grad_(), w.requires_grad_()))
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + w if gemma else w)
    torch.testing.assert_close(reference(x, w, 1e-6, gemma), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm, gemma", [(LlamaRMSNorm, False), (GemmaRMSNorm, True)])
def test_it_is_what_transformers_computes(norm: type[torch.nn.Module], gemma: bool, dtype: torch.dtype) -> None:
    theirs = norm(48, eps=1e-5).to(dtype)
    torch.nn.init.normal_(theirs.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(rms_norm(x, theirs.weight, 1e-5, gemma), theirs(x))


def test_a_road_that_is_forced_and_not_there_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1, 4)
    assert road.pick(x) == "reference"
    monkeypatch.setenv("WORKBENCH_ROAD", "triton")
    with pytest.raises(RuntimeError, match="Unset WORKBENCH_ROAD"):
        rms_norm(x, x[0], 1e-6)
    with road.only("reference"):
        assert rms_norm(x, x[0], 0.0).tolist() == x.tolist()
    monkeypatch.setenv("WORKBENCH_ROAD", "fast")
    with pytest.raises(RuntimeError, match="reference or triton"):
        road.pick(x)
