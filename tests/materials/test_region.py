"""Training a part of the weights: the gradient is the whole one's, small steps are kept, a redraw loses nothing, and nothing else moves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.materials import optimizers
from workbench.materials.models import hidden_states
from workbench.materials.region import RegionAttachment, cost, evenly
from workbench.materials.regions import Blocks, Columns, Elements, Region, Rows

UP, DOWN, NORM = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"
QUERY, EMBEDDED = "model.layers.1.self_attn.q_proj.weight", "model.embed_tokens.weight"


SIZES = {"one": 7, "two": 20, "three": 13}


def mask() -> dict[str, Region]:
    return {
        UP: Rows(torch.tensor([0, 3, 7])),
        DOWN: Columns(torch.tensor([2, 5])),
        NORM: Elements(torch.tensor([1, 30])),
        QUERY: Blocks(torch.tensor([0, 3]), 8),
        EMBEDDED: Elements(torch.arange(0, 12_000, 17)),  # tied to the head
    }


def stepped(attachment: RegionAttachment, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    attachment.model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    attachment.after_step(0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_is_that_of_the_whole_weight_and_no_whole_one_is_left(pico_batch: dict[str, Tensor], checkpointing: bool) -> None:
    whole, part = make_model(), make_model()
    attachment = RegionAttachment(part, mask())
    if checkpointing:
        part.gradient_checkpointing_enable({"use_reentrant": False})
        part.enable_input_require_grads()
        part.train()
    for model in (whole, part):
        model(**pico_batch).loss.backward()
        model(**{**pico_batch, "labels": pico_batch["input_ids"]}).loss.backward()  # gradients add up
    assert all(parameter.grad is None for parameter in part.parameters())
    for name, values in attachment.trained():
        expected = mask()[name].gather(whole.get_parameter(name).grad)
        assert values.grad is not None and torch.allclose(values.grad, expected, rtol=0, atol=1e-8), name


@pytest.mark.parametrize("fused", [False, True])
def test_only_the_part_moves_and_the_state_is_that_of_the_part(pico_batch: dict[str, Tensor], fused: bool) -> None:
    model, before = make_model(), make_model()
    attachment = RegionAttachment(model, mask())
    optimizer = torch.optim.AdamW(attachment.groups(), lr=0.01, weight_decay=0.1, fused=fused)
    for _ in range(3):
        stepped(attachment, pico_batch, optimizer)
    count = sum(values.numel() for _, values in attachment.trained())
    assert sum(held.numel() for held in optimizers.state(optimizer).values() if held.ndim) == 2 * count
    for name, parameter in model.named_parameters():
        changed = (parameter != before.get_parameter(name)).flatten().nonzero()[:, 0].tolist()
        assert changed == (sorted(mask()[name].flat(parameter.shape).tolist()) if name in mask() else []), name


def test_small_steps_are_kept_where_the_weights_have_no_room_for_them(pico_batch: dict[str, Tensor]) -> None:
    model = make_model().to(torch.bfloat16)
    with torch.no_grad():
        model.get_parameter(UP).fill_(1.0)
    attachment = RegionAttachment(model, {UP: Rows(torch.tensor([0]))})
    (_, values), *_ = attachment.trained()
    for _ in range(200):
        with torch.no_grad():
            values.add_(1e-4)
    model(**pico_batch)
    assert values.dtype == torch.float32 and torch.allclose(values, torch.tensor(1.02), atol=1e-4)
    assert model.get_parameter(UP)[0, 0] == torch.tensor(1.02).bfloat16() and model.get_parameter(UP)[1, 0] == 1


@pytest.mark.parametrize("write", [lambda values: values.mul_(2), lambda values: values.copy_(values * 2)], ids=["in place", "copied"])
def test_the_model_takes_over_whoever_writes_the_values(pico_batch: dict[str, Tensor], write: Callable[[Tensor], Tensor]) -> None:
    model = make_model()
    attachment = RegionAttachment(model, {UP: Rows(torch.tensor([2]))})
    (_, values), *_ = attachment.trained()
    before, read = model(**pico_batch).logits, hidden_states(model, pico_batch)
    with torch.no_grad():
        write(values)
    assert not torch.equal(hidden_states(model, pico_batch), read), "as training and evaluation ask it"
    assert not torch.equal(model(**pico_batch).logits, before)
    assert torch.equal(model.get_parameter(UP)[2:3], values)


def test_a_step_of_the_values_is_one_of_the_model() -> None:
    attachment = RegionAttachment(make_model(), mask())
    steps = {name: torch.rand_like(values) for name, values in attachment.trained()}
    for name, whole in attachment.dense(steps).items():
        assert whole.shape == attachment.model.get_parameter(name).shape
        assert torch.equal(mask()[name].gather(whole), steps[name]) and whole.count_nonzero() == steps[name].count_nonzero()
    half = RegionAttachment(make_model().to(torch.bfloat16), mask())
    assert all(torch.equal(mask()[name].gather(whole), steps[name]) for name, whole in half.dense(steps).items()), "to the last digit"


def test_a_count_is_divided_by_size_to_the_last_number() -> None:
    for count in range(40):
        shares = evenly(count, SIZES)
        assert sum(shares.values()) == count and all(abs(shares[name] - count * size / 40) < 1 for name, size in SIZES.items())


def test_the_base_is_there_for_a_while_and_nothing_written_meanwhile_is_lost(pico_batch: dict[str, Tensor]) -> None:
    model = make_model()
    attachment = RegionAttachment(model, mask())
    optimizer = torch.optim.SGD(attachment.groups(), lr=0.5)
    before = model(**pico_batch).logits
    stepped(attachment, pico_batch, optimizer)
    after = model(**pico_batch).logits
    with attachment.base():
        assert torch.equal(model(**pico_batch).logits, before)
    assert torch.equal(model(**pico_batch).logits, after)


class Moving:
    """A rule that draws other entries before step 3."""

    first, second = {UP: Elements(torch.arange(0, 40))}, {UP: Elements(torch.arange(20, 60))}

    def __call__(self, step: int) -> dict[str, Region] | None:
        return self.second if step == 3 else None


def redrawn(pico_batch: dict[str, Tensor]) -> tuple[RegionAttachment, torch.optim.Optimizer]:
    attachment = RegionAttachment(make_model(), Moving.first, Moving())
    optimizer = torch.optim.AdamW(attachment.groups(), lr=0.01)
    for step in range(1, 3):
        assert attachment.redraw(step) == {}
        stepped(attachment, pico_batch, optimizer)
    return attachment, optimizer


def test_a_redraw_changes_nothing_keeps_moments_and_leaves_what_was_learnt(pico_batch: dict[str, Tensor]) -> None:
    attachment, optimizer = redrawn(pico_batch)
    (_, values), *_ = attachment.trained()
    before, moments = attachment.model(**pico_batch).logits, optimizer.state[values]["exp_avg"].flatten().clone()
    learnt = attachment.model.get_parameter(UP).detach().clone()
    optimizers.carry(optimizer, values, attachment.redraw(3)[UP])
    assert torch.equal(attachment.model(**pico_batch).logits, before) and values is attachment.trained()[0][1]
    held = optimizer.state[values]
    assert torch.equal(held["exp_avg"].flatten(), torch.cat([moments[20:], torch.zeros(20)])) and held["step"] == 2
    stepped(attachment, pico_batch, optimizer)
    now = attachment.model.get_parameter(UP).detach()
    moved = (now != learnt).flatten().nonzero()[:, 0].tolist()
    assert moved == list(range(20, 60))
    with attachment.base():
        assert torch.equal(attachment.model.get_parameter(UP), make_model().get_parameter(UP))


def test_a_redraw_loses_no_digits_of_what_stays() -> None:
    model = make_model().to(torch.bfloat16)
    attachment = RegionAttachment(model, Moving.first, Moving())
    (_, values), *_ = attachment.trained()
    with torch.no_grad():
        values.fill_(1.00001)
    attachment.redraw(3)
    assert torch.equal(values[0, :20], torch.full((20,), 1.00001)) and torch.equal(
        values[0, 20:], model.get_parameter(UP).flatten()[40:60].float()
    )


def test_after_a_redraw_it_goes_on_from_its_state(pico_batch: dict[str, Tensor]) -> None:
    attachment, _ = redrawn(pico_batch)
    attachment.redraw(3)
    other = RegionAttachment(make_model(), {UP: Elements(torch.arange(100, 140))})
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(other.model(**pico_batch).logits, attachment.model(**pico_batch).logits)
    assert torch.equal(other.trained()[0][1], attachment.trained()[0][1])
    with other.base():
        assert torch.equal(other.model.get_parameter(UP), make_model().get_parameter(UP))
    assert isinstance(other.trained()[0][1], nn.Parameter)


def test_the_base_stands_whoever_writes_values_meanwhile_and_goes_where_something_fails(pico_batch: dict[str, Tensor]) -> None:
    model = make_model()
    attachment = RegionAttachment(model, {UP: Rows(torch.tensor([2]))})
    (_, values), *_ = attachment.trained()
    before = model(**pico_batch).logits
    with pytest.raises(KeyError), attachment.base():
        with torch.no_grad():
            values.mul_(2)
        assert torch.equal(model(**pico_batch).logits, before)
        raise KeyError
    assert not torch.equal(model(**pico_batch).logits, before) and torch.equal(model.get_parameter(UP)[2:3], values)


def test_a_state_is_of_the_values_as_they_were_written_last(pico_batch: dict[str, Tensor]) -> None:
    """Nobody reads the model in between: the values may be those of an average that stands in for them."""
    attachment, other = (RegionAttachment(make_model(), mask()) for _ in range(2))
    with torch.no_grad():
        for _, values in attachment.trained():
            values.add_(0.5)
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(other.model(**pico_batch).logits, attachment.model(**pico_batch).logits)


def test_a_redraw_leaves_what_was_written_last_and_no_gradient(pico_batch: dict[str, Tensor]) -> None:
    attachment = RegionAttachment(make_model(), Moving.first, Moving())
    (_, values), *_ = attachment.trained()
    attachment.model(**pico_batch).loss.backward()
    with torch.no_grad():
        values.fill_(2.0)
    attachment.redraw(3)
    assert (attachment.model.get_parameter(UP).flatten()[:40] == 2).all()
    assert values.grad is None, "it was that of other entries"


def test_an_earlier_state_is_taken_up_and_stays_as_it_is(pico_batch: dict[str, Tensor]) -> None:
    attachment, optimizer = redrawn(pico_batch)
    early, logits = {name: tensor.clone() for name, tensor in attachment.state().items()}, attachment.model(**pico_batch).logits
    kept = {name: tensor.clone() for name, tensor in early.items()}
    attachment.redraw(3)
    stepped(attachment, pico_batch, optimizer)
    attachment.load_state(early)
    assert torch.equal(attachment.model(**pico_batch).logits, logits), "what only moved later is the base's again"
    stepped(attachment, pico_batch, optimizer)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in early.items())


def test_gradients_in_half_precision_add_up_in_float32(pico_batch: dict[str, Tensor]) -> None:
    def gradients(times: int) -> dict[str, Tensor]:
        attachment = RegionAttachment(make_model().bfloat16(), mask())
        for _ in range(times):
            attachment.model(**pico_batch).loss.backward()
        return {name: values.grad for name, values in attachment.trained()}

    once, thrice = gradients(1), gradients(3)
    for name, gradient in once.items():
        assert thrice[name].dtype == torch.float32 and torch.equal(thrice[name], gradient + gradient + gradient), name


def test_what_is_saved_of_a_model_in_half_precision_has_the_digits_of_the_values(tmp_path: Path) -> None:
    model = make_model().bfloat16()
    with torch.no_grad():
        model.get_parameter(UP).fill_(1.0)
    attachment = RegionAttachment(model, {UP: Rows(torch.tensor([1]))})
    with torch.no_grad():
        attachment.trained()[0][1].add_(1e-4)
    attachment.save(tmp_path)
    saved = load_file(tmp_path / "delta.safetensors")
    assert saved[f"{UP}.idx"].tolist() == [*range(32, 64)] and torch.allclose(saved[f"{UP}.val"], torch.tensor(1e-4), rtol=1e-3)


def test_what_is_saved_is_of_the_values_as_they_were_written_last(tmp_path: Path) -> None:
    """A vector is saved whole, as it stands in the model."""
    attachment = RegionAttachment(make_model(), {NORM: Elements(torch.tensor([1, 30]))})
    with torch.no_grad():
        attachment.trained()[0][1].add_(0.5)
    attachment.save(tmp_path)
    (norm,) = (tensor for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items() if name.endswith("norm.weight"))
    assert (norm != 1).nonzero().flatten().tolist() == [1, 30] and norm[30] == 1.5


def test_entries_that_move_again_after_a_pause_are_known_from_before_they_first_did(pico_batch: dict[str, Tensor]) -> None:
    attachment = RegionAttachment(make_model(), Moving.first, lambda step: {3: Moving.second, 4: Moving.first}.get(step))
    optimizer = torch.optim.SGD(attachment.groups(), lr=0.5)
    for step in range(1, 6):
        attachment.redraw(step)
        stepped(attachment, pico_batch, optimizer)
    state = attachment.state()
    assert state[f"{UP}/places"].tolist() == [*range(60)], "each once"
    assert torch.equal(state[f"{UP}/first"], make_model().get_parameter(UP).flatten()[:60])
    with attachment.base():
        assert torch.equal(attachment.model.get_parameter(UP), make_model().get_parameter(UP))


def test_a_mask_names_weights_of_the_model() -> None:
    with pytest.raises(AssertionError, match="names weights"):
        RegionAttachment(make_model(), {**mask(), "model.gone.weight": Rows(torch.tensor([0]))})


def test_a_cost_counts_all_that_moves_in_a_module() -> None:
    query = "model.layers.1.self_attn.q_proj"
    found = cost(make_model(attention_bias=True), {f"{query}.weight": 5, f"{query}.bias": 2, NORM: 3})
    assert found.trained == 10 and [row for row in found.by_module if row[2]] == [("q_proj", 1, 7, 32 * 32 + 32), ("norm", -1, 3, 32)]
