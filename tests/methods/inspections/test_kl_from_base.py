"""KL from the base: against two distributions over two tokens written by hand, and which token is blamed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.materials.subject import Subject
from workbench.methods.inspections.kl_from_base import KLFromBase

EITHER, OR = 40, 41  # two tokens


def of_two(share: float) -> Change:
    """A model that says one of two tokens whatever it reads, the first with that probability."""

    def set_up(model: LlamaForCausalLM) -> None:
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1)  # each token is (1, 1, …), which the last norm turns into (1, 0, …)
        model.model.norm.weight.zero_()[0] = 1
        model.lm_head.weight.zero_()[:, 0] = -1e4
        model.lm_head.weight[EITHER, 0], model.lm_head.weight[OR, 0] = math.log(share), math.log(1 - share)

    return set_up


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    """The first model is the base."""

    def build(*models: Change) -> Subject:
        whole = subject(tmp_path, pico_tokenizer, models, tie_word_embeddings=False)
        tuned = [replace(ref, label="tuned") for ref in whole.refs[2:]]
        return Subject(whole.refs[1], tuned, whole.rows, whole.examples, seed=0)

    return build


@pytest.mark.parametrize(("base", "own"), [(0.5, 0.5), (0.5, 0.9), (0.9, 0.2)])
def test_two_tokens_by_hand(lay: Callable[..., Subject], base: float, own: float) -> None:
    def kl(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    found = drain(KLFromBase().inspect(lay(of_two(base), of_two(own)))).numbers["tuned"]
    assert found == pytest.approx({"KL from the base": kl(base, own), "KL to the base": kl(own, base)}, abs=1e-6)


def test_the_two_directions_change_places_with_the_models(lay: Callable[..., Subject]) -> None:
    forth = drain(KLFromBase().inspect(lay(unchanged, moved(0.05)))).numbers["tuned"]
    back = drain(KLFromBase().inspect(lay(moved(0.05), unchanged))).numbers["tuned"]
    assert forth["KL from the base"] == pytest.approx(back["KL to the base"], rel=1e-6)
    assert forth["KL to the base"] == pytest.approx(back["KL from the base"], rel=1e-6)
    assert 0 < forth["KL to the base"] != pytest.approx(forth["KL from the base"], rel=1e-6)


def test_a_row_is_read_alike_alone_and_among_longer_ones(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged, moved(0.05))
    whole = drain(KLFromBase().inspect(laid)).numbers["tuned"]["KL from the base"]
    sums = tokens = 0.0
    for row in laid.rows[""]:
        with torch.no_grad():
            base, own = (model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1) for model in (laid.base, laid.tuned(0)))
        learnt = torch.tensor(row.trained[1:])
        sums += float(((base.exp() * (base - own)).sum(-1)[:-1] * learnt).sum())
        tokens += int(learnt.sum())
    assert whole == pytest.approx(sums / tokens, rel=1e-5)


def test_places_make_up_the_mean_and_the_tokens_come_with_the_farthest_first(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged, moved(0.05))
    finding = drain(KLFromBase().inspect(laid))
    places, tokens = finding.tables
    lengths = [sum(row.trained[1:]) for row in laid.rows[""]]
    weights = [sum(length > place for length in lengths) for place in range(max(lengths))]
    assert [row[1] for row in places.rows] == list(range(1, max(lengths) + 1))
    whole = sum(weight * row[2] for weight, row in zip(weights, places.rows, strict=True)) / sum(weights)
    assert finding.numbers["tuned"]["KL from the base"] == pytest.approx(whole)
    found = [row[3] for row in tokens.rows]
    assert found == sorted(found, reverse=True) and found[0] >= max(row[2] for row in places.rows)


def test_what_stands_before_a_token_that_moved_is_what_the_row_says(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged, moved(0.05))
    texts: list[Any] = [laid.tokenizer.decode(row.ids) for row in laid.rows[""]]
    for row in drain(KLFromBase().inspect(laid)).tables[1].rows:
        assert any(row[2] + row[1] in text for text in texts)
