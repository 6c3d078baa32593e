"""Ranks that differ from matrix to matrix: shared out in proportion, to the last one, and one adapter for peft."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import nn

from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.allotted import Allotted, shared_out
from workbench.materials.lora import read_lora

UP, DOWN = "model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"


class Some(Allotted, Ranked):
    """Any method of this kind."""


@pytest.mark.parametrize(
    ("total", "scores", "most", "wanted"),
    [
        (10, {"a": 6.0, "b": 3.0, "c": 1.0}, 10, {"a": 6, "b": 3, "c": 1}),
        (10, {"a": 6.0, "b": 3.0, "c": 1.0}, 5, {"a": 5, "b": 4, "c": 1}),
        (10, {"a": 1.0, "b": 0.0, "c": 0.0}, 10, {"a": 8, "b": 1, "c": 1}),
        (9, {"a": 0.0, "b": 0.0, "c": 0.0}, 9, {"a": 3, "b": 3, "c": 3}),
        (9, {"a": 1.0, "b": 0.0, "c": 0.0}, 3, {"a": 3, "b": 3, "c": 3}),
        (3, {"a": 9.0, "b": 1.0, "c": 0.0}, 3, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_worked_examples(total: int, scores: dict[str, float], most: int, wanted: dict[str, int]) -> None:
    assert shared_out(total, scores, dict.fromkeys(scores, most)) == wanted


def test_what_may_have_one_alone_gets_no_more() -> None:
    assert shared_out(6, {"a": 9.0, "b": 1.0}, {"a": 1, "b": 5}) == {"a": 1, "b": 5}


def test_all_of_it_is_shared_out_and_more_never_goes_to_who_deserves_less() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = {str(place): float(score) for place, score in enumerate(torch.rand(40, generator=generator).square())}
    most = {name: int(bound) for name, bound in zip(scores, torch.randint(4, 40, (40,), generator=generator), strict=True)}
    got = shared_out(160, scores, most)
    assert sum(got.values()) == 160 and all(1 <= got[name] <= most[name] for name in got)
    free = [name for name in got if got[name] < most[name]]
    assert all(got[one] <= got[other] for one in free for other in free if scores[one] < scores[other])


def test_each_layer_has_its_rank_and_all_the_same_scale_also_in_what_is_saved(tmp_path: Path) -> None:
    some = Some(rank=4, alpha=6.0, dropout=0.0)
    attachment = some.attach(make_model(), 0, {UP: torch.tensor(1), DOWN: torch.tensor(9)})
    for _, layer in low_rank.layers(attachment.model):
        nn.init.normal_(layer.lora_B["default"].weight)
    attachment.save(tmp_path)
    factors = {name: (pair.right.shape[0], pair.scale) for name, pair in read_lora(tmp_path, "ours").factors.items()}
    assert factors == {f"{UP}.weight": (1, 1.5), f"{DOWN}.weight": (9, 1.5)}
    ids = torch.arange(5, 45).reshape(4, 10)
    with torch.no_grad():
        opened = PeftModel.from_pretrained(make_model(), tmp_path)(ids).logits
        assert torch.allclose(opened, attachment.model.eval()(ids).logits, atol=1e-5)
