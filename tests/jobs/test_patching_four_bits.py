"""LoRA beside matrices in 4 bits, computed by us: peft's numbers, without its copies in float32, and peft's own way for all else."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor
from torch.autograd import forward_ad, grad
from torch.autograd.graph import saved_tensors_hooks

from tests.jobs.test_patching import adapted, biased, disabled, dora, far, forwards, ids, listened, merged, same, two, worked
from workbench.jobs import patching
from workbench.jobs.patching import install, patched
from workbench.materials import rounded
from workbench.materials.models import ModelRef, load

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
CPU, F32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A pico model with biases, whose rows are whole blocks."""
    folder = tmp_path_factory.mktemp("pico")
    model = make_model(hidden_size=64, intermediate_size=128, num_hidden_layers=2, attention_bias=True, mlp_bias=True)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.to(BF16).save_pretrained(folder)
    return ModelRef(str(folder), "pico", str(folder))


@pytest.fixture
def made(ref: ModelRef) -> Callable[..., PeftModel]:
    """The model in 4 bits with LoRA in float32 on every matrix."""
    return lambda dtype=F32, **changes: adapted(load(ref, CPU, dtype, four_bits=True), **changes)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each call of the op."""
    calls, op = list[int](), patching.lora_linear
    monkeypatch.setattr(patching, "lora_linear", lambda *given: calls.append(1) or op(*given))
    return calls


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("changes", [{}, {"lora_dropout": 0.3}, {"use_rslora": True}], ids=str)
def test_in_float32_it_is_what_peft_computes(made: Callable, changes: dict, recompute: bool, taken: list[int]) -> None:
    whole = made(**changes).train()
    if recompute:
        whole.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        whole.get_base_model().enable_input_require_grads()
    before = forwards(whole)
    torch.manual_seed(5)
    expected = worked(whole, use_cache=False)
    with patched(whole.get_base_model()) as found:
        torch.manual_seed(5)
        same(worked(whole, use_cache=False), expected)
    assert found.replaced == {"lora_linear": {"Linear4bit": 14}} and "lora_linear in 14 Linear4bit" in str(found)
    assert len(taken) == 14 * (2 if recompute else 1) and forwards(whole) == before
    torch.manual_seed(5)
    assert torch.equal(worked(whole, use_cache=False)[0], expected[0])


def test_in_bfloat16_it_is_to_the_bit_what_it_is_beside_the_numbers_that_the_bits_stand_for(
    made: Callable, ref: ModelRef, taken: list[int]
) -> None:
    """And so no farther off than peft's, give or take a rounding, on the average of all gradients."""
    expected, whole, base = worked(made(F32)), made(BF16), load(ref, CPU, BF16)
    with torch.no_grad():
        for name, module in rounded.matrices(load(ref, CPU, BF16, four_bits=True)):
            base.get_submodule(name).weight.copy_(rounded.full(module))
    plain = adapted(base)
    for parameter in (*whole.parameters(), *plain.parameters()):
        parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
    with torch.autocast("cpu", BF16):
        without = worked(whole)
        with patched(whole.get_base_model()), patched(base):
            found, beside = worked(whole), worked(plain)
    assert len(taken) == 2 * 14
    same(found, beside, most=0.0)
    ours, theirs = (sum(far(one[2][name], gradient) for name, gradient in expected[2].items()) / 28 for one in (found, without))
    assert len(expected[2]) == 28 and all(gradient.dtype == F32 for gradient in found[2].values())
    assert ours <= 1.3 * theirs + 0.01 and far(found[0], expected[0]) <= 1.3 * far(without[0], expected[0]) + 1e-3


