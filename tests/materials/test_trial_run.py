"""A trial run: it learns, is taken back without a trace, and the gradients on its way add up to what the loss fell by."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.job import drain
from workbench.core.rank import Ranked
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.low_rank import upright_of
from workbench.materials.templates import Encoded
from workbench.materials.trial_run import trial

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
BATCHES = Evidence({"": ROWS}, 0, torch.device("cpu")).batches(size=4)
KNOBS = Ranked(rank=4, alpha=12.0, dropout=0.5)


def gpt2() -> PreTrainedModel:
    """Matrices that are stored the other way round."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


@torch.no_grad()
def loss(model: PreTrainedModel) -> float:
    return sum(surprise(model, batch).item() for batch in BATCHES) / len(BATCHES)


def test_the_model_is_as_it_was_afterwards_and_no_random_state_is_touched() -> None:
    model, before, random = make_model(), make_model().state_dict(), torch.get_rng_state()
    model.lm_head.weight.requires_grad_(False)
    moves = {name: own.requires_grad for name, own in model.named_parameters()}
    with trial(model, KNOBS) as tried:
        drain(tried.learn(BATCHES, 5))
        assert loss(model) < loss(make_model()) - 1e-3
    with pytest.raises(RuntimeError, match="on the way"), trial(model, KNOBS) as tried:
        raise RuntimeError("on the way")
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(own, before[name]) for name, own in after.items())
    assert {name: own.requires_grad for name, own in model.named_parameters()} == moves and not model.training
    assert all(own.grad is None for own in model.parameters()) and torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_the_changes_are_what_the_matrices_have_become(make: object) -> None:
    model, merged = make(), make()
    with trial(model, KNOBS) as tried:
        drain(tried.learn(BATCHES, 5))
        changes, tuned = tried.changes(), loss(model)
    for name, change in changes.items():
        module, whole = merged.get_submodule(name), (change.left @ change.right).float()
        assert change.right.shape[0] == 4 and whole.any()
        module.weight.data += upright_of(module, whole)
    assert loss(merged) == pytest.approx(tuned, abs=1e-5)


def test_the_same_rows_give_the_same_trial() -> None:
    def change() -> Tensor:
        with trial(make_model(), KNOBS) as tried:
            drain(tried.learn(BATCHES, 3))
            one, *_ = tried.changes().values()
            return one.left @ one.right

    assert torch.equal(change(), change())


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_change_times_slope_adds_up_to_the_fall_of_the_loss(make: object) -> None:
    """Completeness of integrated gradients, the better the more points."""
    model = make()
    start = loss(model)
    with trial(model, KNOBS) as tried:
        drain(tried.learn(BATCHES, 40))
        changes, fall = tried.changes(), loss(model) - start

        def sum_of(points: int) -> float:
            slopes = drain(tried.on_the_way(list(changes), BATCHES, points, "rows read"))
            return sum(float((changes[name].left @ changes[name].right * slope).sum()) for name, slope in slopes.items())

        assert fall < -0.05
        assert sum_of(8) == pytest.approx(fall, rel=0.01)
        assert abs(sum_of(8) - fall) < abs(sum_of(1) - fall)
        assert loss(model) - start == pytest.approx(fall, abs=1e-6), "the change is whole again"
