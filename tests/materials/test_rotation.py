"""Rotations in a subspace: R is orthogonal whatever Q is, no singular value of a matrix moves, and the change is a LoRA without loss."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.materials.lora import read_lora
from workbench.materials.rotation import Rotation, RotationAttachment, weight_of

Make = Callable[[], PreTrainedModel]
IDS = torch.arange(5, 25).reshape(2, 10)
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def orthonormal(size: int, rank: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(size, rank, generator=torch.Generator().manual_seed(seed))).Q


def turned(model: PreTrainedModel, by: float = 0.5) -> RotationAttachment:
    """Rotations of two matrices by angles that are far from small."""
    sizes = {name: weight_of(model.get_submodule(name)).shape[1] for name in names_of(model)}
    attachment = RotationAttachment(model, {name: orthonormal(size, 6, seed) for seed, (name, size) in enumerate(sizes.items())})
    for seed, (_, turn) in enumerate(attachment.trained()):
        nn.init.normal_(turn, std=by, generator=torch.Generator().manual_seed(seed))
    return attachment


def names_of(model: PreTrainedModel) -> list[str]:
    return [QUERY, DOWN] if model.config.model_type == "llama" else ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj"]


def gpt2() -> PreTrainedModel:
    """A model whose matrices are stored the other way round."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


@torch.no_grad()
def said(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    return model(ids).logits


def whole(attachment: RotationAttachment, name: str) -> Tensor:
    """W′ by the formula, in float64."""
    matrix = attachment.model.get_submodule(name)
    directions = matrix.rotation.directions.double()
    turn = torch.eye(len(directions)).double() + directions @ matrix.rotation.change().double() @ directions.T
    return (weight_of(matrix).double() @ turn).detach()


@pytest.mark.parametrize("by", [0.0, 0.1, 3.0])
def test_r_is_orthogonal_and_turns_without_mirroring(by: float) -> None:
    rotation = Rotation(orthonormal(20, 8))
    nn.init.normal_(rotation.turn, std=by, generator=torch.Generator().manual_seed(0))
    turn = (torch.eye(8) + rotation.change()).detach()
    assert torch.allclose(turn @ turn.T, torch.eye(8), atol=1e-5)
    assert torch.linalg.det(turn) == pytest.approx(1, abs=1e-4)
    assert rotation.turn.numel() == 8 * 7 // 2
    assert by or not rotation.change().any(), "exactly nothing at Q = 0"


def test_no_singular_value_moves() -> None:
    attachment = turned(make_model())
    for name in (QUERY, DOWN):
        before, after = weight_of(attachment.model.get_submodule(name)).double(), whole(attachment, name)
        assert (after - before).norm() > 0.1 * before.norm()
        assert torch.allclose(torch.linalg.svdvals(after), torch.linalg.svdvals(before), atol=1e-6)


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_the_forward_pass_is_that_of_the_turned_weight(make: Make) -> None:
    attachment, merged = turned(make()), make()
    for name in names_of(merged):
        weight_of(merged.get_submodule(name)).copy_(whole(attachment, name))
    assert torch.allclose(said(attachment.model), said(merged), atol=1e-5)
    assert not torch.allclose(said(attachment.model), said(make()), atol=1e-3)


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_what_is_saved_is_a_lora_that_peft_opens_without_us(make: Make, tmp_path: Path) -> None:
    attachment = turned(make())
    attachment.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    opened = PeftModel.from_pretrained(make(), tmp_path)
    assert opened.peft_config["default"].r == 6
    assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)
    assert torch.allclose(said(opened.merge_and_unload()), said(attachment.model), atol=1e-5)


def test_our_own_merging_reads_what_is_saved(tmp_path: Path) -> None:
    attachment = turned(make_model())
    attachment.save(tmp_path)
    found = read_lora(tmp_path, "ours").factors
    assert set(found) == {f"{QUERY}.weight", f"{DOWN}.weight"}
    for name in (QUERY, DOWN):
        pair = found[f"{name}.weight"]
        wanted = whole(attachment, name) - weight_of(attachment.model.get_submodule(name)).double()
        assert torch.allclose(pair.left @ pair.right, wanted, atol=1e-6) and torch.linalg.matrix_rank(wanted, rtol=1e-6) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_changes_at_the_start_and_the_weights_never_do(dtype: torch.dtype) -> None:
    model = make_model().to(dtype)
    first = said(model)
    held = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    attachment = turned(model, by=0.0)
    assert torch.equal(said(model), first)
    assert {turn.dtype for _, turn in attachment.trained()} == {torch.float32}
    optimizer = torch.optim.SGD([turn for _, turn in attachment.trained()], lr=10.0)
    for _ in range(2):
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
    assert not torch.equal(said(model), first)
    assert all(torch.equal(parameter, held[name]) for name, parameter in model.named_parameters() if name in held)
    with attachment.base():
        assert torch.equal(said(model), first)
    with pytest.raises(RuntimeError, match="on the way"), attachment.base():
        raise RuntimeError("on the way")
    assert not torch.equal(said(model), first)


def test_its_state_brings_the_directions_along() -> None:
    attachment, other = turned(make_model()), turned(make_model(), by=0.0)
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(said(other.model), said(attachment.model))
    assert torch.equal(*(each.state()[f"{DOWN}.rotation.directions"] for each in (other, attachment)))
    assert {name for name, _ in attachment.trained()} <= set(attachment.state())
