"""CoLoRA (reconstructed): the ranks go where the change of a trial run brought the loss down, and are as many as a LoRA's."""

import pytest
import torch
from pico import make_model
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.templates import Encoded
from workbench.materials.trial_run import trial
from workbench.methods.adapters import colora
from workbench.methods.adapters.colora import CoLoRA
from workbench.methods.adapters.lora import LoRA

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))
SMALL = {"rank": 4, "alpha": 6.0, "steps": 5}


def learnt(model: PreTrainedModel, **knobs: object) -> dict[str, int]:
    return {name: int(rank) for name, rank in drain(CoLoRA(**{**SMALL, **knobs}).study(model, SEEN)).items()}


def test_the_ranks_are_those_of_a_lora_together_and_within_their_bounds() -> None:
    ranks = learnt(make_model())
    assert set(ranks) == {name for name, _ in low_rank.matrices(make_model(), "all linear")}
    assert sum(ranks.values()) == 4 * 21 and min(ranks.values()) >= 1 and max(ranks.values()) <= 8
    assert len(set(ranks.values())) > 1 and set(learnt(make_model(), spread=1.0).values()) == {4}


def test_ranks_follow_the_contributions_of_the_change() -> None:
    """Told by autograd, at the middle of the way alone, on a model that the trial's change was added to."""
    model, ranks = make_model(), learnt(make_model(), points=1, spread=16.0)
    with trial(model, CoLoRA(**SMALL)) as tried:
        drain(tried.learn(SEEN.batches(), 5))
        changes = {name: (change.left @ change.right).float() for name, change in tried.changes().items()}
    with torch.no_grad():
        for name, change in changes.items():
            model.get_submodule(name).weight += change / 2
    sum(surprise(model, batch) for batch in SEEN.batches()).backward()
    scores = {name: float((change * model.get_submodule(name).weight.grad).abs().sum()) for name, change in changes.items()}
    total = sum(scores.values())
    free = {name: 84 * score / total for name, score in scores.items() if 84 * score / total > 2}
    assert len(free) > 10 and all(abs(ranks[name] - share) < 1.5 for name, share in free.items())


def test_a_matrix_that_contributes_nothing_gets_one_direction() -> None:
    """What it writes is thrown away."""
    model = make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
    ranks = learnt(model, modules="layers.1.mlp.up_proj, layers.0.mlp.up_proj, layers.2.mlp.up_proj")
    assert ranks.pop("model.layers.1.mlp.up_proj") == 1 and sum(ranks.values()) == 11


@pytest.mark.parametrize("room", [1, 20_000])
def test_portions_change_nothing(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learnt(make_model())
    monkeypatch.setattr(colora, "ROOM", room)
    assert learnt(make_model()) == whole


def test_the_cost_is_the_most_that_any_sharing_out_can_be() -> None:
    model, adapter = make_model(), CoLoRA(**SMALL)
    shapes = {name: sum(shape) for name, shape in low_rank.matrices(model, "all linear")}
    ranks = dict.fromkeys(shapes, 1)
    for _ in range(3 * 21):
        ranks[max((name for name in ranks if ranks[name] < 8), key=shapes.__getitem__)] += 1
    assert adapter.cost(model).trained == sum(ranks[name] * size for name, size in shapes.items())
    assert adapter.cost(model).trained >= sum(rank * shapes[name] for name, rank in learnt(model).items())
    assert CoLoRA(**SMALL, spread=1.0).cost(model) == LoRA(rank=4).cost(model)


def test_no_matrix_gets_more_directions_than_it_has() -> None:
    ranks = learnt(make_model(), rank=14, modules="layers.0.self_attn.*")
    assert max(ranks[f"model.layers.0.self_attn.{name}_proj"] for name in "kv") <= 16 and sum(ranks.values()) == 56


def test_a_rank_that_a_matrix_has_no_directions_for_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="Set rank to 16"):
        CoLoRA(rank=17).cost(make_model())
