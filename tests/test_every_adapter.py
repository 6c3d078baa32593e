"""Further laws of the adapters' shelf, which need a few real steps: half precision, activations computed anew, and that it learns.

The pico model has grouped queries and tied embeddings, so every adapter meets both here and in `test_every_method.py`.
"""

import math

import pytest
import torch
from pico import make_model
from test_every_method import answer, attached, named, on
from torch import Tensor

from workbench.core.method import Method
from workbench.methods.contracts import Attachment


def gradients(attachment: Attachment, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    attachment.model(**batch).loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in attachment.trained() if parameter.grad is not None}
    for _, parameter in attachment.trained():
        parameter.grad = None
    return found


def steps(attachment: Attachment, batch: dict[str, Tensor], rate: float, count: int) -> list[float]:
    """Losses of a few steps of Adam, before each of them and after the last."""
    optimizer = torch.optim.Adam([parameter for group in attachment.groups() for parameter in group["params"]], lr=rate)
    losses = []
    for step in range(1, count + 1):
        loss = attachment.model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        attachment.before_step(step)
        optimizer.step()
        attachment.after_step(step)
        optimizer.zero_grad()
    state = sum(value.numel() for held in optimizer.state.values() for value in held.values() if value.ndim)
    assert state <= 2 * sum(parameter.numel() for _, parameter in attachment.trained()), "two moments for each number that moves"
    with torch.no_grad():
        return [*losses, attachment.model(**batch).loss.item()]


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_it_learns_at_a_rate_that_is_usual_for_it(method: type[Method], pico_batch: dict[str, Tensor]) -> None:
    attachment = attached(method, make_model())
    low, high = method.rates
    first, *_, last = steps(attachment, pico_batch, math.sqrt(low * high) if high < 0.05 else high / 2, 12)
    assert last < first


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_activations_that_are_computed_anew_give_the_same_gradients(method: type[Method], pico_batch: dict[str, Tensor]) -> None:
    plain = attached(method, make_model())
    anew = attached(method, make_model())
    for attachment in (plain, anew):
        for module in attachment.model.train().modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        steps(attachment, pico_batch, 1e-3, 1)
    anew.model.gradient_checkpointing_enable({"use_reentrant": False})
    anew.model.enable_input_require_grads()
    one, other = gradients(plain, pico_batch), gradients(anew, pico_batch)
    assert one.keys() == other.keys() and all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-7) for name in one)


@pytest.mark.parametrize("method", [method for method in on("adapters") if not method.whole], ids=named)
def test_half_precision_changes_nothing_at_first_and_learns_in_numbers_that_small_steps_are_not_lost_in(
    method: type[Method], pico_batch: dict[str, Tensor]
) -> None:
    model = make_model().to(torch.bfloat16)
    before = answer(model, pico_batch)
    attachment = attached(method, model)
    assert torch.equal(answer(attachment.model, pico_batch), before) == method.starts_at_base
    assert all(parameter.dtype == torch.float32 for _, parameter in attachment.trained())
    with torch.autocast("cpu", torch.bfloat16):
        losses = steps(attachment, pico_batch, 1e-3, 2)
    assert all(map(math.isfinite, losses)) and all(parameter.isfinite().all() for _, parameter in attachment.trained())
    with attachment.base():
        assert torch.equal(answer(attachment.model, pico_batch), before)
