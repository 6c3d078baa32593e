"""SMT: the blocks with the largest gradient, as many as the share says."""

import pytest
import torch
from pico import make_model

from workbench.core.job import drain
from workbench.materials.evidence import Evidence, Learnt, gradients
from workbench.materials.templates import Encoded
from workbench.methods.adapters.smt import SMT

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))
UP = "model.layers.1.mlp.up_proj.weight"


def learnt(**knobs: object) -> Learnt:
    return drain(SMT(**knobs).study(make_model(), SEEN))


def whole_gradients() -> dict[str, torch.Tensor]:
    """The mean gradient of each weight, without any block."""
    model, found = make_model(), dict[str, torch.Tensor]()
    names = [name for name, _ in model.named_parameters() if "proj" in name]
    drain(gradients(model, names, SEEN.batches(), lambda name, own: found.update({name: found.get(name, 0) + own.clone()})))
    return found


@pytest.mark.parametrize("score", ["mean", "size"])
def test_the_chosen_blocks_are_those_with_the_largest_gradient(score: str) -> None:
    """The rows are one batch, so that the mean of sizes is the size of one gradient."""
    chosen = learnt(block=8, share=0.1, score=score)
    whole = {name: own.abs() if score == "size" else own for name, own in whole_gradients().items()}
    scores = {
        (name, row * (own.shape[1] // 8) + column): float(own[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean().abs())
        for name, own in whole.items()
        for row in range(own.shape[0] // 8)
        for column in range(own.shape[1] // 8)
    }
    best = sorted(scores, key=scores.__getitem__)[-(len(scores) // 10) :]
    assert {(name, int(place)) for name, index in chosen.items() for place in index} == set(best)


def test_a_planted_gradient_is_found_and_nothing_else_moves(pico_batch: dict[str, torch.Tensor]) -> None:
    """All but one MLP are dead, so its blocks are where the gradient is."""
    model = make_model()
    with torch.no_grad():
        for layer in (0, 2):
            model.get_parameter(f"model.layers.{layer}.mlp.down_proj.weight").zero_()
    adapter = SMT(block=16, share=0.05, targets="mlp")
    found = drain(adapter.study(model, SEEN))
    assert not any(f"layers.{layer}.mlp.{part}_proj" in name for name in found for layer in (0, 2) for part in ("up", "gate"))
    attachment = adapter.attach(model, 0, found)
    assert sum(values.numel() for _, values in attachment.trained()) == 16 * 16 * sum(map(len, found.values()))


def test_from_each_matrix_as_much_and_a_block_that_divides_them_all() -> None:
    each = learnt(block=24, share=0.25, from_each=True)  # the sides are 16, 32 and 64: 16 is the largest that divides them
    model = make_model()
    assert {name: len(index) for name, index in each.items()} == {
        name: max(1, parameter.numel() // 256 // 4) for name, parameter in model.named_parameters() if "proj" in name
    }
    assert all(index.tolist() == sorted(index.tolist()) for index in each.values())
    assert SMT(block=24, share=0.25, from_each=True).cost(model).trained == 256 * sum(map(len, each.values()))


def test_all_batches_count_alike() -> None:
    early, late = ROWS, [Encoded([400 - id for id in row.ids], row.trained, 0) for row in ROWS]
    both, turned = (
        drain(SMT(block=8, share=0.1).study(make_model(), Evidence({"": rows}, 0, torch.device("cpu"))))
        for rows in (early + late, late + early)
    )
    assert {name: index.tolist() for name, index in both.items()} == {name: index.tolist() for name, index in turned.items()}


def test_looking_leaves_the_model_as_it_was() -> None:
    model = make_model()
    drain(SMT().study(model, SEEN))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), make_model().parameters(), strict=True))
