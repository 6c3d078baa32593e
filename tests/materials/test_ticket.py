"""A lottery ticket: the farthest numbers of all, the turn to them from the start, and states of both halves."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.materials.region import RegionAttachment
from workbench.materials.ticket import TicketAttachment, farthest
from workbench.materials.whole import WholeAttachment

COUNT = 700


def learn(attachment: TicketAttachment, batch: dict[str, Tensor], steps: int = 2) -> None:
    """With an optimizer that is fused and leaves no trace by which a change could be noticed."""
    optimizer = torch.optim.AdamW([parameter for group in attachment.groups() for parameter in group["params"]], lr=0.01, fused=True)
    for step in range(1, steps + 1):
        attachment.model(**batch).loss.backward()
        optimizer.step()
        attachment.after_step(step)
        optimizer.zero_grad()


def weights(attachment: TicketAttachment) -> dict[str, Tensor]:
    return {name: own.detach().clone() for name, own in attachment.model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(own, other[name]) for name, own in one.items())


BASE = dict(make_model().named_parameters())


@pytest.mark.parametrize("count", [1, 7, 60, 119, 120])
def test_the_farthest_are_the_largest_of_all(count: int) -> None:
    sizes = {str(seed): torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)).abs() * 10.0**-seed for seed in range(3)}
    found = farthest(sizes, count)
    every = torch.cat([own.flatten() for own in sizes.values()])
    chosen = torch.zeros(120, dtype=torch.bool)
    for name, places in found.items():
        assert torch.equal(places, places.sort().values)
        chosen[40 * int(name) + places] = True
    assert torch.equal(chosen.nonzero()[:, 0], every.topk(count).indices.sort().values) and int(chosen.sum()) == count


def test_of_those_that_are_alike_the_first_are_taken() -> None:
    sizes = {"a": torch.tensor([0.0, 2.0, 1.0]), "b": torch.tensor([1.0, 1.0, 3.0]), "c": torch.zeros(4)}
    assert {name: places.tolist() for name, places in farthest(sizes, 4).items()} == {"a": [1, 2], "b": [0, 2]}
    near = torch.tensor([1.0, 1.0, 1.0]).nextafter(torch.tensor([0.0, 1.0, 2.0]))
    assert farthest({"near": near}, 2)["near"].tolist() == [1, 2], "one bit apart"
    assert {name: places.tolist() for name, places in farthest(sizes, 7).items()} == {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0]}


def test_at_the_turn_the_weights_are_the_bases_and_the_farthest_are_drawn(pico_batch: dict[str, Tensor]) -> None:
    attachment = TicketAttachment(make_model(), COUNT)
    assert isinstance(attachment.now, WholeAttachment)
    learn(attachment, pico_batch)
    went = {name: (own - BASE[name].detach()).abs() for name, own in weights(attachment).items()}
    attachment.next_link()
    assert same(weights(attachment), BASE) and isinstance(attachment.now, RegionAttachment)
    assert sum(values.numel() for _, values in attachment.trained()) == COUNT
    learn(attachment, pico_batch)
    moved = {name: own != BASE[name] for name, own in weights(attachment).items()}
    assert 0.9 * COUNT < sum(int(own.sum()) for own in moved.values()) <= COUNT
    least = min(float(went[name][own].min()) for name, own in moved.items() if own.any())
    drawn = {name: own[:-6] for name, own in attachment.state().items() if name.endswith("/index")}
    left = [went[name].flatten().index_fill(0, attachment.state()[f"{name}/index"], 0) if f"{name}/index" in drawn else went[name]
            for name in went]  # fmt: skip
    assert max(float(own.max()) for own in left) <= least, "what was left out did not go as far"


@pytest.mark.parametrize("turned", [False, True])
def test_in_both_halves_the_base_is_had_back_and_a_model_is_saved(turned: bool, pico_batch: dict[str, Tensor], tmp_path: object) -> None:
    attachment = TicketAttachment(make_model(), COUNT)
    learn(attachment, pico_batch)
    if turned:
        attachment.next_link()
        learn(attachment, pico_batch)
    with torch.no_grad():
        for _, values in attachment.trained():
            values += 0.25  # as an average stands in for them
    attachment.save(tmp_path)
    tuned = weights(attachment)
    saved = type(attachment.model).from_pretrained(tmp_path, dtype=torch.float32)
    assert same(dict(saved.named_parameters()), tuned) and not same(tuned, BASE)
    with attachment.base():
        assert same(weights(attachment), BASE)
    assert same(weights(attachment), tuned)


def test_states_of_both_halves_can_be_taken_up_from_either(pico_batch: dict[str, Tensor]) -> None:
    attachment = TicketAttachment(make_model(), COUNT)
    states = list[tuple[dict[str, Tensor], dict[str, Tensor]]]()
    for turn in (False, True):
        if turn:
            attachment.next_link()
        learn(attachment, pico_batch)
        states.append(({name: own.clone() for name, own in attachment.state().items()}, weights(attachment)))
    for state, there in states:
        fresh = TicketAttachment(make_model(), COUNT)
        learn(fresh, pico_batch, steps=1)
        fresh.load_state(state)
        assert same(weights(fresh), there)
        with fresh.base():
            assert same(weights(fresh), BASE)
        attachment.load_state(state)
        assert same(weights(attachment), there)
        with attachment.base():
            assert same(weights(attachment), BASE)


def test_what_is_taken_up_in_the_second_half_goes_on_as_it_would_have(pico_batch: dict[str, Tensor]) -> None:
    attachment, other = TicketAttachment(make_model(), COUNT), TicketAttachment(make_model(), COUNT)
    learn(attachment, pico_batch)
    attachment.next_link()
    learn(attachment, pico_batch)
    other.load_state(attachment.state())
    for one in (attachment, other):
        learn(one, pico_batch)
    assert same(weights(attachment), weights(other))
