"""TaRot (arXiv:2410.04277): planes of a head turn by angles that stay small, and losses alone can find them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.planes import PlanesAttachment
from workbench.methods.adapters.tarot import TaRot
from workbench.methods.contracts import Attachment, Update
from workbench.methods.updates.es import ES
from workbench.methods.updates.mezo import MeZO

OUT = "model.layers.1.self_attn.o_proj"


def turned(model: PreTrainedModel | None = None, **knobs: object) -> PlanesAttachment:
    """By angles that are far from small."""
    attachment = TaRot(**knobs).attach(model or make_model(), seed=0)
    for seed, (_, angles) in enumerate(attachment.trained()):
        nn.init.normal_(angles, std=0.6, generator=torch.Generator().manual_seed(seed))
    return attachment


@torch.no_grad()
def whole(attachment: Attachment) -> tuple[Tensor, Tensor, Tensor]:
    """W; W′, which is what comes out where each input goes in alone; and the angles."""
    matrix = attachment.model.get_submodule(OUT)
    return matrix.weight, matrix(torch.eye(matrix.in_features)).T, attachment.state()[OUT]


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(torch.arange(5, 25).reshape(2, 10)).logits


def test_each_two_numbers_of_a_head_turn_by_their_angle() -> None:
    """z′ = z R with the R of the authors' code; what W makes of z′ is W Rᵀ z."""
    before, after, angles = whole(turned())
    rotation = torch.zeros(32, 32)
    for plane, angle in enumerate(angles.tolist()):
        own = slice(2 * plane, 2 * plane + 2)
        rotation[own, own] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert torch.allclose(after, before @ rotation.T, atol=1e-6) and not torch.allclose(after, before, atol=1e-3)


def test_no_plane_grows_or_shrinks_and_no_singular_value_moves() -> None:
    before, after, _ = whole(turned())
    assert torch.allclose(torch.linalg.svdvals(after), torch.linalg.svdvals(before), atol=1e-6)
    lengths = [own.unflatten(1, (-1, 2)).square().sum((0, 2)) for own in (before, after)]
    assert torch.allclose(*lengths, atol=1e-6)


@pytest.mark.parametrize(("share", "blocks"), [(0.01, 1), (0.5, 2), (0.7, 2), (1.0, 3)])
def test_the_first_blocks_turn_and_an_angle_is_counted_for_each_plane(share: float, blocks: int) -> None:
    attachment = TaRot(share=share).attach(make_model(), seed=0)
    names = [name for name, _ in attachment.trained()]
    assert len(names) == blocks and all(f"layers.{layer}.self_attn.o_proj" in name for layer, name in enumerate(names))
    assert TaRot(share=share).cost(make_model()).trained == blocks * 32 // 2


@pytest.mark.parametrize("limit", [30.0, 90.0])
def test_no_plane_turns_farther_than_the_limit(limit: float, pico_batch: dict[str, Tensor]) -> None:
    attachment = TaRot(limit=limit).attach(make_model(), seed=0)
    optimizer = torch.optim.Adam(attachment.groups(), lr=10.0)
    attachment.model(**pico_batch).loss.backward()
    optimizer.step()
    attachment.after_step(1)
    for angles in attachment.state().values():
        assert torch.allclose(angles.abs().rad2deg(), torch.tensor(limit)), "10 is far beyond it, either way"
        assert angles.unique().numel() == 2


@pytest.mark.parametrize("update", [MeZO(lr=0.05, directions=4), ES(lr=0.02, sigma=0.05, population=8)], ids=lambda update: update.name)
def test_losses_alone_find_the_angles(update: Update, pico_batch: dict[str, Tensor]) -> None:
    attachment = TaRot(share=1).attach(make_model(), seed=0)
    stepper = update.begin(attachment.groups())

    @torch.no_grad()
    def loss() -> float:
        return attachment.model(**pico_batch).loss.item()

    first = loss()
    for step in range(1, 16):
        stepper.step(1.0, loss)
        attachment.after_step(step)
    assert loss() < first and all(own.grad is None for _, own in attachment.trained())


def gpt2() -> PreTrainedModel:
    """A model whose matrices are stored the other way round."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


@pytest.mark.parametrize(("make", "kind"), [(make_model, "OFT"), (gpt2, "LORA")])
def test_peft_opens_what_is_saved(make: Callable[[], PreTrainedModel], kind: str, tmp_path: Path) -> None:
    attachment = turned(make())
    attachment.save(tmp_path)
    opened = PeftModel.from_pretrained(make(), tmp_path)
    assert opened.active_peft_config.peft_type.value == kind
    for model in (opened, opened.merge_and_unload()):
        assert torch.allclose(said(model), said(attachment.model), atol=1e-5)
    assert not torch.allclose(said(attachment.model), said(make()), atol=1e-4)


def test_of_an_mlp_nothing_turns() -> None:
    assert [name for name, _ in turned(gpt2()).trained()] == ["transformer.h.0.attn.c_proj.planes.angles"]


def test_a_model_whose_attentions_end_otherwise_is_refused_with_a_remedy() -> None:
    model = make_model()
    for block in model.model.layers:
        block.self_attn.o_proj = nn.Identity()
    with pytest.raises(WorkbenchError, match="Choose LOFT"):
        TaRot().cost(model)


def test_it_says_before_the_start_who_looks_for_the_angles() -> None:
    assert "MeZO" in TaRot().costs()
