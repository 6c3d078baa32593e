"""A base in 4 bits: what its matrices become, that gradients pass them on every road, and which adapters can learn beside them."""

import math
from pathlib import Path

import pytest
import torch
from pico import make_model
from test_every_adapter import gradients, steps
from test_every_method import answer, attached, named, on
from torch import Tensor
from torch.autograd import forward_ad

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import Method
from workbench.core.spec import TrainSpec
from workbench.materials import rounded
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.loftq import LoftQ
from workbench.methods.adapters.lora import LoRA
from workbench.methods.probes.step_safety import measured

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
EVERYWHERE = pytest.mark.parametrize(
    "device",
    [CPU, pytest.param(GPU, marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")])],
    ids=str,
)
BESIDE = [method for method in on("adapters") if method.over_rounded]


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = tmp_path_factory.mktemp("pico")
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    return ModelRef(str(folder), "pico", str(folder))


def test_every_matrix_of_the_blocks_is_a_sixteenth_level_of_its_block_and_all_else_stays(ref: ModelRef) -> None:
    whole, model = load(ref, CPU, torch.float32), load(ref, CPU, torch.float32, four_bits=True)
    held = dict(rounded.matrices(model))
    assert len(held) == 3 * 7 and all(".layers." in name for name in held)
    for name, module in held.items():
        weight, found = whole.get_submodule(name).weight, rounded.full(module)
        blocks, levels = weight.reshape(-1, 64), found.reshape(-1, 64)
        assert all(len(row.unique()) <= 16 for row in levels)
        largest = blocks.abs().amax(1, keepdim=True)
        assert ((blocks - levels).abs() <= 0.16 * largest).all(), "half of the widest gap between two levels of NF4, 0.304, and a little"
    assert torch.equal(model.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    assert all(torch.equal(model.get_parameter(name), weight) for name, weight in whole.named_parameters() if "norm" in name)


def test_bytes_are_what_is_held(ref: ModelRef) -> None:
    model = load(ModelRef("pocket", "pocket", str(Path("assets/pocket"))), CPU, torch.float32, four_bits=True)
    for _, module in rounded.matrices(model):
        state = module.weight.quant_state
        held = module.weight.numel() + state.absmax.numel() + 4 * state.state2.absmax.numel()
        assert held == pytest.approx(rounded.BYTES * math.prod(state.shape), rel=0.01)


@EVERYWHERE
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_passes_matrices_in_four_bits_as_it_passes_what_they_stand_for(
    ref: ModelRef, pico_batch: dict[str, Tensor], training: bool, device: torch.device
) -> None:
    batch = {name: tensor.to(device) for name, tensor in pico_batch.items()}
    model, plain = load(ref, device, torch.float32, four_bits=True), load(ref, device, torch.float32)
    with torch.no_grad():
        answer(model, batch)  # bitsandbytes would pack the matrices for answering here
        for name, module in rounded.matrices(model):
            plain.get_submodule(name).weight.copy_(rounded.full(module))
    found = []
    for each in (model, plain):
        attachment = LoRA(dropout=0).attach(each, 0)
        attachment.model.train(training)
        for _, parameter in attachment.trained():
            torch.manual_seed(parameter.numel())
            parameter.data.normal_(std=0.1)
        attachment.model(**batch).loss.backward()
        found.append({name: parameter.grad for name, parameter in attachment.trained()})
    one, other = found
    assert one.keys() == other.keys() and all(value.abs().max() > 0 for value in other.values())
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-6) for name in one)


@EVERYWHERE
def test_step_safety_reads_the_derivative_through_them(
    ref: ModelRef, pico_batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    def without(*given: object, **more: object) -> Tensor:
        raise NotImplementedError("this has no forward AD")  # as on a GPU

    batch = {name: tensor.to(device) for name, tensor in pico_batch.items()}
    model, plain = load(ref, device, torch.float32, four_bits=True), load(ref, device, torch.float32)
    for name, module in rounded.matrices(model):
        plain.get_submodule(name).weight.data.copy_(rounded.full(module))
    learnt = (batch["labels"][:, 1:] != -100).nonzero()
    monkeypatch.setattr("bitsandbytes.matmul_4bit", without)
    widths = []
    for each in (model, plain):
        attachment = LoRA().attach(each, 0)
        step = {}
        for name, parameter in attachment.trained():
            torch.manual_seed(len(name))
            step[name] = 0.01 * torch.randn_like(parameter)
            parameter.data += step[name]
        spread, share = measured(attachment.model, batch, step, learnt)
        assert share == 0, "no secant was needed"
        widths.append(spread.width)
    assert widths[1].max() > 0 and torch.allclose(*widths, rtol=1e-3)
    assert not any("forward" in vars(module) for _, module in rounded.matrices(model))


def test_an_unpacked_product_has_the_derivative_of_the_plain_one(ref: ModelRef) -> None:
    model = load(ref, CPU, torch.float32, four_bits=True)
    _, module = next(rounded.matrices(model))
    x, along = torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    with rounded.unpacked(model), forward_ad.dual_level():
        value, found = forward_ad.unpack_dual(module(forward_ad.make_dual(x, along)))
    assert torch.allclose(found, along @ rounded.full(module).T, atol=1e-5) and torch.allclose(value, module(x), atol=1e-5)


@pytest.mark.parametrize("method", BESIDE, ids=named)
def test_an_adapter_beside_them_starts_at_the_base_learns_and_gives_it_back(
    method: type[Method], ref: ModelRef, pico_batch: dict[str, Tensor]
) -> None:
    model = load(ref, CPU, torch.float32, four_bits=True)
    before, packed = answer(model, pico_batch), {name: module.weight.clone() for name, module in rounded.matrices(model)}
    attachment = attached(method, model)
    with attachment.base():
        assert method is LoftQ or torch.allclose(answer(attachment.model, pico_batch), before, atol=1e-6), "LoftQ mends its base"
        before = answer(attachment.model, pico_batch)
    assert torch.allclose(answer(attachment.model, pico_batch), before, atol=1e-6) == method.starts_at_base
    rate = math.sqrt(math.prod(method.rates))
    plain = attached(method, load(ref, CPU, torch.float32))
    first, *_, last = steps(attachment, pico_batch, rate, 6)
    assert last < first
    steps(plain, pico_batch, rate, 6)
    here, there = ({name for name, own in gradients(each, pico_batch).items() if own.any()} for each in (attachment, plain))
    assert here == there, "whatever learns beside the model as it is learns here too"
    with attachment.base():
        assert torch.allclose(answer(attachment.model, pico_batch), before, atol=1e-6)
        held = {name.replace(".base_layer", ""): module.weight for name, module in rounded.matrices(attachment.model)}
    assert held.keys() == packed.keys() and all(torch.equal(weight, held[name]) for name, weight in packed.items())


@pytest.mark.parametrize("method", [method for method in on("adapters") if not method.over_rounded], ids=named)
def test_any_other_adapter_is_refused_with_what_to_do(method: type[Method]) -> None:
    with pytest.raises(SpecError, match="set quantization to none"):
        TrainSpec.parse({"adapter": {"method": method.name}, "quantization": "nf4"})


def test_rows_of_half_a_block_are_refused_where_they_would_be_unpacked_wrongly(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    with pytest.raises(WorkbenchError, match="rows of 32 numbers"):
        load(ModelRef("odd", "odd", str(tmp_path)), CPU, torch.float32, four_bits=True)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorkbenchError, match="pip install"):
        rounded.settings(torch.float32)


@pytest.mark.parametrize("method", BESIDE, ids=named)
def test_in_half_precision_it_answers_inside_autocast_and_outside(
    method: type[Method], ref: ModelRef, pico_batch: dict[str, Tensor]
) -> None:
    """As a step does, and a probe."""
    attachment = attached(method, load(ref, CPU, torch.bfloat16, four_bits=True))
    outside = answer(attachment.model, pico_batch)
    with torch.autocast("cpu", torch.bfloat16):
        inside = answer(attachment.model, pico_batch)
    assert torch.allclose(outside, inside, atol=0.05)
