"""Skill localisation, learnt: a planted skill is found, its adapter is what was told, and what two masks share."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.spec import InspectSpec
from workbench.core.workspace import Workspace
from workbench.jobs.inspect import inspect
from workbench.materials.grafted import Grafted, mean_loss
from workbench.materials.models import ModelRef, load, resolve
from workbench.materials.packing import pad
from workbench.materials.subject import Subject
from workbench.materials.world.skills import World
from workbench.methods.inspections.learnt_grafting import ALL, LEARNT, MOVED, LearntGrafting

UNTIED = {"tie_word_embeddings": False}


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, **shape: subject(tmp_path, pico_tokenizer, tuned, **shape)


def skill(laid: Subject, *layers: int, noise: float = 100) -> Change:
    """Norms tuned on the rows, the last one if no layer is named; and words that no row has, moved much further."""
    batch = pad(laid.rows[""], 0)
    unread = torch.ones(400, dtype=torch.bool)
    unread[batch["input_ids"].unique()] = False

    def tune(model: LlamaForCausalLM) -> None:
        norms = [model.model.layers[layer].input_layernorm.weight for layer in layers] or [model.model.norm.weight]
        with torch.enable_grad():
            for _ in range(20):
                for norm, gradient in zip(norms, torch.autograd.grad(model(**batch).loss, norms), strict=True):
                    norm.data -= 50 * gradient
        own = model.model.embed_tokens.weight
        own[unread] += noise * torch.rand(own[unread].shape, generator=torch.Generator().manual_seed(1))

    return tune


def test_a_planted_skill_is_found_that_movement_does_not_show(lay: Callable[..., Subject]) -> None:
    laid = lay(skill(lay(unchanged, **UNTIED)), **UNTIED)
    finding = drain(LearntGrafting().inspect(laid))
    rows = {row[2]: row for row in finding.tables[0].rows}
    assert rows[LEARNT][6] > 0.8 and rows[MOVED][6] == 0 and rows[ALL][6] == 1
    assert rows[LEARNT][3] == rows[MOVED][3] <= 40 < rows[ALL][3]
    numbers = finding.numbers["tuned 0"]
    assert numbers["numbers taken"] == rows[LEARNT][3] and numbers["loss with the learnt mask"] == rows[LEARNT][5]
    assert f"{rows[LEARNT][3]} numbers" in finding.says[0] and f"moved most, {0:.0%}" in finding.says[0]
    assert "kept in" not in finding.says[0]


def test_it_learns_on_every_second_row_and_tells_of_the_others(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.02))
    taught, tried = LearntGrafting()._halves(laid)
    rows = laid.rows[""]
    for batches, half in ((taught, rows[::2]), (tried[""], rows[1::2])):
        shown = torch.cat([batch["input_ids"][batch["attention_mask"].bool()] for batch in batches])
        assert shown.tolist() == [token for row in half for token in row.ids]
    finding = drain(LearntGrafting(passes=1).inspect(laid))
    own = next(row for row in finding.tables[0].rows if row[2] == ALL)
    laid.rows = {"": rows[:1]}
    (batch,), alone = LearntGrafting()._halves(laid)
    assert torch.equal(batch["input_ids"], alone[""][0]["input_ids"]), "one row alone is both"
    assert own[5] == mean_loss(laid.tuned(0), tried[""]) and own[3] == own[4] * Grafted(laid, 0).count()


def test_the_adapter_that_is_kept_is_the_graft(lay: Callable[..., Subject], tmp_path: Path) -> None:
    laid = lay(skill(lay(unchanged, **UNTIED)), **UNTIED)
    laid.folder = tmp_path / "run"
    laid.folder.mkdir()
    finding = drain(LearntGrafting().inspect(laid))
    folder = laid.folder / "graft-1"
    assert f"kept in {folder}" in finding.says[0]
    base = load(ModelRef("base", "base", laid.refs[0].path), laid.device, torch.float32)
    grafted = PeftModel.from_pretrained(base, folder).merge_and_unload()
    told = next(row[5] for row in finding.tables[0].rows if row[2] == LEARNT)
    assert mean_loss(grafted, LearntGrafting()._halves(laid)[1][""]) == pytest.approx(told, abs=1e-5)
    assert load(ModelRef("graft", "graft", laid.refs[0].path, folder), laid.device, torch.float32) is not None


def test_the_job_keeps_it_in_its_run_s_folder(lay: Callable[..., Subject], tmp_path: Path, workspace: Workspace) -> None:
    base, tuned = (ref.path for ref in lay(moved(0.05)).refs)
    found = World().rows("facts", 4, seed=0, held_out=False)
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in found))
    knobs = {"method": "learnt_grafting", "rows": str(tmp_path / "own.jsonl"), "passes": 1}
    list(inspect(InspectSpec(models=[tuned], base=base, inspection=knobs), folder := workspace.run("0001"), workspace))
    assert resolve(str(folder / "graft-1"), workspace) == ModelRef(str(folder / "graft-1"), "graft-1", base, folder / "graft-1")


def test_where_learning_finds_nothing_better_it_says_so(lay: Callable[..., Subject]) -> None:
    laid = lay(skill(lay(unchanged, **UNTIED), noise=0), **UNTIED)
    finding = drain(LearntGrafting(rate=1e-9, passes=1).inspect(laid))
    assert "nothing better" in finding.says[0] and "Raise the rate" in finding.says[0]
    rows = {row[2]: row for row in finding.tables[0].rows}
    assert rows[LEARNT][3:] == rows[MOVED][3:]


def test_a_model_that_is_its_base_has_no_skill(lay: Callable[..., Subject]) -> None:
    finding = drain(LearntGrafting(passes=1).inspect(lay(unchanged)))
    assert "no better" in finding.says[0] and finding.numbers["tuned 0"]["numbers taken"] == 0
    assert [row[6] for row in finding.tables[0].rows] == [None] * 3


def test_two_masks_of_one_model_are_one_and_those_of_other_layers_are_apart(lay: Callable[..., Subject]) -> None:
    plain = lay(unchanged, **UNTIED)
    one, other = skill(plain, 0, noise=0), skill(plain, 2, noise=0)
    rows = drain(LearntGrafting(start=1e-9).inspect(lay(one, one, other, **UNTIED))).tables[1].rows
    shares = {row[0]: row[2] for row in rows}
    assert shares["tuned 0 and tuned 1"] == 1
    assert shares["tuned 0 and tuned 2"] < 0.2 and all(row[3] < 1e-3 for row in rows)
