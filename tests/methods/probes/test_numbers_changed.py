"""Numbers that changed: a run that does not train is found out, whatever the reason, and one that does is left alone."""

from collections.abc import Callable

import pytest
import torch
from pico import make_model

from workbench.core.spec import TrainSpec
from workbench.jobs.schedule import rate
from workbench.methods.adapters.full import Full
from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Adapter, Attachment, Moment, Reading
from workbench.methods.probes.gradient_norm import GradientNorm
from workbench.methods.probes.numbers_changed import NumbersChanged

Spoil = Callable[[Attachment, dict], None]


def stepped(adapter: Adapter, batch: dict, spoil: Spoil = lambda attachment, batch: None, lr: float = 0.1) -> tuple[Reading, Reading]:
    """What the probes say of the first step: of its gradient, and of what it changed."""
    attachment = adapter.attach(make_model(), seed=0)
    batch = dict(batch)
    spoil(attachment, batch)
    parameters = [parameter for _, parameter in attachment.trained()]
    before = [parameter.detach().clone() for parameter in parameters]
    loss = attachment.model(**batch).loss if bool((batch["labels"] != -100).any()) else 0 * attachment.model(**batch).logits.sum()
    if loss.requires_grad:
        loss.backward()
    gradient = GradientNorm().read(Moment(1, attachment, batch))
    if parameters:
        torch.optim.SGD(parameters, lr=lr).step()
    names = [name for name, _ in attachment.trained()]
    moved = {name: own.detach() - old for name, own, old in zip(names, parameters, before, strict=True)}
    return gradient, NumbersChanged().read(Moment(1, attachment, batch, attachment.dense(moved)))


def frozen(attachment: Attachment, batch: dict) -> None:
    attachment.model.requires_grad_(False)


def unanswered(attachment: Attachment, batch: dict) -> None:
    batch["labels"] = torch.full_like(batch["labels"], -100)


def cut(attachment: Attachment, batch: dict) -> None:
    """The graph ends before the head."""
    attachment.model.lm_head.register_forward_pre_hook(lambda module, given: (given[0].detach(),))
    attachment.model.get_output_embeddings().weight.requires_grad_(False)


def without_zeros(attachment: Attachment, batch: dict) -> None:
    """The padding's embeddings are zeros, which feel the smallest step."""
    attachment.model.get_input_embeddings().weight.data[0] = 0.01


@pytest.mark.parametrize("spoil", [frozen, unanswered, cut])
def test_a_run_without_a_gradient_is_found_out_twice(pico_batch: dict, spoil: Spoil) -> None:
    gradient, changed = stepped(LoRA(rank=2), pico_batch, spoil)
    assert gradient.values["grad_norm"] == 0 and gradient.level == changed.level == "act" and gradient.says
    assert changed.values == {"numbers_changed": 0.0} and "learning rate" in changed.says


def test_steps_that_are_lost_in_rounding_are_found_out_though_there_is_a_gradient(pico_batch: dict) -> None:
    gradient, changed = stepped(Full(), pico_batch, without_zeros, lr=1e-25)
    assert gradient.values["grad_norm"] > 0 and not gradient.says
    assert changed.values["numbers_changed"] == 0 and changed.says
    near = stepped(Full(), pico_batch, without_zeros, lr=1e-9)[1].values["numbers_changed"]
    assert 0 < near < 0.5, "long before that the share has fallen"


def test_a_healthy_run_is_left_alone(pico_batch: dict) -> None:
    gradient, changed = stepped(Full(), pico_batch)
    assert not gradient.says and not changed.says and changed.values["numbers_changed"] > 0.9


def test_the_first_step_of_a_lora_moves_b_alone_and_that_is_as_it_should_be(pico_batch: dict) -> None:
    gradient, changed = stepped(LoRA(rank=2, dropout=0), pico_batch)
    attachment = LoRA(rank=2).attach(make_model(), seed=0)
    sizes = {name: parameter.numel() for name, parameter in attachment.trained()}
    of_b = sum(size for name, size in sizes.items() if "lora_B" in name) / sum(sizes.values())
    assert not gradient.says and not changed.says and changed.values["numbers_changed"] == pytest.approx(of_b, rel=0.05)


def test_a_share_by_hand(pico_batch: dict) -> None:
    attachment = Full().attach(make_model(), seed=0)
    moved = {name: torch.zeros_like(parameter) for name, parameter in attachment.trained()}
    moved["model.norm.weight"][:8] = 1e-30
    count = sum(parameter.numel() for _, parameter in attachment.trained())
    assert NumbersChanged().read(Moment(1, attachment, pico_batch, moved)).values == {"numbers_changed": 8 / count}


def test_no_step_of_a_run_has_a_learning_rate_of_zero_so_none_is_blamed_for_its_warm_up() -> None:
    for schedule in ("constant", "linear", "cosine"):
        spec = TrainSpec.parse({"kind": "train", "data": {"path": "facts"}, "steps": 20, "warmup": 0.3, "schedule": schedule})
        assert all(rate(step, spec) > 0 for step in range(1, 21))


def test_it_is_read_now_and_then() -> None:
    assert [step for step in range(1, 41) if NumbersChanged(every=20).due(step)] == [1, 20, 40]
