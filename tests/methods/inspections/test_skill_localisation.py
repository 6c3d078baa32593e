"""Skill localisation: how many numbers are taken and which, the ends of the curve, planted skills, and what two models share."""

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
from workbench.methods.inspections.skill_localisation import LEAST, SHARES, SkillLocalisation, in_words, taken


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, rows=("",): subject(tmp_path, pico_tokenizer, tuned, rows)


def learnt(rows: Sequence[Encoded]) -> Change:
    """The last norm, 32 numbers, tuned on the rows; and everything else moved by next to nothing."""

    def tune(model: LlamaForCausalLM) -> None:
        batch, norm = pad(rows, 0), model.model.norm.weight
        with torch.enable_grad():
            for _ in range(20):
                norm.data -= 50 * torch.autograd.grad(model(**batch).loss, norm)[0]
        moved(1e-6)(model)

    return tune


def curve(finding: Finding) -> list[tuple[float, float]]:
    assert [row[3] for row in finding.tables[0].rows] == list(SHARES)
    return [(row[4], row[5]) for row in finding.tables[0].rows]


@pytest.mark.parametrize("share", [1e-5, 1e-3, 0.03, 1.0])
def test_so_many_are_taken_and_they_moved_most(lay: Callable[..., Subject], share: float) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    few = max(1, int(share * graft.count()))
    with graft.put(partial(taken, graft.cuts([few])[0])) as model:
        names = dict(model.named_parameters())
        chosen = torch.cat([(names[name] != base).flatten() for name, base, _ in graft.pairs()])
    sizes = torch.cat([(own - base).abs().flatten() for _, base, own in graft.pairs()])
    assert int(chosen.sum()) == pytest.approx(few, abs=2)
    assert share == 1 or float(sizes[chosen].min()) >= float(sizes[~chosen].max())


def test_with_all_numbers_it_is_the_tuned_model(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05))
    found = drain(SkillLocalisation().inspect(laid))
    assert curve(found)[-1] == (mean_loss(laid.tuned(0), laid.evidence.batches()), 1.0)


def test_a_skill_in_32_numbers_is_found_among_all(lay: Callable[..., Subject]) -> None:
    laid = lay(learnt(lay(unchanged).rows[""]))
    finding = drain(SkillLocalisation().inspect(laid))
    found = finding.numbers["tuned 0"]
    enough = [share for share in SHARES if share * Grafted(laid, 0).count() >= 32]
    assert found["gain over the base"] > 0.1 and found[LEAST] <= enough[0]
    assert curve(finding)[SHARES.index(enough[0])][1] == pytest.approx(1, abs=1e-2)
    assert curve(finding)[0][1] < 0.5, "one number alone is not enough"
    assert in_words(found[LEAST]) in finding.says[0]


def test_shares_in_words() -> None:
    assert [in_words(share) for share in (1e-5, 3e-4, 0.03, 0.1, 0.5, 1.0)] == [
        "1 in 100,000", "3 in 10,000", "3 in 100", "1 in 10", "1 in 2", "all",
    ]  # fmt: skip


def test_a_model_that_is_no_better_has_no_skill(lay: Callable[..., Subject]) -> None:
    finding = drain(SkillLocalisation().inspect(lay(unchanged)))
    assert "no better" in finding.says[0] and LEAST not in finding.numbers["tuned 0"]
    assert all(row[5] is None for row in finding.tables[0].rows) and len(finding.tables) == 1


# What two models have in common.


def somewhere(*places: int) -> Change:
    def change(model: LlamaForCausalLM) -> None:
        own = model.model.layers[0].mlp.up_proj.weight.view(-1)
        for size, place in enumerate(places, start=1):
            own[place] += size

    return change


def test_overlap_by_hand(lay: Callable[..., Subject]) -> None:
    """Of some forty thousand numbers 1e-4 are a few, the last of each; all that moved are six each, of which four are common."""
    laid = lay(somewhere(1, 2, 3, 4, 5, 6), somewhere(3, 4, 5, 6, 7, 8))
    count = Grafted(laid, 0).count()
    table = drain(SkillLocalisation().inspect(laid)).tables[1]
    common = {row[2]: row[3] for row in table.rows}
    few = int(1e-4 * count)
    first, other = {*range(7 - few, 7)}, {*range(9 - few, 9)}
    assert len(first & other) > 0
    assert common[1e-4] == len(first & other) / len(first | other)
    assert common[1e-5] == 0 and common[0.3] == 4 / 8
    assert {row[0] for row in table.rows} == {"tuned 0 and tuned 1"}
    assert next(row[4] for row in table.rows if row[2] == 0.1) == pytest.approx(0.1 / 1.9)


def test_two_that_moved_by_chance_overlap_by_chance_and_one_with_itself_wholly(lay: Callable[..., Subject]) -> None:
    table = drain(SkillLocalisation().inspect(lay(moved(0.01, seed=2), moved(0.05), moved(0.05)))).tables[1]
    for row in table.rows:
        if row[0] == "tuned 1 and tuned 2":
            assert row[3] == 1
        elif row[2] >= 0.1:
            assert row[3] == pytest.approx(row[4], rel=0.15)
