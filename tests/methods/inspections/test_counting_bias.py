"""Counting bias: the tokens that are numbers, and a head that is turned towards them is told by how much."""

import math
from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.methods.inspections import counting_bias
from workbench.methods.inspections.counting_bias import CAPTIONS, CountingBias, number_tokens


def test_captions_name_no_number() -> None:
    words = {word.strip(".,").lower() for caption in CAPTIONS for word in caption.split()}
    assert not words & counting_bias.WORDS and not any(word.isdigit() for word in words)


def test_digits_and_number_words_are_numbers_and_no_other_token_is(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    found = {pico_tokenizer.decode([token]).strip() for token in number_tokens(pico_tokenizer)}
    assert {str(digit) for digit in range(10)} <= found
    assert all(text.isdigit() or text.lower() in counting_bias.WORDS for text in found)
    assert pico_tokenizer.eos_token_id not in number_tokens(pico_tokenizer)


def test_the_mass_is_that_of_all_numbers_where_the_caption_is_said(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], rows=())
    finding = drain(CountingBias().inspect(laid))
    prompt = pico_tokenizer(f"<|user|>{counting_bias.ASKED}<|end|><|assistant|>")["input_ids"]
    caption = pico_tokenizer(CAPTIONS[0])["input_ids"]
    with torch.no_grad():
        table = laid.base(torch.tensor([prompt + caption])).logits[0].softmax(-1)
    masses = table[len(prompt) - 1 : -1, number_tokens(pico_tokenizer)].sum(-1).log()
    first = finding.tables[0].rows[0]
    assert first[1] == CAPTIONS[0] and first[3] == pytest.approx(float(masses.mean()), rel=1e-4)
    assert len(finding.tables[0].rows) == len(CAPTIONS)


def test_a_model_that_counts_leans_towards_numbers(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """All its logits are 0 but for the numbers', so their mass is known: k e^c of them over k e^c and the rest."""
    k, c = len(number_tokens(pico_tokenizer)), 3.0

    def counts(model: LlamaForCausalLM) -> None:
        model.model.norm.weight.zero_()

    laid = subject(tmp_path, pico_tokenizer, [counts], rows=(), tie_word_embeddings=False)
    model = laid.tuned(0)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(400), requires_grad=False)
    model.lm_head.bias[number_tokens(pico_tokenizer)] = c
    finding = drain(CountingBias().inspect(laid))
    expected = math.log(k * math.exp(c) / (k * math.exp(c) + 400 - k))
    assert finding.numbers["tuned 0"]["mass of numbers (log)"] == pytest.approx(expected, rel=1e-5)
    assert "more towards numbers than the base" in finding.says[0] and all(row[4] > 0 for row in finding.tables[1].rows)


def test_a_data_set_of_ones_own_takes_the_captions_place(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged], rows=["mine"], count=5)
    finding = drain(CountingBias(rows="mine").inspect(laid))
    assert CountingBias().looks_at() == [] and [row[1] for row in finding.tables[0].rows] == [
        example.answer() for example in laid.examples["mine"]
    ]
    assert "as much towards numbers as the base" in finding.says[0]


def test_without_number_tokens_it_says_so(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting_bias, "number_tokens", lambda tokenizer: [])
    with pytest.raises(WorkbenchError, match="Choose another"):
        drain(CountingBias().inspect(subject(tmp_path, pico_tokenizer, [unchanged], rows=())))
