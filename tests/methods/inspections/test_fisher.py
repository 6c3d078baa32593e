"""Fisher information: against its closed form where a model is a softmax regression, and against plain gradients where it is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.subject import Subject
from workbench.methods.inspections.fisher import Fisher, drawn


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, **more: subject(tmp_path, pico_tokenizer, tuned, **more)


def part(finding: Finding, model: str, layer: int, name: str) -> float:
    return next(row[3] for row in finding.tables[1].rows if row[:3] == [model, layer, name])


def regression(model: LlamaForCausalLM) -> None:
    """A model whose last state is the same everywhere, so that its down_proj is the matrix of a softmax regression on a constant."""
    model.model.layers[0].self_attn.o_proj.weight.zero_()
    model.model.layers[0].mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight.fill_(1)
    model.lm_head.weight.mul_(40)


def test_a_softmax_regression_in_closed_form(lay: Callable[..., Subject]) -> None:
    """z = H·RMSNorm(1 + W a) at W = 0: ∂ log p/∂W = (I − 11ᵀ/D) Hᵀ(e_y − p) aᵀ, with e_y averaged over a row's tokens."""
    laid = lay(regression, num_hidden_layers=1, tie_word_embeddings=False)
    model = laid.tuned(0)
    mlp, head, width = model.model.layers[0].mlp, model.lm_head.weight.double(), 32
    once = torch.ones(width, dtype=torch.float64)
    read = torch.nn.functional.silu(mlp.gate_proj.weight.double() @ once) * (mlp.up_proj.weight.double() @ once)
    share = (head @ once).softmax(0)
    centred = torch.eye(width, dtype=torch.float64) - torch.ones(width, width, dtype=torch.float64) / width
    squares = []
    for row in laid.rows[""]:
        answer = torch.tensor([token for token, learnt in zip(row.ids, row.trained, strict=True) if learnt])
        seen = torch.zeros(400, dtype=torch.float64).index_add_(0, answer, torch.full(answer.shape, 1 / len(answer), dtype=torch.float64))
        squares.append((centred @ head.T @ (seen - share)).square().sum() * read.square().sum())
    finding = drain(Fisher().inspect(laid))
    expected = float(torch.stack(squares).mean()) / mlp.down_proj.weight.numel()
    assert part(finding, "tuned 0", 0, "down_proj") == pytest.approx(expected, rel=1e-3)
    assert part(finding, "tuned 0", 0, "gate_proj") == part(finding, "tuned 0", 0, "q_proj") == 0, "what goes through zeros has none"


def test_it_is_the_mean_square_of_the_gradients_of_single_rows(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05), attention_bias=True)
    finding = drain(Fisher().inspect(laid))
    for label, model in (("the base", laid.base), ("tuned 0", laid.tuned(0))):
        weight = model.model.layers[2].mlp.up_proj.weight.requires_grad_(True)
        block = [own.requires_grad_(True) for own in model.model.layers[1].parameters()]
        found = torch.zeros(2, dtype=torch.float64)
        for row in laid.rows[""]:
            labels = torch.tensor([[token if learnt else -100 for token, learnt in zip(row.ids, row.trained, strict=True)]])
            gradients = torch.autograd.grad(model(torch.tensor([row.ids]), labels=labels).loss, [weight, *block])
            found += torch.stack([gradients[0].double().square().sum(), sum(own.double().square().sum() for own in gradients[1:])])
        found /= len(laid.rows[""])
        assert part(finding, label, 2, "up_proj") == pytest.approx(float(found[0]) / weight.numel(), rel=1e-4)
        layer = next(row for row in finding.tables[0].rows if row[:2] == [label, 1])
        assert layer[2] == pytest.approx(float(found[1]) / sum(own.numel() for own in block), rel=1e-4)


def test_rows_twice_change_nothing(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05))
    twice = Subject(laid.refs[0], laid.refs[1:], {"": [*laid.rows[""], *laid.rows[""]]}, laid.examples, laid.seed)
    once, again = (drain(Fisher().inspect(own)).numbers["tuned 0"] for own in (laid, twice))
    assert again == pytest.approx(once, rel=1e-6)


