"""Layers exchanged: a planted change is found in its block, neighbours in a window, and the ends are the two models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.grafted import mean_loss
from workbench.materials.subject import Subject
from workbench.methods.inspections.layer_swap import LayerSwap


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, rows=("",): subject(tmp_path, pico_tokenizer, tuned, rows)


def in_blocks(*layers: int | None) -> Change:
    """All weights of these blocks a little elsewhere; None moves the last norm."""

    def change(model: LlamaForCausalLM) -> None:
        draw = torch.Generator().manual_seed(1)
        for layer in layers:
            for own in (model.model.norm if layer is None else model.model.layers[layer]).parameters():
                own.add_(0.2 * torch.randn(own.shape, generator=draw))

    return change


def at(finding: Finding, layer: int | None, read: str = "tuned 0 on what was held back") -> dict[str, Any]:
    table = finding.tables[0]
    return next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[1:3] == [read, layer])


@pytest.mark.parametrize("layer", [0, 1, 2, None])
def test_a_change_in_one_block_is_all_lost_and_all_brought_there(lay: Callable[..., Subject], layer: int | None) -> None:
    finding = drain(LayerSwap().inspect(lay(in_blocks(layer))))
    for place in (0, 1, 2, None):
        found = at(finding, place)
        expected = (1.0, 1.0) if place == layer else (0.0, 0.0)
        assert (found["share gone back"], found["share brought along"]) == expected
    if layer is not None:
        assert f"when it has the base's block {layer}," in finding.says[0] and f"block {layer} alone brings 100%" in finding.says[0]
        assert finding.numbers["tuned 0"]["most gone back with one block"] == 1


def test_losses_are_those_of_models_put_together_by_hand(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05))
    finding = drain(LayerSwap().inspect(laid))
    batches = laid.evidence.batches()
    own, base = laid.tuned(0), laid.base
    before, gain = mean_loss(own, batches), mean_loss(base, batches) - mean_loss(own, batches)
    assert finding.numbers["tuned 0"]["loss"] == before and finding.numbers["tuned 0"]["gain over the base"] == gain
    for layer in range(3):
        kept = own.model.layers[layer]
        own.model.layers[layer] = base.model.layers[layer]
        base.model.layers[layer] = kept
        found = at(finding, layer)
        without, alone = mean_loss(own, batches), mean_loss(base, batches)
        assert found["loss with the base's (nats)"] == without and found["loss with it alone (nats)"] == alone
        assert found["share gone back"] == pytest.approx((without - before) / gain)
        base.model.layers[layer] = own.model.layers[layer]
        own.model.layers[layer] = kept


def test_a_model_that_is_worse_wins_back(lay: Callable[..., Subject]) -> None:
    laid = lay(in_blocks(1), unchanged)
    turned = Subject(laid.refs[1], [laid.refs[2]], laid.rows, laid.examples)
    forth, back = (drain(LayerSwap().inspect(own)) for own in (laid, turned))
    gains = forth.numbers["tuned 0"]["gain over the base"], back.numbers["tuned 1"]["gain over the base"]
    assert gains[0] == -gains[1] != 0
    worse = forth if gains[0] < 0 else back
    assert "wins back 100% of what it is worse" in worse.says[0] and sum("loses 100%" in own.says[0] for own in (forth, back)) == 1


def test_windows_take_neighbours_along_and_end_at_the_ends(lay: Callable[..., Subject]) -> None:
    laid = lay(in_blocks(0, 2))
    three = drain(LayerSwap(window=3).inspect(laid))
    assert [at(three, layer)["share gone back"] == 1 for layer in range(3)] == [False, True, False]
    two = drain(LayerSwap(window=2).inspect(laid))
    one = drain(LayerSwap().inspect(laid))
    lost = "share gone back"
    assert at(two, 1)[lost] == at(one, 2)[lost] and at(two, 0)[lost] == at(one, 0)[lost], "of two, the named one and the next"
    assert at(three, 0)[lost] == at(two, 0)[lost] and at(three, None)[lost] == 0 and "2 beside it" in three.says[0]


def test_a_model_that_says_the_same_has_no_shares(lay: Callable[..., Subject]) -> None:
    finding = drain(LayerSwap().inspect(lay(unchanged)))
    assert at(finding, 1)["share gone back"] is None and "no block" in finding.says[0]


def test_what_was_known_has_rows_of_its_own(lay: Callable[..., Subject]) -> None:
    laid = lay(in_blocks(1))
    both = Subject(laid.refs[0], laid.refs[1:], {**laid.rows, "old": laid.rows[""][:3]}, laid.examples)
    finding = drain(LayerSwap(known="old").inspect(both))
    found = at(finding, 1, "tuned 0 on old")
    assert found["share gone back"] == found["share brought along"] == 1 and len(finding.tables[0].rows) == 2 * 4
    assert found["loss with the base's (nats)"] == mean_loss(both.base, both.evidence.batches("old"))
    assert [sentence.split(" on ")[1].split(" ")[0] for sentence in finding.says] == ["what", "old"]
