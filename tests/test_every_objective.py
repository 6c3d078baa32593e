"""The laws of what makes a run learn, over the whole registry: losses, noises, updates. The other shelves: `test_every_method.py`."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.pico import make_model
from workbench.core.method import SHELVES, Method, discover
from workbench.materials.token_stats import Learnt
from workbench.methods.contracts import Showing, TokenStats

discover()


def on(shelf: str) -> list[type[Method]]:
    return [method for _, method in sorted(SHELVES[shelf].items())]


def named(method: type[Method]) -> str:
    return method.name


# Losses.


def stats(seed: int = 0) -> TokenStats:
    """Three answers of at most five tokens; the first two are of one task."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 11, generator=generator).mul(4).requires_grad_()
    table = logits.log_softmax(-1)
    mask = torch.ones(3, 5)
    mask[0, 2:] = 0
    row = torch.arange(3)[:, None].expand(3, 5)
    task, score = (row == 2).long(), torch.randn(3, 5, generator=generator).sign()
    window = Learnt(*(values[mask.bool()] for values in (row, task, score)))
    entropy = -(table.exp() * table).sum(-1).detach()
    return TokenStats(table[..., 0], mask, entropy, row, task, score, window, 0.5, 11)


@pytest.mark.parametrize("method", on("losses"), ids=named)
def test_a_loss_is_finite_detached_and_blind_to_the_mask(method: type[Method]) -> None:
    given = stats()
    weights = method().weights(given)
    assert weights.shape == given.logp.shape and not weights.requires_grad and torch.isfinite(weights).all()
    (-(given.mask * weights * given.logp)).sum().backward()
    noisy = torch.where(given.mask.bool(), given.logp.detach(), torch.tensor(-50.0))
    other = method().weights(dataclasses.replace(given, logp=noisy))
    assert torch.equal(weights * given.mask, other * given.mask)


@pytest.mark.parametrize("method", [loss for loss in on("losses") if loss.neutral is not None], ids=named)
def test_a_loss_is_cross_entropy_at_its_neutral_knobs(method: type[Method]) -> None:
    given = stats()
    assert torch.allclose(method(**method.neutral).weights(given) * given.mask, given.mask)


@pytest.mark.parametrize("method", on("losses"), ids=named)
@pytest.mark.parametrize("logp", [0.0, -1e-7, -80.0])
def test_a_loss_bears_extreme_tokens(method: type[Method], logp: float) -> None:
    one = torch.zeros(1, dtype=torch.long)
    window = Learnt(one, one, one.float())
    given = TokenStats(
        torch.full((1, 1), logp), torch.ones(1, 1), torch.full((1, 1), 1e-9), one[None], one[None], one[None].float(), window, 1.0, 11
    )
    assert torch.isfinite(method().weights(given)).all()


@pytest.mark.parametrize("method", on("losses"), ids=named)
def test_what_a_loss_adds_of_the_base_is_nothing_at_the_base(method: type[Method]) -> None:
    loss = method(anchor=0.5)
    generator = torch.Generator().manual_seed(0)
    base, table = (torch.randn(4, 11, generator=generator).log_softmax(-1) for _ in range(2))
    labels = torch.tensor([0, 3, 5, 10])
    assert loss.needs_base() and torch.allclose(loss.penalty(base, base, labels), torch.zeros(4), atol=1e-6)
    assert (loss.penalty(table, base, labels) > 0).all()


# Noises.


def showing(seed: int = 0) -> Showing:
    model = make_model()
    return Showing(0.5, model.get_input_embeddings(), [0, 1], torch.Generator().manual_seed(seed))


@pytest.fixture
def rows() -> dict[str, Tensor]:
    """Two rows of which the second half is learnt; the second row is padded."""
    ids = torch.arange(2, 82).view(2, 40)
    labels, seen = ids.clone(), torch.ones_like(ids)
    labels[:, :20], labels[1, 35:], seen[1, 35:], ids[1, 35:] = -100, -100, 0, 0
    return {"input_ids": ids, "attention_mask": seen, "labels": labels, "rows": torch.tensor([[0] * 40, [1] * 35 + [-1] * 5])}


