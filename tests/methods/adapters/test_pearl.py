"""PEARL (arXiv:2505.11998, reconstructed): each matrix gets as many directions as the trial's change needed there."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence
from workbench.materials.lora import Factors
from workbench.materials.templates import Encoded
from workbench.materials.trial_run import trial
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.pearl import PEARL, needed

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))
SMALL = {"rank": 6, "alpha": 9.0, "steps": 4}


def learnt(model: torch.nn.Module, **knobs: object) -> dict[str, int]:
    return {name: int(rank) for name, rank in drain(PEARL(**{**SMALL, **knobs}).study(model, SEEN)).items()}


def of(*sizes: float) -> Factors:
    """A change of these singular values."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(side, len(sizes), generator=generator).double()).Q for side in (20, 12))
    turned = torch.linalg.qr(torch.randn(len(sizes), len(sizes), generator=generator).double()).Q
    return Factors(left * torch.tensor(sizes).double() @ turned, turned.T @ right.T)


@pytest.mark.parametrize(
    ("sizes", "share", "rank"),
    [
        ((3.0, 1.0), 0.9, 1),  # 9 of 10
        ((3.0, 1.0), 0.91, 2),
        ((1.0, 1.0, 1.0, 1.0), 0.75, 3),
        ((1.0, 1.0, 1.0, 1.0), 0.76, 4),
        ((5.0, 1.0, 0.0), 1.0, 2),
        ((0.0, 0.0, 0.0), 0.9, 1),
    ],
)
def test_worked_examples(sizes: tuple[float, ...], share: float, rank: int) -> None:
    assert needed(of(*sizes), share) == rank
    assert needed(Factors(1e-6 * of(*sizes).left, of(*sizes).right), share) == rank, "the shape of a change counts, not its size"


def test_it_is_the_smallest_rank_that_holds_the_share_of_what_the_trial_changed() -> None:
    ranks, model = learnt(make_model()), make_model()
    with trial(model, PEARL(**SMALL)) as tried:
        drain(tried.learn(SEEN.batches(), 4))
        changes = tried.changes()
    assert len(ranks) == 21 and len(set(ranks.values())) > 1
    for name, rank in ranks.items():
        held = torch.linalg.svdvals(changes[name].left @ changes[name].right).square()
        assert held[:rank].sum() >= 0.9 * held.sum() > held[: rank - 1].sum()


def test_a_matrix_that_the_trial_cannot_move_gets_one_direction() -> None:
    """What it writes is thrown away."""
    model = make_model()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
    ranks = learnt(model, targets="attention", modules="layers.1.self_attn.v_proj, layers.0.self_attn.v_proj")
    assert ranks["model.layers.1.self_attn.v_proj"] == 1 < ranks["model.layers.0.self_attn.v_proj"]


def test_the_run_starts_as_a_lora_of_those_ranks_and_costs_no_more_than_one_of_the_rank_given() -> None:
    ranks, adapter = learnt(make_model()), PEARL(**SMALL)
    attachment = adapter.attach(make_model(), 0, {name: torch.tensor(rank) for name, rank in ranks.items()})
    found: dict[str, Tensor] = {name: layer.lora_A["default"].weight for name, layer in low_rank.layers(attachment.model)}
    assert {name: len(own) for name, own in found.items()} == ranks
    assert not any(layer.lora_B["default"].weight.any() for _, layer in low_rank.layers(attachment.model)), "nothing of the trial is left"
    assert max(ranks.values()) <= 6 and adapter.cost(make_model()) == LoRA(rank=6).cost(make_model())


def test_a_rank_that_a_matrix_has_no_directions_for_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="Set rank to 16"):
        PEARL(rank=17).cost(make_model())