@pytest.mark.parametrize("dropout, kept", [(0.0, 2 * 18 * (64 + 3)), (0.3, 2 * 18 * (2 * 64 + 3))], ids=["plain", "dropout"])
def test_a_layer_keeps_its_input_in_half_precision_and_what_stands_between_its_factors(made: Callable, dropout: float, kept: int) -> None:
    """18 tokens of 64 numbers and 3: 2 bytes each, and of what dropout dropped; no number of the matrix, and none in 4 bytes."""
    whole = made(BF16, lora_dropout=dropout).train()
    layer, x = whole.get_base_model().model.layers[0].self_attn.q_proj, torch.randn(2, 9, 64, dtype=BF16, requires_grad=True)
    learnt = {parameter.data_ptr() for parameter in layer.parameters()}
    held = dict[int, Tensor]()

    def note(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor
        return tensor

    with patched(whole.get_base_model()), torch.autocast("cpu", BF16), saved_tensors_hooks(note, lambda tensor: tensor):
        y = layer(x)
        assert y.dtype == BF16
    assert sum(tensor.nbytes for place, tensor in held.items() if place not in learnt) == kept
    y.sum().backward()
    assert x.grad.any() and layer.lora_A["default"].weight.grad.any()


def test_the_matrix_is_unpacked_once_in_each_pass(made: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, full = [], patching.full
    monkeypatch.setattr(patching, "full", lambda module, dtype: asked.append(dtype) or full(module, dtype))
    whole = made(BF16)
    layer, x = whole.get_base_model().model.layers[0].self_attn.q_proj, torch.randn(1, 3, 64, dtype=BF16)
    with patched(whole.get_base_model()), torch.autocast("cpu", BF16):
        layer(x).sum().backward()
        assert asked == [BF16], "what needs no gradient asks for none"
        layer(x.requires_grad_()).sum().backward()
    assert asked == [BF16] * 3


def in_other_numbers(whole: PeftModel) -> None:
    for _, module in rounded.matrices(whole):
        module.compute_dtype = BF16


@pytest.mark.parametrize("change", [two, dora, biased, disabled, merged, listened, in_other_numbers])
def test_whatever_else_it_may_do_is_left_to_peft(change: Callable[[PeftModel], None], made: Callable, taken: list[int]) -> None:
    """Also where it comes up after the op was put in: the layers are asked at each call."""
    plain, whole = made(), made()
    with patched(whole.get_base_model()):
        before = whole(input_ids=ids()).logits
        for one in (plain, whole):
            torch.manual_seed(4)
            change(one)
        after = whole(input_ids=ids()).logits
    assert torch.equal(after, plain(input_ids=ids()).logits)
    assert len(taken) == 14 and (far(after, before) > 1e-3)


@pytest.mark.parametrize("more", [{"use_dora": True}, {"lora_bias": True}], ids=str)
def test_what_never_is_plain_lora_is_left_alone_and_reported(made: Callable, more: dict) -> None:
    found = install(made(**more).get_base_model())
    assert not found.replaced and found.left["its update is more than s·B A x"] == {"Linear4bit": 14}


def test_a_forward_derivative_goes_through(made: Callable) -> None:
    """y is linear in A, so its derivative along dA is s·(x dAᵀ)Bᵀ."""
    whole = made()
    layer, x = whole.get_base_model().model.layers[0].mlp.up_proj, torch.randn(2, 9, 64)
    a, b = (factor["default"].weight.detach() for factor in (layer.lora_A, layer.lora_B))
    step = torch.randn(3, 64)
    with patched(whole.get_base_model()), forward_ad.dual_level(), torch.no_grad():
        duals = {"lora_A.default.weight": forward_ad.make_dual(a, step)}
        moved = forward_ad.unpack_dual(torch.func.functional_call(layer, duals, (x,))).tangent
    torch.testing.assert_close(moved, layer.scaling["default"] * (x @ step.T) @ b.T)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_what_is_unpacked_is_what_bitsandbytes_multiplies_with(ref: ModelRef, dtype: torch.dtype) -> None:
    """By the identity; forwards and backwards, whatever it was rounded from."""
    model = load(ref, CPU, F32, four_bits=True)
    for _, module in rounded.matrices(model):
        module.bias = None
        module.compute_dtype, unit = dtype, torch.eye(module.in_features, dtype=dtype, requires_grad=True)
        found = rounded.full(module, dtype)
        assert found.dtype == dtype and torch.equal(module(unit).T, found)
        assert far(grad(module(unit).sum(), unit)[0], found.float().sum(0).expand(len(unit), -1)) < 0.01


@pytest.fixture
def mapped() -> Iterator[Callable[[str], bool]]:
    """Whether a file of this folder lies in memory."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells")
    yield lambda folder: any(folder in line for line in maps.read_text().splitlines())


def test_the_file_does_not_stay_in_memory_for_the_sake_of_what_was_not_rounded(
    ref: ModelRef, tmp_path: Path, mapped: Callable[[str], bool]
) -> None:
    folder = str(shutil.copytree(ref.path, tmp_path / "own"))
    model = load(ModelRef(folder, "own", folder), CPU, BF16, four_bits=True)
    gc.collect()
    assert not mapped(folder)
    embedded = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embedded, "what is tied stays so"
    plain = load(ModelRef(folder, "own", folder), CPU, BF16)
    assert torch.equal(plain.get_input_embeddings().weight, embedded)
    assert mapped(folder), "as it does where every number of it is used"
