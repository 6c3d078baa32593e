"""Whole models with every op by its kernel: logits, loss and every gradient as near to float64 as those of the same models without."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from ring import DEVICE, INTERPRETED, draw, far
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from workbench_kernels import qk_rope, rms_norm, swiglu

from workbench.jobs.patching import patched
from workbench.jobs.quickening import warm
from workbench.materials import optimizers
from workbench.materials.odds import label_logp, label_odds
from workbench.materials.region import Part
from workbench.materials.regions import Rows
from workbench.methods.losses.cross_entropy import CrossEntropy

SHAPE = {
    "vocab_size": 29, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 16,
}  # fmt: skip
LARGER = {"hidden_size": 192, "intermediate_size": 320, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64}
SIZES = [(SHAPE, (2, 3))] + ([] if INTERPRETED else [(SHAPE | LARGER | {"max_position_embeddings": 256}, (3, 150))])


def tiny(family: str, shape: dict[str, int], lora: bool) -> tuple[PreTrainedModel, nn.Module]:
    """A model, and itself with a LoRA or alone."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **shape, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    ).to(DEVICE)
    whole = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")) if lora else model
    for place, parameter in enumerate(whole.parameters()):
        norm = parameter.dim() == 1
        parameter.data = float(norm) + draw(*parameter.shape, scale=0.2 if norm else parameter.shape[1] ** -0.5, seed=place)
    return model, whole.eval()


def worked(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Logits, loss, and the gradient of everything that learns, by name."""
    model.zero_grad()
    found = model(input_ids=ids, labels=ids, use_cache=False)
    found.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"logits": found.logits.detach(), "loss": found.loss.detach(), **gradients}


@pytest.mark.parametrize("shape, size", SIZES, ids=["tiny", "larger"][: len(SIZES)])
@pytest.mark.parametrize("family, lora", [("llama", False), ("qwen3", True), ("gemma", False)])
def test_a_model_by_kernels_is_the_model(
    family: str, lora: bool, shape: dict[str, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()
    for op in (rms_norm, qk_rope, swiglu):
        launch = op._forward
        monkeypatch.setattr(op, "_forward", lambda *given, launch=launch: calls.update([launch._name]) or launch(*given))
    model, whole = tiny(family, shape, lora)
    ids = torch.randint(1, 29, size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    without = worked(whole, ids)
    with patched(model, everywhere=True) as report:
        found = worked(whole, ids)
    assert not report.left and set(report.replaced) == {"rms_norm", "swiglu", "qk_rope"} | ({"lora_linear"} if lora else set())
    assert calls["glu"] == 2 and calls["rms_norm"] == 5
    assert calls["qk_rope"] == (2 if family == "qwen3" else 4)  # without norms it is its own backward pass
    expected = worked(whole.double(), ids)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert far(found[name], value) <= 4 * far(without[name], value) + 3e-6, f"{name}: {far(found[name], value):.1e}"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[tuple]:
    """Which kernels were launched since it was cleared, each with all that Triton compiles it for."""
    found, kernel_class = set[tuple](), type(rms_norm.forward_kernel)
    run = kernel_class.run

    def noted(kernel, *given, grid, warmup, **constants):
        free = vars(kernel).get("kwargs", vars(kernel))["do_not_specialize"] or ()
        kinds = tuple(compiled_for(one, name in free) for name, one in zip(kernel.arg_names, given, strict=False))
        found.add((kernel.fn.__module__, kernel.fn.__name__, kinds, tuple(constants.items())))
        return run(kernel, *given, grid=grid, warmup=warmup, **constants)

    monkeypatch.setattr(kernel_class, "run", noted)
    return found


def compiled_for(one: Tensor | float | None, free: bool) -> tuple:
    """What tells Triton one argument from another: where it is not left alone, whether a pointer or a whole number is a multiple of 16,
    or the number is 1."""
    kind = one.dtype if isinstance(one, Tensor) else type(one)
    if free or one is None or isinstance(one, float):
        return (kind,)
    return kind, (one.data_ptr() if isinstance(one, Tensor) else one) % 16 == 0, isinstance(one, int) and one == 1


@pytest.mark.parametrize(
    "family, way, words", [("llama", "lora", 29), ("llama", "forward only", 32), ("qwen3", "whole", 32), ("gemma", "part", 29)]
)
def test_what_is_compiled_before_the_first_step_is_what_steps_and_evaluations_launch(
    family: str, way: str, words: int, launched: set[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more and no less, whatever the size of a batch, and nothing has learnt of it. A whole model computes in bfloat16 beside weights in
    float32."""
    shape = SHAPE | {"vocab_size": words, "hidden_size": 16, "intermediate_size": 32, "head_dim": 16}
    model, whole = tiny(family, shape, lora=way == "lora")
    trained, numbers = [*whole.named_parameters()], torch.float32 if way == "lora" else torch.bfloat16
    if way == "part":
        model.to(torch.bfloat16).requires_grad_(False)
        trained = [("part", Part(model.model.layers[0].self_attn.q_proj.weight, Rows(torch.tensor([0, 5]))).values)]
    monkeypatch.setattr(CrossEntropy, "entropy_over", lambda _: 0 if way == "whole" else None)
    spec = SimpleNamespace(loss=CrossEntropy(), update=SimpleNamespace(forward_only=way == "forward only"))
    prepared, attachment = SimpleNamespace(model=model, numbers=numbers), SimpleNamespace(trained=lambda: trained)
    with patched(model, everywhere=True):
        events = list(warm(prepared, spec, attachment))
        compiled = set(launched)
        assert {(event.what, event.total) for event in events} == {("compiling kernels", len(events))} and len(events) > 3
        assert all(one.grad is None for one in whole.parameters())
        launched.clear()
        for size in ((2, 3), (1, 17)):
            ids = torch.randint(1, 29, size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
            batch = {"input_ids": ids, "labels": ids}
            with torch.autocast(DEVICE, numbers, enabled=numbers != torch.float32):
                with torch.set_grad_enabled(not spec.update.forward_only):
                    odds = label_odds(model, batch, entropy=way == "whole")
                if not spec.update.forward_only:
                    odds.logp.sum().backward()
                with torch.no_grad():
                    label_logp(model, batch)
        if way == "part":
            matrices, _ = optimizers.by_shape([{"params": [trained[0][1]]}], 3e-3, 0.1)
            optimizers.step(torch.optim.AdamW(matrices, fused=True), 1.0)
    assert launched == compiled
