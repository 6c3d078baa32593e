"""Changes undone: how many go back at each share and which, the two ends of the curves, and what is said of a gain."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.grafted import Grafted, mean_loss
from workbench.materials.packing import pad
from workbench.materials.subject import Subject
from workbench.materials.templates import Encoded
from workbench.methods.inspections.restoration import LARGEST, SHARES, SMALLEST, Restoration, as_far_as, kept, said, steps

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, rows=("",): subject(tmp_path, pico_tokenizer, tuned, rows)


def few(sizes: list[float]) -> Change:
    """So many numbers of one matrix, each elsewhere by its own size."""

    def change(model: LlamaForCausalLM) -> None:
        model.get_parameter(NAME).view(-1)[: len(sizes)] += torch.tensor(sizes)

    return change


def learnt(rows: Sequence[Encoded]) -> Change:
    """The last norm, 32 numbers, tuned on the rows; and 200 other numbers moved by next to nothing."""

    def tune(model: LlamaForCausalLM) -> None:
        batch, norm = pad(rows, 0), model.model.norm.weight
        with torch.enable_grad():
            for _ in range(20):
                norm.data -= 50 * torch.autograd.grad(model(**batch).loss, norm)[0]
        few([1e-5] * 200)(model)

    return tune


def curve(finding: Finding, order: str, read: str = "tuned 0 on what was held back") -> list[float]:
    table = next(table for table in finding.tables if table.name == order)
    own = [row for row in table.rows if row[1] == read]
    assert [row[2] for row in own] == list(SHARES)
    return [row[3] for row in own]


@pytest.mark.parametrize("order", [SMALLEST, LARGEST])
def test_so_many_go_back_and_the_right_ones(lay: Callable[..., Subject], order: str) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    every = torch.cat([(own - base).abs().flatten() for _, base, own in graft.pairs()])
    own_steps = [(share, cut) for which, share, cut in steps(graft) if which == order]
    for share, cut in own_steps:
        with graft.put(partial(kept, order, cut)) as model:
            names = dict(model.named_parameters())
            back = torch.cat([(names[name] == base).flatten() for name, base, _ in graft.pairs()])
        count = int(share * graft.moved())
        still = int((every == 0).sum())
        assert int(back.sum()) == pytest.approx(count + still, abs=3), "those of one size go together"
        if 0 < count < len(every) - still:
            gone, left = every[back & (every > 0)], every[~back]
            assert gone.max() <= left.min() if order == SMALLEST else gone.min() >= left.max()


def test_the_share_is_of_the_numbers_that_moved(lay: Callable[..., Subject]) -> None:
    sizes = [float(size) for size in range(1, 21)]
    graft = Grafted(lay(few(sizes)), 0)
    for order, share, cut in steps(graft):
        base, own = torch.zeros(20), torch.tensor(sizes)
        back = (kept(order, cut, NAME, base, own) == 0).nonzero()[:, 0].tolist()
        count = int(share * 20)
        assert back == (list(range(count)) if order == SMALLEST else list(range(20 - count, 20)))


def test_at_the_ends_it_is_the_tuned_model_and_the_base(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05))
    own, base = (mean_loss(model, laid.evidence.batches()) for model in (laid.tuned(0), laid.base))
    finding = drain(Restoration().inspect(laid))
    for order in (SMALLEST, LARGEST):
        found = curve(finding, order)
        assert found[0] == own and found[-1] == base
    assert finding.numbers["tuned 0"]["loss"] == own and finding.numbers["tuned 0"]["gain over the base"] == base - own


def test_what_may_be_undone_ends_before_the_first_share_that_costs_too_much() -> None:
    assert as_far_as([1.0, 1.0, 0.9, 1.04, 1.2, 1.0, 2, 2, 2], 1.05) == SHARES[3]
    assert as_far_as([1.0] * 9, 1.05) == 1.0 and as_far_as([1.0] + [2.0] * 8, 1.05) == 0.0


def test_dust_can_go_back_and_what_was_learnt_can_not(lay: Callable[..., Subject]) -> None:
    finding = drain(Restoration().inspect(lay(learnt(lay(unchanged).rows[""]))))
    found, small = finding.numbers["tuned 0"], curve(finding, SMALLEST)
    assert found["gain over the base"] > 0.1
    assert small[:5] == pytest.approx([small[0]] * 5, abs=1e-4), "three quarters of 232 are dust"
    assert found["may be undone, smallest first"] >= 0.75 and found["may be undone, largest first"] == 0
    assert f"smallest {found['may be undone, smallest first']:.0%}" in finding.says[0] and "0%" in finding.says[0]


def test_a_model_that_is_no_better_says_so(lay: Callable[..., Subject]) -> None:
    finding = drain(Restoration().inspect(lay(unchanged)))
    assert "no better" in finding.says[0] and "may be undone, smallest first" not in finding.numbers["tuned 0"]


def test_what_was_known_gets_curves_of_its_own(lay: Callable[..., Subject]) -> None:
    finding = drain(Restoration(known="old").inspect(lay(moved(0.05), rows=("", "old"))))
    assert curve(finding, SMALLEST, "tuned 0 on old") == curve(finding, SMALLEST)


def test_a_better_model_on_the_way_is_told_only_where_it_is_worth_a_word() -> None:
    numbers = {"loss": 1.0, "may be undone, smallest first": 0.5, "may be undone, largest first": 0.0, "undone at the lowest": 0.25}
    assert "lowest" in said("it", numbers | {"lowest loss": 0.9}) and "25%" in said("it", numbers | {"lowest loss": 0.9})
    assert "lowest" not in said("it", numbers | {"lowest loss": 0.99})
