"""Forgetting (arXiv:2509.04259): the KL is zero before anything moved, never negative, and the loss is cross-entropy."""

import pytest
import torch
from pico import make_model

from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Attachment, Moment
from workbench.methods.probes.forgetting import Forgetting


def read(attachment: Attachment, batch: dict) -> dict[str, float]:
    return Forgetting().read(Moment(0, attachment, {}, known=[batch])).values


def test_nothing_is_forgotten_at_step_0_and_the_loss_is_cross_entropy(pico_batch: dict) -> None:
    attachment = LoRA().attach(make_model(), seed=0)
    values = read(attachment, pico_batch)
    with torch.no_grad():
        assert values["base_loss"] == pytest.approx(attachment.model.eval()(**pico_batch).loss.item(), rel=1e-5)
    assert values["base_kl"] == pytest.approx(0, abs=1e-6)


def test_the_kl_grows_with_the_change(pico_batch: dict) -> None:
    attachment = LoRA(dropout=0).attach(make_model(), seed=0)
    found = []
    for size in (0.01, 0.1, 1.0):
        with torch.no_grad():
            for name, parameter in attachment.trained():
                if "lora_B" in name:
                    parameter.copy_(size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        found.append(read(attachment, pico_batch)["base_kl"])
    assert 0 < found[0] < found[1] < found[2]


def test_without_known_skills_only_the_kl_on_the_task_is_read(pico_batch: dict) -> None:
    attachment = LoRA().attach(make_model(), seed=0)
    assert set(Forgetting().read(Moment(0, attachment, {}, validation=[pico_batch])).values) == {"base_kl"}
    assert Forgetting().read(Moment(0, attachment, {})).values == {}
