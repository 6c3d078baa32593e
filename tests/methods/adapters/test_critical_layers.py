"""Critical layers: a planted change is found, away from the ends, and the blocks around it move or stand still."""

import pytest
import torch
from pico import make_model
from transformers import LlamaForCausalLM

from workbench.core.job import drain
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded
from workbench.methods.adapters.critical_layers import CriticalLayers

ROWS = [Encoded([3, 5, 7 * place, 9, 11, 2 + place], [False] * 3 + [True] * 3, 0) for place in range(2, 40)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))


def calm(*loud: int, layers: int = 12) -> LlamaForCausalLM:
    """A model whose blocks add nothing but for some, whose MLPs add much."""
    model = make_model(num_hidden_layers=layers, hidden_size=16, intermediate_size=16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.mul_(3000.0 if "down_proj" in name and int(name.split(".")[2]) in loud else 0)
    return model


def blocks(model: LlamaForCausalLM, **knobs: object) -> set[int | None]:
    """Those that move whole; None stands for what lies outside."""
    adapter = CriticalLayers(**knobs)
    names = {name for name, _ in adapter.attach(model, 0, drain(adapter.study(model, SEEN))).trained()}

    def place(name: str) -> int | None:
        return int(name.split(".")[2]) if ".layers." in name else None

    moving = {place(name) for name in names}
    assert names == {name for name, _ in model.named_parameters() if place(name) in moving}
    return moving


def test_it_compares_the_last_token_of_the_prompts_as_each_block_leaves_it() -> None:
    model = calm(4, 5)
    table = drain(CriticalLayers().study(model, SEEN))["cka"]
    assert table.shape == (12, 12) and torch.allclose(table.diagonal(), torch.ones(12).double())
    assert table[:4, :4].min() > 0.999 and table[5:, 5:].min() > 0.999, "where nothing is added nothing changes"
    assert table[3, 4] < 0.9 and table[4, 5] < 0.9
    longer = [Encoded([*row.ids, 8, 9], [*row.trained, True, True], 0) for row in ROWS]
    again = drain(CriticalLayers().study(model, Evidence({"": longer}, 0, SEEN.device)))["cka"]
    assert torch.allclose(table, again), "answers are not read"


def test_the_blocks_around_the_change_move() -> None:
    assert blocks(calm(4, 5)) == {2, 3, 4, 5, 6} and blocks(calm(4, 5), around=0) == {4}
    assert blocks(calm(7, 8), around=1) == {6, 7, 8}


def test_or_they_stand_still_and_all_else_moves() -> None:
    assert blocks(calm(4, 5), still=True) == {None, 0, 1, 7, 8, 9, 10, 11}


def test_the_ends_are_not_asked() -> None:
    assert blocks(calm(0, 1, 2, 10, 11), around=0) <= {3, 4, 5, 6, 7, 8}
    assert blocks(calm(0, 1, layers=3), around=0) == {0}, "where there are few, all are"


@pytest.mark.parametrize("still", [True, False])
def test_the_cost_is_that_of_the_dearest_place(still: bool) -> None:
    model = make_model()
    one = (CriticalLayers().cost(model).total - sum(p.numel() for n, p in model.named_parameters() if ".layers." not in n)) // 3
    found = CriticalLayers(around=1, still=still).cost(model)
    assert found.trained == (found.total - 2 * one if still else 3 * one), "two of three blocks where it is at an end, else all"
