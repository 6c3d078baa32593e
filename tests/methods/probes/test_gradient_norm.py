"""The gradient's norm is the norm of all gradients laid end to end."""

import torch
from pico import make_model

from workbench.methods.adapters.full import Full
from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Moment
from workbench.methods.probes.gradient_norm import GradientNorm


def test_it_is_the_norm_of_the_whole_gradient(pico_batch: dict) -> None:
    attachment = Full().attach(make_model(), seed=0)
    assert GradientNorm().read(Moment(1, attachment, pico_batch)).values == {"grad_norm": 0.0}
    attachment.model(**pico_batch).loss.backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in attachment.model.parameters()])
    reading = GradientNorm().read(Moment(1, attachment, pico_batch))
    assert abs(reading.values["grad_norm"] - flat.norm().item()) < 1e-5


def test_a_gradient_of_exactly_zero_raises_an_alarm(pico_batch: dict) -> None:
    attachment = LoRA(rank=2).attach(make_model(), seed=0)
    for _, parameter in attachment.trained():
        parameter.grad = torch.zeros_like(parameter)
    reading = GradientNorm().read(Moment(3, attachment, pico_batch))
    assert reading.values == {"grad_norm": 0.0} and reading.level == "act" and "nothing is being learnt" in reading.says


def test_the_blocks_make_up_the_whole(pico_batch: dict) -> None:
    attachment = Full().attach(make_model(), seed=0)
    attachment.model(**pico_batch).loss.backward()
    values = GradientNorm(layers=True).read(Moment(1, attachment, pico_batch)).values
    blocks = [value for name, value in values.items() if "/" in name]
    assert len(blocks) == 3 + 1 and abs(sum(value**2 for value in blocks) - values["grad_norm"] ** 2) < 1e-4
