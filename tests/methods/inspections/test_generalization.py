"""Generalization: cells are differences row by row, the task's own set stands apart, and nothing changes without tuning."""

import math
from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.materials.subject import Subject
from workbench.methods.inspections.generalization import GRID, Generalization


def laid_out(folder: Path, tokenizer: PreTrainedTokenizerFast, method: Generalization, *tuned: object) -> Subject:
    """Each data set has rows of its own, as many as its name has letters."""
    laid = subject(folder, tokenizer, tuned, rows=method.looks_at(), count=12, tie_word_embeddings=False)
    laid.rows = {name: rows[: len(name) or 5] for name, rows in laid.rows.items()}
    return laid


def losses(model: LlamaForCausalLM, laid: Subject, name: str) -> list[float]:
    found = []
    for row in laid.rows[name]:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            table = model(ids).logits[0, :-1].log_softmax(-1)
        own = table.gather(-1, ids[0, 1:, None])[:, 0]
        found.append(-float(own[torch.tensor(row.trained[1:])].mean()))
    return found


def test_a_cell_is_the_mean_difference_of_the_rows(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    method = Generalization(rows="task", others="elsewhere, more ,task")
    assert method.looks_at() == ["task", "elsewhere", "more"]
    laid = laid_out(tmp_path, pico_tokenizer, method, moved(0.02), unchanged)
    finding = drain(method.inspect(laid))
    cells = {tuple(row[:2]): dict(zip(GRID, row, strict=True)) for row in finding.tables[0].rows}
    assert len(cells) == 6
    found = {}
    for name in method.looks_at():
        before, after = losses(laid.base, laid, name), losses(laid.tuned(0), laid, name)
        change = torch.tensor([now - then for now, then in zip(after, before, strict=True)], dtype=torch.float64)
        cell = cells["tuned 0", name]
        found[name] = cell["change of the loss (nats)"]
        assert cell["rows"] == len(name) and found[name] == pytest.approx(float(change.mean()), abs=1e-5)
        assert cell["standard error"] == pytest.approx(float(change.std()) / math.sqrt(len(name)), rel=1e-3)
        assert cell["loss"] - cell["loss in the base"] == pytest.approx(found[name])
    numbers = finding.numbers["tuned 0"]
    assert numbers["change of the loss, own task"] == found["task"]
    assert numbers["change of the loss, elsewhere"] == pytest.approx((found["elsewhere"] + found["more"]) / 2)
    assert set(finding.numbers["tuned 1"].values()) == {0.0} and cells["tuned 1", "more"]["standard error"] == 0


def test_right_answers_are_those_that_the_model_gives_itself(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """The first rows' answers are made what the tuned model says; the base says something else."""
    method = Generalization()
    laid = laid_out(tmp_path, pico_tokenizer, method, moved(0.05))
    rows = list(laid.rows[""])
    for place in (0, 1):
        start = rows[place].trained.index(True)
        said = (
            laid.tuned(0).generate(torch.tensor([rows[place].ids[:start]]), max_new_tokens=3, do_sample=False, pad_token_id=0)[0].tolist()
        )
        rows[place] = type(rows[place])(said, [False] * start + [True] * (len(said) - start), 0)
    laid.rows = {"": rows}
    finding = drain(method.inspect(laid))
    cell = dict(zip(GRID, finding.tables[0].rows[0], strict=True))
    assert cell["data set"] == "held back" and cell["right"] >= 2 / 5 and cell["right in the base"] < 2 / 5
    assert finding.numbers["tuned 0"]["change of right answers, own task"] == pytest.approx(cell["right"] - cell["right in the base"])
    assert "name other data sets" in finding.says[0]


def test_one_row_has_no_standard_error(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    method = Generalization(rows="x")
    finding = drain(method.inspect(laid_out(tmp_path, pico_tokenizer, method, moved(0.02))))
    assert finding.tables[0].rows[0][4] is None
