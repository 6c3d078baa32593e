"""LoKI: rows that add nothing are found, as many in each block, by how often they are among the lowest."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.attribution import attributions
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.templates import Encoded
from workbench.methods.adapters.loki import LoKI

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
SEEN = Evidence({"known": ROWS}, 0, torch.device("cpu"))
DOWNS = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3)]


def learnt(model: LlamaForCausalLM, **knobs: object) -> Learnt:
    return drain(LoKI(**knobs).study(model, SEEN))


@pytest.mark.parametrize("steps", [1, 3])
def test_rows_that_write_nothing_are_found(steps: int) -> None:
    model = make_model()
    planted = {name: torch.tensor([3 + layer, 9, 20 + layer]) for layer, name in enumerate(DOWNS)}
    with torch.no_grad():
        for name, rows in planted.items():
            model.get_parameter(name)[rows] = 0
    found = learnt(model, share=0.1, steps=steps)
    assert {name: rows.tolist() for name, rows in found.items()} == {name: rows.tolist() for name, rows in planted.items()}


def test_each_block_gives_as_many_rows_and_only_they_move(pico_batch: dict[str, Tensor]) -> None:
    model = make_model()
    adapter, before = LoKI(share=0.25), {name: own.detach().clone() for name, own in model.named_parameters()}
    found = drain(adapter.study(model, SEEN))
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(DOWNS, 8)
    attachment = adapter.attach(model, 0, found)
    assert sum(values.numel() for _, values in attachment.trained()) == adapter.cost(model).trained == 3 * 8 * 64
    model(**pico_batch).loss.backward()
    torch.optim.SGD([values for _, values in attachment.trained()], lr=1.0).step()
    attachment.after_step(1)
    for name, own in model.named_parameters():
        moved = (own != before[name]).reshape(len(own), -1).any(1).nonzero()[:, 0]
        assert moved.tolist() == (found[name].tolist() if name in found else [])


@pytest.mark.parametrize("lowest", ["size", "value"])
def test_they_are_those_most_often_among_the_lowest(lowest: str) -> None:
    model = make_model()
    own = torch.cat([attributions(model, [DOWNS[1].removesuffix(".weight")], batch)[DOWNS[1].removesuffix(".weight")]
                     for batch in SEEN.prompts("known", 1)])  # fmt: skip
    scores = own.abs() if lowest == "size" else own
    often = [sum(row in line.argsort()[:3].tolist() for line in scores) for row in range(32)]
    found = learnt(model, lowest=lowest)[DOWNS[1]].tolist()
    assert len(found) == 3 and sorted(often)[-3:] == sorted(often[row] for row in found)


def test_a_worked_example() -> None:
    """Four prompts and a quota of two: 1 is among the lowest four times, 0 and 4 twice, of which the one with the lower mean is taken."""
    scores = torch.tensor([[1.0, 0, 5, 5, 2], [8, 1, 5, 5, 0], [0, 1, 5, 5, 9], [3, 0, 5, 5, 2]])
    assert LoKI(share=0.4)._least(scores).tolist() == [0, 1]
    scores[2, 4] = 6
    assert LoKI(share=0.4)._least(scores).tolist() == [1, 4]


def test_without_a_data_set_it_asks_for_one() -> None:
    assert LoKI(data="mmlu").looks_at() == ["mmlu"]
    with pytest.raises(WorkbenchError, match=r"adapter\.data"):
        LoKI(data="").looks_at()
