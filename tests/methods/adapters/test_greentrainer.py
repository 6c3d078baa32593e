"""GreenTrainer: what a tensor promises, the work of a step as it is counted, and the choice within the budget."""

import random

import pytest
import torch
from pico import make_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, Learnt, surprise
from workbench.materials.templates import Encoded
from workbench.methods.adapters.greentrainer import GreenTrainer

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))


def promises(model: LlamaForCausalLM, **knobs: float) -> Learnt:
    return drain(GreenTrainer(**knobs).study(model, SEEN))


def drawn(model: LlamaForCausalLM, seed: int) -> Learnt:
    draw = random.Random(seed)
    return {"worth": torch.tensor([draw.uniform(-0.2, 1) for _ in model.named_parameters()])}


def work(model: LlamaForCausalLM) -> int:
    """Of one step, forward and backward, in matrices, as torch counts it."""
    batch = SEEN.batches()[0]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False).loss.backward()
    return counter.get_total_flops()


def test_what_a_tensor_promises_is_its_part_in_the_fall_of_the_loss() -> None:
    """The same in plain words: a step of torch's AdamW, and the gradient where it leads. A small step falls by what is promised."""
    model, batch = make_model(), SEEN.batches()[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    first = surprise(model, batch)
    first.backward()
    optimizer.step()
    optimizer.zero_grad()
    second = surprise(model, batch)
    second.backward()
    promised = {name: -float(((own.detach() - before[name]) * own.grad).sum()) for name, own in model.named_parameters()}
    assert sum(promised.values()) == pytest.approx((first - second).item(), rel=0.1) and first > second
    found = promises(make_model(), rate=1e-4)["worth"]
    assert found.abs().max() == 1 and len(found) == len(promised)
    largest = max(map(abs, promised.values()))
    assert torch.allclose(found.sort().values, torch.tensor(sorted(value / largest for value in promised.values())).double(), atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [0.45, 0.6, 0.8])
def test_a_step_takes_no_more_work_than_it_may(budget: float, tied: bool) -> None:
    def build() -> LlamaForCausalLM:
        return make_model(num_hidden_layers=6, tie_word_embeddings=tied)

    full, shares = work(build()), []
    for seed in range(5):
        model = build()
        attachment = GreenTrainer(budget=budget).attach(model, 0, drawn(model, seed))
        shares.append(work(attachment.model) / full)
    assert min(shares) > 0.34 and max(shares) <= budget + 0.01 and max(shares) > budget - 0.1, "and it uses what it may"


def test_what_promises_most_is_taken_and_what_promises_nothing_stands_still() -> None:
    model = make_model(num_hidden_layers=6)
    alike = {"worth": torch.ones(len(list(model.parameters())))}
    everything = {name for name, _ in GreenTrainer(budget=1).attach(model, 0, alike).trained()}
    assert everything == {name for name, _ in model.named_parameters()}
    top = torch.zeros(len(everything))
    top[2] = 1.0  # from the output down: the last norm, then the last block's down matrix, its gate, its up
    assert [name for name, _ in GreenTrainer().attach(model, 0, {"worth": top}).trained()] == ["model.layers.5.mlp.gate_proj.weight"]


def test_the_cost_is_the_most_that_may_move() -> None:
    model = make_model(num_hidden_layers=6)
    cost = GreenTrainer().cost(model)
    moving = [sum(own.numel() for _, own in GreenTrainer().attach(model, 0, drawn(model, seed)).trained()) for seed in range(8)]
    sizes = {"worth": torch.tensor([float(nn.Module.get_parameter(model, name).numel()) for name in _order(model)])}
    assert max(moving) <= cost.trained == sum(own.numel() for _, own in GreenTrainer().attach(model, 0, sizes).trained()) < cost.total


def _order(model: LlamaForCausalLM) -> list[str]:
    """The tensors from the output down, found by letting one at a time be worth something."""
    count = len(list(model.named_parameters()))
    found = list[str]()
    for place in range(count):
        ((name, _),) = GreenTrainer(budget=1).attach(model, 0, {"worth": torch.eye(count)[place]}).trained()
        found.append(name)
    return found


@pytest.mark.parametrize("signs", [3, 6])
def test_the_step_is_taken_back_to_the_bit_also_where_the_work_is_closed(signs: int) -> None:
    """Four batches are read twice, with a sign of life for each: it is closed in the first reading, and in the second."""
    model = make_model()
    looking = GreenTrainer(rate=0.1).study(model, Evidence({"": ROWS * 4}, 0, SEEN.device))
    for _ in range(signs):
        next(looking)
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight) == (signs == 3), "in the second the step is taken"
    looking.close()
    drain(GreenTrainer(rate=0.1).study(model, SEEN))
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), make_model().parameters(), strict=True))
    assert all(own.requires_grad and own.grad is None for own in model.parameters())


def test_a_budget_in_which_nothing_fits_is_an_error() -> None:
    model = make_model(vocab_size=4000)
    with pytest.raises(WorkbenchError, match="Set budget higher"):
        GreenTrainer(budget=0.1).attach(model, 0, drawn(model, 0))


def test_it_chooses_anew_from_the_model_as_it_is_then_and_on_the_same_rows() -> None:
    """After the top of the model has learnt what it can, as if it had been asked of the new model at the start."""
    model, adapter = make_model(num_hidden_layers=4, attention_dropout=0.5), GreenTrainer(every=5, budget=0.6)
    attachment = adapter.attach(model, 0, drain(adapter.study(model, SEEN)))
    attachment.look(SEEN)
    first = {name for name, _ in attachment.trained()}
    with torch.no_grad():
        for name, parameter in attachment.trained():
            parameter.mul_(1 + 0.5 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    held = {name: own.detach().clone() for name, own in model.named_parameters()}
    model.train()
    for step in range(1, 6):
        attachment.redraw(step)
        assert {name for name, _ in attachment.trained()} == first
    chance = torch.get_rng_state()
    attachment.redraw(6)
    assert torch.equal(torch.get_rng_state(), chance), "without dropout, so that a run that was stopped chooses the same"
    assert model.training and all(torch.equal(own, held[name]) for name, own in model.named_parameters())
    other = make_model(num_hidden_layers=4)
    other.load_state_dict(held, strict=False)
    again = {name for name, _ in adapter.attach(other, 0, drain(adapter.study(other, SEEN))).trained()}
    assert {name for name, _ in attachment.trained()} == again != first


def test_asked_to_choose_once_it_chooses_once() -> None:
    model, adapter = make_model(), GreenTrainer(every=0)
    attachment = adapter.attach(model, 0, drain(adapter.study(model, SEEN)))
    before = {name for name, _ in attachment.trained()}
    for step in (1, 2, 201, 1001):
        attachment.redraw(step)
    assert {name for name, _ in attachment.trained()} == before
    assert adapter.cost(model).moved == adapter.cost(model).trained < GreenTrainer().cost(model).moved == GreenTrainer().cost(model).total
