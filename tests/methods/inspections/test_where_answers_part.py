"""Where answers part: at the first token where greedy answers differ, decided in the layer that was planted."""

from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.methods.inspections.where_answers_part import Parting, WhereAnswersPart, settled


def greedy(model: PreTrainedModel, prompt: list[int], most: int) -> list[int]:
    return model.generate(torch.tensor([prompt]), max_new_tokens=most, do_sample=False, pad_token_id=0)[0, len(prompt) :].tolist()


def test_they_part_where_their_greedy_answers_differ_first(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.002)], count=10, tie_word_embeddings=False)
    finding = drain(WhereAnswersPart(most_tokens=8).inspect(laid))
    told = {row[1]: row for table in finding.tables if table.name == "where they part" for row in table.rows}
    expected, found = {}, {}
    for number, row in enumerate(laid.rows[""], start=1):
        prompt = row.ids[: row.trained.index(True)]
        own, base = (greedy(model, prompt, 8) for model in (laid.tuned(0), laid.base))
        place = next((place for place, (one, other) in enumerate(zip(own, base, strict=False)) if one != other), None)
        if place is not None:
            expected[number] = [place + 1, pico_tokenizer.decode(own[place]), pico_tokenizer.decode(base[place])]
            found[number] = [told[number][6], told[number][4], told[number][5]]
    assert found == expected and len(told) == len(expected) > 0
    assert len({row[6] for row in told.values()}) > 1, "not all part at the first token"
    assert finding.numbers["tuned 0"]["answers that part"] == len(expected) / 10


def test_the_layer_that_was_tuned_decides(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """The tuned model and the base are one up to there, so neither can prefer its own word before."""

    def last_block(model: LlamaForCausalLM) -> None:
        weight = model.model.layers[2].mlp.down_proj.weight
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))

    laid = subject(tmp_path, pico_tokenizer, [last_block], count=8)
    finding = drain(WhereAnswersPart().inspect(laid))
    tables = {table.name: table for table in finding.tables}
    by_layer = {(row[0], row[1]): row[2:] for row in tables["by layer"].rows}
    base = "base, where tuned 0 differs"
    for layer in (0, 1):
        assert by_layer["tuned 0", layer][:2] == pytest.approx(by_layer[base, layer][:2], abs=1e-4)
    assert by_layer["tuned 0", 2][0] == 1 and by_layer[base, 2][0] == 0
    for row in tables["where they part"].rows:
        assert max(row[7], row[8]) == 2
    assert sum(by_layer["tuned 0", layer][2] for layer in range(3)) == len(tables["where they part"].rows)


def test_two_that_say_the_same_never_part(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding = drain(WhereAnswersPart().inspect(subject(tmp_path, pico_tokenizer, [unchanged], count=3)))
    assert finding.tables == [] and finding.numbers["tuned 0"] == {"answers that part": 0.0}
    assert "as the base does" in finding.says[0]


def test_an_answer_that_ends_for_both_is_over_and_so_is_the_context(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.002)], count=10, tie_word_embeddings=False)
    prompts = [row.ids[: row.trained.index(True)] for row in laid.rows[""]]
    partings = {number: parting for number, prompt in enumerate(prompts) if (parting := _parted(laid, prompt, None))}
    late = next(number for number, parting in partings.items() if parting.common)
    assert _parted(laid, prompts[late], partings[late].common[0]) is None, "its first token ends the answer"
    for model in (laid.base, laid.tuned(0)):
        model.config.max_position_embeddings = len(prompts[late])
    assert _parted(laid, prompts[late], None) is None


def _parted(laid: object, prompt: list[int], end: int | None) -> Parting | None:
    return WhereAnswersPart()._parted(laid.tuned(0), laid.base, prompt, end)  # type: ignore[attr-defined]


def test_it_is_settled_from_where_it_holds_to_the_end() -> None:
    assert [settled(torch.tensor(holds)) for holds in ([True, False, True, True], [True, True], [True, False])] == [2, 0, 2]