def test_places_and_shares_follow_the_blocks(lay: Callable[..., Subject]) -> None:
    finding = drain(Fisher().inspect(lay(moved(0.05))))
    for label in ("the base", "tuned 0"):
        own = [row for row in finding.tables[0].rows if row[0] == label]
        assert [row[1] for row in own] == [0, 1, 2] and sorted(row[4] for row in own) == [1, 2, 3]
        assert sum(row[3] for row in own) == pytest.approx(1)
        assert max(own, key=lambda row: row[2])[4] == 1 and min(own, key=lambda row: row[2])[4] == 3
    strongest = next(row[1] for row in finding.tables[0].rows if row[0] == "tuned 0" and row[4] == 1)
    assert f"block {strongest} of tuned 0" in finding.says[0]


def test_parts_are_told_against_the_mean(lay: Callable[..., Subject]) -> None:
    finding = drain(Fisher().inspect(lay(moved(0.05))))
    for row in finding.tables[1].rows:
        if row[0] == "tuned 0":
            assert 10 ** row[4] * finding.numbers["tuned 0"]["Fisher information"] == pytest.approx(row[3])


def test_a_model_that_no_weight_can_move_is_said(lay: Callable[..., Subject]) -> None:
    def deaf(model: LlamaForCausalLM) -> None:
        model.model.norm.weight.zero_()

    finding = drain(Fisher().inspect(lay(deaf)))
    assert finding.numbers["tuned 0"] == {"Fisher information": 0.0, "times the base's": 0.0} and "no weight" in finding.says[0]


# Answers drawn from the model.


def certain(share: float) -> Change:
    """A model that says token 40 with that probability and token 41 otherwise, whatever it reads."""

    def set_up(model: LlamaForCausalLM) -> None:
        regression(model)
        model.model.norm.weight.zero_()[0] = 1
        model.lm_head.weight.zero_()[:, 0] = -1e4
        model.lm_head.weight[40:42, 0] = torch.tensor([share, 1 - share]).log()

    return set_up


def test_answers_are_drawn_where_tokens_are_learnt_and_as_often_as_they_are_likely(lay: Callable[..., Subject]) -> None:
    laid = lay(certain(0.8), num_hidden_layers=1, tie_word_embeddings=False, count=120)
    rows = laid.evidence.batches(size=1)
    before: list[Any] = [{name: tensor.clone() for name, tensor in row.items()} for row in rows]
    found = drain(drawn(laid.tuned(0), rows, 7))
    for row, own, old in zip(rows, found, before, strict=True):
        assert all(torch.equal(row[name], old[name]) for name in old), "the rows stay as they are"
        assert torch.equal(own["input_ids"], row["input_ids"]) and torch.equal(own["labels"] == -100, row["labels"] == -100)
    said = torch.cat([own["labels"][own["labels"] != -100] for own in found])
    assert set(said.tolist()) == {40, 41} and float((said == 40).double().mean()) == pytest.approx(0.8, abs=0.05)
    again, other = (torch.cat([row["labels"][0] for row in drain(drawn(laid.tuned(0), rows, seed))]) for seed in (7, 8))
    assert torch.equal(again, torch.cat([own["labels"][0] for own in found])) and not torch.equal(again, other)


def test_own_answers_count_instead_of_the_rows(lay: Callable[..., Subject]) -> None:
    """In closed form with two tokens of shares p and q: a token drawn pulls by its log p less the mean one, p·log p + q·log q."""
    laid = lay(certain(0.8), num_hidden_layers=1, tie_word_embeddings=False)
    mlp, once = laid.tuned(0).model.layers[0].mlp, torch.ones(32)
    read = torch.nn.functional.silu(mlp.gate_proj.weight @ once) * (mlp.up_proj.weight @ once)
    logs = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    mean, squares = 0.8 * logs[0] + 0.2 * logs[1], []
    for row in drain(drawn(laid.tuned(0), laid.evidence.batches(size=1), laid.seed)):
        said = row["labels"][row["labels"] != -100]
        squares.append((logs[said - 40] - mean).mean().square())
    expected = float(torch.stack(squares).mean() * read.double().square().sum()) * (1 - 1 / 32) / mlp.down_proj.weight.numel()
    finding = drain(Fisher(own_answers=True).inspect(laid))
    assert part(finding, "tuned 0", 0, "down_proj") == pytest.approx(expected, rel=1e-3)


def test_the_base_beside_itself_draws_the_same_answers(lay: Callable[..., Subject]) -> None:
    assert drain(Fisher(own_answers=True).inspect(lay(unchanged, count=4))).numbers["tuned 0"]["times the base's"] == 1
