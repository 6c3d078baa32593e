"""Surgical fine-tuning: the Fisher information of each block, row by row, and the blocks that have most of it."""

import pytest
import torch
from pico import make_model
from transformers import LlamaForCausalLM

from workbench.core.job import drain
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.templates import Encoded
from workbench.methods.adapters.surgical import Surgical

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))


def fisher(model: LlamaForCausalLM, seen: Evidence = SEEN) -> torch.Tensor:
    return drain(Surgical().study(model, seen))["fisher"]


def moving(model: LlamaForCausalLM, scores: list[float], **knobs: object) -> set[int]:
    attachment = Surgical(**knobs).attach(model, 0, {"fisher": torch.tensor(scores, dtype=torch.float64)})
    names = {name for name, _ in attachment.trained()}
    layers = {int(name.split(".")[2]) for name in names}
    assert names == {name for name, _ in model.named_parameters() if any(f".layers.{layer}." in name for layer in layers)}, "whole blocks"
    return layers


def test_it_is_the_mean_square_of_each_rows_own_gradient() -> None:
    model, wanted = make_model(), torch.zeros(3, dtype=torch.float64)
    for batch in SEEN.batches(size=1):
        model.zero_grad()
        surprise(model, batch).backward()
        for name, parameter in model.named_parameters():
            if ".layers." in name:
                wanted[int(name.split(".")[2])] += parameter.grad.double().square().sum() / len(ROWS)
    assert torch.allclose(fisher(make_model()), wanted)
    assert torch.allclose(fisher(make_model(), Evidence({"": ROWS * 2}, 0, SEEN.device)), wanted), "copies change nothing"


def test_a_block_that_is_cut_off_scores_nothing_and_stands_still() -> None:
    """Its norms let nothing in and its last matrices let nothing out."""
    model = make_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layers.1." in name and ("norm" in name or "o_proj" in name or "down_proj" in name):
                parameter.zero_()
    scores = fisher(model)
    assert scores[1] == 0 < scores[[0, 2]].min()
    assert moving(model, scores.tolist(), blocks=2) == {0, 2}


def test_the_blocks_with_most_move_whole_and_nothing_else() -> None:
    assert moving(make_model(), [1.0, 3.0, 2.0], blocks=1) == {1}
    assert moving(make_model(), [1.0, 3.0, 2.0], blocks=2) == {1, 2}
    assert moving(make_model(), [1.0, 3.0, 2.0], blocks=40) == {0, 1, 2}


@pytest.mark.parametrize(("score", "chosen"), [("sum", {1}), ("mean", {0})])
def test_a_block_that_is_larger_has_more_in_all_and_less_for_each_number(score: str, chosen: set[int]) -> None:
    model = make_model()
    model.model.layers[1].mlp = make_model(intermediate_size=256).model.layers[1].mlp
    assert moving(model, [2.0, 3.0, 1.0], blocks=1, score=score) == chosen
    largest = sum(parameter.numel() for name, parameter in model.named_parameters() if ".layers.1." in name)
    assert Surgical(blocks=1).cost(model).trained == largest, "the most that may move"
