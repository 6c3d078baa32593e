"""Mask tuning (arXiv:2307.15049): what it may switch off, what that costs, and that it learns by switching off alone."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.switches import SwitchAttachment
from workbench.methods.adapters.mask_tuning import MaskTuning


def trained(attachment: SwitchAttachment, batch: dict[str, Tensor], steps: int = 40) -> list[float]:
    optimizer, losses = torch.optim.Adam(attachment.groups(), lr=2e-4), []
    for step in range(1, steps + 1):
        loss = attachment.model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        attachment.before_step(step)
        optimizer.step()
        attachment.after_step(step)
        optimizer.zero_grad()
    return losses


def test_with_all_weights_on_it_is_the_base() -> None:
    attachment = MaskTuning().attach(make_model(), seed=0)
    assert all(torch.equal(own, base) for own, base in zip(attachment.model.parameters(), make_model().parameters(), strict=True))


def test_it_learns_by_switching_weights_off_and_by_nothing_else(pico_batch: dict[str, Tensor]) -> None:
    attachment, base = MaskTuning().attach(make_model(), seed=0), make_model()
    losses = trained(attachment, pico_batch)
    assert losses[24] == losses[0] > losses[-1], "a rate of 2e-4 takes 25 steps to fall by 0.005"
    moved = 0
    for name, weight in attachment.model.named_parameters():
        changed = weight != base.get_parameter(name)
        assert not weight[changed].any() and (not changed.any() or "self_attn" in name)
        moved += int(changed.sum())
    assert 0 < moved < MaskTuning().cost(base).trained


def test_the_dropout_keeps_it_nearer_to_the_base(pico_batch: dict[str, Tensor]) -> None:
    """Fewer weights are off after as many steps."""
    off = []
    for dropping in (0.0, 1.0):
        attachment = MaskTuning(dropping=dropping).attach(make_model(), seed=0)
        trained(attachment, pico_batch)
        off.append(sum(len(switch.delta()[0]) for switch in attachment.switches.values()))
    assert 0 < off[1] < off[0]


def test_by_default_it_is_the_attention_and_where_can_be_said() -> None:
    attention = MaskTuning().attach(make_model(), seed=0).switches
    assert all("self_attn" in name for name in attention) and len(attention) == 4 * 3
    named = MaskTuning(modules="layers.0.*.v_proj").attach(make_model(), seed=0).switches
    assert list(named) == ["model.layers.0.self_attn.v_proj.weight"]


def test_it_counts_every_weight_and_keeps_what_several_matrices_read_once() -> None:
    cost = MaskTuning().cost(make_model())
    assert cost.trained == 3 * (32 * 32 + 16 * 32 + 16 * 32 + 32 * 32)
    assert cost.kept == 3 * 32 and cost.saved == cost.trained * 3 // 2
    mlp = MaskTuning(targets="mlp").cost(make_model())
    assert mlp.trained == 3 * 3 * 32 * 64 and mlp.kept == 3 * (32 + 64)


def test_it_tells_before_the_start_what_memory_and_what_passes_it_takes() -> None:
    assert "full tuning" in MaskTuning().costs() and "once more" in MaskTuning().costs()
    assert "once more" not in MaskTuning(dropping=0).costs()


def test_a_quantised_matrix_is_refused_with_a_remedy() -> None:
    model = make_model()
    rounded = torch.nn.Parameter(torch.zeros(32, 32, dtype=torch.uint8), requires_grad=False)
    model.get_submodule("model.layers.0.self_attn").q_proj.weight = rounded
    with pytest.raises(WorkbenchError, match="such as LoRA"):
        MaskTuning().cost(model)
