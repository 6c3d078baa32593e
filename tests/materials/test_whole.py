"""Whole tensors that move, and others that take their turn: what stands still is still, and the base can be had back."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.jobs.averaging import Average
from workbench.jobs.redrawing import Moving, redraw
from workbench.materials.attachment import in_turn
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.updates.adamw import AdamW

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"


def swapping(model: torch.nn.Module) -> WholeAttachment:
    return WholeAttachment(model, {UP, "model.norm.weight"}, lambda step: {DOWN, "model.norm.weight"} if step == 3 else None)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def step(attachment: WholeAttachment, batch: dict[str, Tensor]) -> None:
    attachment.model(**batch).loss.backward()
    with torch.no_grad():
        for _, parameter in attachment.trained():
            parameter -= parameter.grad
            parameter.grad = None


def test_turns_begin_after_as_many_steps_as_each_has() -> None:
    turn = in_turn(3, lambda number: number)
    assert [turn(step) for step in range(1, 11)] == [None, None, None, 1, None, None, 2, None, None, 3]
    assert not any(in_turn(0, lambda number: number)(step) for step in range(1, 100))


def test_only_what_is_named_moves_and_what_has_moved_stays(pico_batch: dict[str, Tensor]) -> None:
    model = make_model()
    first = weights(model)
    attachment = swapping(model)
    step(attachment, pico_batch)
    before = weights(model)
    assert {name for name in first if not torch.equal(before[name], first[name])} == {UP, "model.norm.weight"}
    attachment.redraw(3)
    assert [name for name, _ in attachment.trained()] == [DOWN, "model.norm.weight"] and torch.equal(model.get_parameter(UP), before[UP])
    step(attachment, pico_batch)
    after = weights(model)
    assert {name for name in first if not torch.equal(after[name], before[name])} == {DOWN, "model.norm.weight"}
    with attachment.base():
        assert all(torch.equal(tensor, first[name]) for name, tensor in weights(model).items())
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(model).items())


def test_a_gradient_from_before_its_turn_moves_nothing(pico_batch: dict[str, Tensor]) -> None:
    attachment = swapping(make_model())
    attachment.model(**pico_batch).loss.backward()
    attachment.redraw(3)
    assert attachment.model.get_parameter(UP).grad is None and attachment.model.get_parameter("model.norm.weight").grad is not None


@pytest.mark.parametrize("turned", [False, True])
def test_it_goes_on_from_its_state_wherever_it_stands(turned: bool, pico_batch: dict[str, Tensor]) -> None:
    attachment = swapping(make_model())
    step(attachment, pico_batch)
    early = {name: tensor.clone() for name, tensor in attachment.state().items()}
    attachment.redraw(3)
    step(attachment, pico_batch)
    late = {name: tensor.clone() for name, tensor in attachment.state().items()}
    tuned = weights(attachment.model)
    other = swapping(make_model())
    if turned:
        other.redraw(3)
        step(other, pico_batch)
    other.load_state(late)
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in weights(other.model).items())
    assert [name for name, _ in other.trained()] == [DOWN, "model.norm.weight"]
    other.load_state(early)  # back to where another tensor had not moved yet
    assert torch.equal(other.model.get_parameter(DOWN), make_model().get_parameter(DOWN))
    assert [name for name, _ in other.trained()] == [UP, "model.norm.weight"]
    with other.base():
        assert all(torch.equal(tensor, make_model().get_parameter(name)) for name, tensor in weights(other.model).items())


def test_moments_go_with_what_still_moves_and_are_let_go_with_the_rest(pico_batch: dict[str, Tensor]) -> None:
    attachment = swapping(make_model())
    update = AdamW()
    stepper, average = update.begin(attachment.groups()), Average()
    average.begin(attachment.trained(), 0.5)
    attachment.model(**pico_batch).loss.backward()
    stepper.step(1.0, lambda: None)
    average.follow(attachment.trained(), 0.5)
    assert redraw(2, attachment, update, stepper, average) == (stepper, {})
    norm, slow = stepper.within()[0].state[attachment.model.get_parameter("model.norm.weight")]["exp_avg"].clone(), dict(average.slow)
    after, _ = redraw(3, attachment, update, stepper, average)
    held = after.within()[0].state
    assert torch.equal(held[attachment.model.get_parameter("model.norm.weight")]["exp_avg"], norm) and len(held) == 1
    assert set(average.slow) == {DOWN, "model.norm.weight"} and torch.equal(average.slow["model.norm.weight"], slow["model.norm.weight"])
    assert torch.equal(average.slow[DOWN], attachment.model.get_parameter(DOWN))
    assert after.within()[0].param_groups[0]["params"][0] is attachment.model.get_parameter(DOWN)


def test_what_takes_turns_will_all_have_moved() -> None:
    model = make_model()
    assert cost_of(model, {UP}).moved == cost_of(model, {UP}).trained == model.get_parameter(UP).numel()
    biased = make_model(attention_bias=True)
    assert cost_of(biased, {name for name, _ in biased.named_parameters()}).trained == cost_of(biased, {UP}).total, "weights and biases"
    assert cost_of(model, {UP}, in_turn=True).moved == cost_of(model, {UP}).total == sum(p.numel() for p in model.parameters())


def test_what_moves_is_told_when_it_changes_and_where_it_takes_turns() -> None:
    attachment = swapping(make_model())
    moving = Moving()
    own = {layer: sum(p.numel() for name, p in attachment.model.named_parameters() if f".{layer}." in name) for layer in range(3)}
    up = attachment.model.get_parameter(UP).numel()
    assert moving.told(attachment) == {"moving/0": up / own[0], "moving/1": 0, "moving/2": 0}
    assert moving.told(attachment) == {}
    attachment.redraw(3)
    assert moving.told(attachment) == {"moving/0": 0, "moving/1": up / own[1], "moving/2": 0}
    assert Moving().told(WholeAttachment(make_model(), {UP})) == {}


def test_the_tuned_weights_are_back_where_something_fails_beside_the_base(pico_batch: dict[str, Tensor]) -> None:
    attachment = swapping(make_model())
    step(attachment, pico_batch)
    tuned = weights(attachment.model)
    with pytest.raises(KeyError), attachment.base():
        raise KeyError
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in weights(attachment.model).items())
