"""Layer patching: a planted change in one layer is undone by that layer alone, and by its states from there on."""

from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.answered import judged
from workbench.methods.inspections.layer_patching import LayerPatching, restored, words_of

BATCH = {"input_ids": torch.arange(12).view(2, 6), "labels": torch.tensor([[-100, -100, -100, 3, 4, 5], [-100, 7, 8, 9, -100, -100]])}


def planted(layer: int, by: float = 0.3) -> object:
    def plant(model: LlamaForCausalLM) -> None:
        draw = torch.Generator().manual_seed(5)
        for parameter in model.model.layers[layer].parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))

    return plant


def found(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, *changes: object, **knobs: object) -> tuple[Finding, dict[str, Table]]:
    finding = drain(LayerPatching(**knobs).inspect(subject(tmp_path, tokenizer, changes, count=6)))
    return finding, {table.name: table for table in finding.tables}


def test_a_change_in_one_layer_is_undone_there_and_nowhere_else(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding, tables = found(tmp_path, pico_tokenizer, planted(1))
    layers = {tuple(row[1:3]): row[3] for row in tables["layers"].rows}
    assert [layers["this one", layer] for layer in range(3)] == pytest.approx([0, 1, 0], abs=1e-5)
    assert [layers["3 around it", layer] for layer in range(3)] == pytest.approx([1, 1, 1], abs=1e-5)
    states = {tuple(row[1:3]): row[3] for row in tables["states"].rows}
    assert [states["all", layer] for layer in range(3)] == pytest.approx([0, 1, 1], abs=1e-5)
    assert "layer 1 in place of the tuned one undoes 100%" in finding.says[0]


def test_neighbours_are_put_back_together_and_no_others(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    _, tables = found(tmp_path, pico_tokenizer, planted(0), window=2)
    layers = {tuple(row[1:3]): row[3] for row in tables["layers"].rows}
    assert [layers["2 around it", layer] for layer in range(3)] == pytest.approx([1, 1, 0], abs=1e-5)


def test_behind_the_last_layer_the_base_is_back_and_words_that_are_not_read_any_more_do_nothing(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    """What the last layer leaves at the question is read by nobody; its end and the answer say all that is said."""
    _, tables = found(tmp_path, pico_tokenizer, lambda model: [planted(layer)(model) for layer in range(3)])
    last = {row[1]: row[3] for row in tables["states"].rows if row[2] == 2}
    assert last["all"] == pytest.approx(1, abs=1e-5) and last["the question"] == pytest.approx(0, abs=1e-6)
    first = {row[1]: row[3] for row in tables["states"].rows if row[2] == 0}
    assert abs(first["the question"]) > 1e-3


def test_the_number_is_what_tuning_did_to_the_answers(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.05)], count=5)
    finding = drain(LayerPatching().inspect(laid))
    own, base = (torch.cat([judged(model, batch)[0] for batch in laid.evidence.batches("", 1)]) for model in (laid.tuned(0), laid.base))
    assert finding.numbers["tuned 0"]["what tuning did"] == pytest.approx(float((own - base).mean()), abs=1e-5)


def test_where_nothing_was_tuned_there_is_nothing_to_restore(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding, tables = found(tmp_path, pico_tokenizer, unchanged)
    assert "nothing to restore" in finding.says[0] and {row[3] for row in tables["states"].rows} == {None}


def test_what_is_undone_is_a_slope_to_which_rows_that_do_not_differ_add_nothing() -> None:
    change = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    assert restored(0.25 * change, change) == pytest.approx(0.25)
    assert restored(torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64), change) == pytest.approx(1)
    assert restored(change, 0 * change) is None


def test_the_words_are_told_from_where_the_answer_begins() -> None:
    told = {words: words_of(BATCH, words).int().tolist() for words in ("the question", "its end", "the answer", "all")}
    assert told["the question"] == [[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert told["its end"] == [[0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert told["the answer"] == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]
    assert all(all(row) for row in told["all"])


def test_the_model_is_as_it_was_between_two_steps_of_progress(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """A job that is stopped between two steps never comes back to take a patch away."""
    laid = subject(tmp_path, pico_tokenizer, [moved(0.05)], count=2)
    for _ in LayerPatching().inspect(laid):
        assert not any(module._forward_hooks for model in (laid.base, laid.tuned(0)) for module in model.modules())