@pytest.mark.parametrize("method", on("noises"), ids=named)
def test_a_noise_leaves_labels_and_prompts_alone_and_is_drawn_from_the_generator(method: type[Method], rows: dict[str, Tensor]) -> None:
    given = {name: value.clone() for name, value in rows.items()}
    shown, again, other = (method().disturb(rows, showing(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(rows[name], given[name]) for name in given), "the batch that was given is not changed"
    changed = {name for name in shown if name not in given or not torch.equal(shown[name], given[name])}
    assert changed and changed <= {"input_ids", "inputs_embeds"}
    assert all(torch.equal(shown[name], again[name]) for name in shown)
    assert any(not torch.equal(shown[name], other[name]) for name in changed)
    if "input_ids" in changed:
        prompt = rows["labels"] == -100
        assert torch.equal(shown["input_ids"][prompt], rows["input_ids"][prompt])


@pytest.mark.parametrize("method", on("noises"), ids=named)
def test_a_noise_changes_nothing_at_its_neutral_knobs(method: type[Method], rows: dict[str, Tensor]) -> None:
    moment = showing()
    shown = method(**method.neutral).disturb(rows, moment)
    assert torch.equal(shown["input_ids"], rows["input_ids"])
    assert torch.equal(shown.get("inputs_embeds", moment.embed(rows["input_ids"])), moment.embed(rows["input_ids"]))


# Updates.


@pytest.mark.parametrize("method", on("updates"), ids=named)
def test_an_update_leaves_frozen_alone_and_resumes_exactly(method: type[Method]) -> None:
    torch.manual_seed(0)
    start = [torch.randn(4, 3), torch.randn(5)]

    def run(steps: range, values: list[Tensor], state: dict | None = None) -> tuple[list[Tensor], dict]:
        parameters = [torch.nn.Parameter(value.clone()) for value in values]
        frozen = torch.nn.Parameter(torch.ones(2))
        stepper = method().begin([{"params": parameters}])
        if state:
            stepper.load_state(copy.deepcopy(state))
        for step in steps:
            again = backward(lambda step=step: noisy([*parameters, frozen], step), parameters)
            again()
            numbers = stepper.step(0.5, again)
            assert all(isinstance(value, float) for value in numbers.values()) and ("loss" in numbers) == method.forward_only
        assert torch.equal(frozen, torch.ones(2))
        return [parameter.detach() for parameter in parameters], stepper.state()

    whole, _ = run(range(6), start)
    half, state = run(range(3), start)
    resumed, _ = run(range(3, 6), half, state)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert not torch.equal(whole[0], start[0]) and method().bytes_per_parameter() >= 0


def noisy(parameters: list[torch.nn.Parameter], seed: int) -> Tensor:
    torch.manual_seed(seed)
    return sum((parameter**2 * torch.randn_like(parameter)).sum() for parameter in parameters)


def backward(loss: Callable[[], Tensor], parameters: list[torch.nn.Parameter]) -> Callable[[], float]:
    """What tells the loss where the parameters are now, and puts its gradients in place of those there are."""

    def again() -> float:
        for parameter in parameters:
            parameter.grad = None
        found = loss()
        found.backward()
        return found.item()

    return again


@pytest.mark.parametrize("method", on("updates"), ids=named)
def test_an_updates_step_is_linear_in_the_learning_rate(method: type[Method]) -> None:
    """So shortening a step is the same as a lower rate for it, which the guard relies on."""

    def displacement(rate: float) -> list[Tensor]:
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(shape, dtype=torch.double)) for shape in ((4, 3), (5,))]
        stepper = method(weight_decay=0.1).begin([{"params": parameters}])
        for share in (1.0, rate):
            before = [parameter.detach().clone() for parameter in parameters]
            again = backward(lambda: sum((parameter**2).sum() for parameter in parameters), parameters)
            again()
            stepper.step(share, again)
        return [parameter.detach() - old for parameter, old in zip(parameters, before, strict=True)]

    whole, part = displacement(1.0), displacement(0.3)
    assert all(torch.allclose(0.3 * a, b, rtol=1e-3) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("method", [method for method in on("updates") if not method.forward_only], ids=named)
def test_an_updates_groups_move_at_their_pace(method: type[Method]) -> None:
    """Two like parameters with like gradients, of which one is to move four times as fast."""
    slow, fast = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    stepper = method().begin([{"params": [slow], "pace": 1.0}, {"params": [fast], "pace": 4.0}])
    again = backward(lambda: noisy([slow], 0) + noisy([fast], 0), [slow, fast])
    again()
    stepper.step(1.0, again)
    assert torch.allclose(fast - 1, 4 * (slow - 1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", [method for method in on("updates") if not method.forward_only], ids=named)
def test_an_update_carries_its_moments_to_where_the_numbers_went(method: type[Method]) -> None:
    """A parameter that stands for its numbers in another order moves as it would have, in that order."""
    order = torch.tensor([3, 0, 4, 1, 2])

    def run(moved: bool) -> list[Tensor]:
        parameters = [torch.nn.Parameter(torch.arange(1.0, 6.0)[None]), torch.nn.Parameter(torch.arange(1.0, 6.0))]
        stepper, curves = method().begin([{"params": parameters}]), [torch.linspace(0.5, 2, 5) for _ in parameters]
        again = backward(lambda: sum((p**2 * curve).sum() for p, curve in zip(parameters, curves, strict=True)), parameters)
        for step in range(4):
            if step == 2 and moved:
                for place, parameter in enumerate(parameters):
                    parameter.data, curves[place] = parameter.data[..., order].clone(), curves[place][order]
                    stepper.carry(parameter, lambda moment: moment[..., order])
            again()
            stepper.step(1.0, again)
        return [parameter.detach() for parameter in parameters]

    for plain, carried in zip(run(False), run(True), strict=True):
        assert torch.allclose(plain[..., order], carried, rtol=1e-5)
