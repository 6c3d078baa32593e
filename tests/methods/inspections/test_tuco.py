"""TuCo: worked by hand on a Llama, 1 where the base's blocks are silent, 1/2 where they are undone, and the same in any company."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from subjects import moved, subject
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.models import hidden_states
from workbench.methods.inspections.tuco import TuCo, contributions

IDS = torch.tensor([[3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 0, 0]])
MASK = (IDS > 0).long()
LABELS = torch.where((torch.arange(7) >= 4) & (IDS > 0), IDS, -100)
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}


@torch.no_grad()
def silenced(model: LlamaForCausalLM) -> None:
    """No block adds anything."""
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()


@torch.no_grad()
def tuned(by: float = 0.02) -> LlamaForCausalLM:
    model = make_model()
    moved(by)(model)
    return model


def made_silent() -> LlamaForCausalLM:
    model = make_model()
    silenced(model)
    return model


@torch.no_grad()
def by_hand(own: LlamaForCausalLM, base: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(T, D) each: what the base's blocks add along the tuned model's way through one row, and what tuning adds."""
    x = own.model.embed_tokens(ids)
    turn = own.model.rotary_emb(x, torch.arange(ids.shape[1])[None])
    pretrained, tuning = torch.zeros_like(x), torch.zeros_like(x)
    for one, other in zip(own.model.layers, base.model.layers, strict=True):
        after, without = (block(x, position_embeddings=turn) for block in (one, other))
        pretrained, tuning, x = pretrained + without - x, tuning + after - without, after
    return pretrained[0], tuning[0]


def test_it_is_what_the_definition_says() -> None:
    own, base = tuned(), make_model()
    found, norms = contributions(own, base, BATCH)
    expected = []
    for row, length in ((0, 7), (1, 5)):
        ptc, ftc = by_hand(own, base, IDS[row : row + 1, :length])
        expected += [float(ftc[place].norm() / (ptc[place].norm() + ftc[place].norm())) for place in range(3, length - 1)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert norms.shape == (2, 3, len(expected)) and all(0 < share < 1 for share in found.tolist())


def test_a_row_says_the_same_alone() -> None:
    own, base = tuned(), make_model()
    among, _ = contributions(own, base, BATCH)
    alone, _ = contributions(own, base, {name: tensor[1:, :5] for name, tensor in BATCH.items()})
    torch.testing.assert_close(among[-1:], alone)


def test_all_is_tunings_where_the_base_adds_nothing_and_half_where_the_base_is_undone() -> None:
    assert contributions(tuned(), made_silent(), BATCH)[0].tolist() == pytest.approx([1.0] * 4)
    assert contributions(made_silent(), make_model(), BATCH)[0].tolist() == pytest.approx([0.5] * 4)
    assert contributions(made_silent(), made_silent(), BATCH)[0].tolist() == [0.0] * 4


def test_other_embeddings_or_another_head_are_no_tuning_of_the_blocks() -> None:
    other = make_model()
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(1.5)
        other.model.norm.weight.mul_(2)
    assert contributions(other, make_model(), BATCH)[0].tolist() == [0.0] * 4
    assert not torch.allclose(hidden_states(other, BATCH), hidden_states(make_model(), BATCH))


def test_it_names_the_layer_and_the_rows(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def second_block(model: LlamaForCausalLM) -> None:
        model.model.layers[1].mlp.down_proj.weight.mul_(3)

    laid = subject(tmp_path, pico_tokenizer, [second_block], count=10)
    finding = drain(TuCo().inspect(laid))
    tables = {table.name: table for table in finding.tables}
    assert "largest in layer 1 " in finding.says[0]
    assert [row[2] > 0 for row in tables["by layer"].rows] == [False, True, False]
    rows = tables["by row"].rows
    assert len(rows) == 10 and rows[0][2] == laid.examples[""][0].question()
    assert finding.numbers["tuned 0"]["TuCo"] == pytest.approx(sum(row[4] for row in rows) / 10)
    first = tables["by place"].rows[0]
    assert first[1] == 1 and first[2] == pytest.approx(finding.numbers["tuned 0"]["TuCo"])
    adds = []
    for number, batch in enumerate(laid.evidence.batches("", 1)):
        own, norms = contributions(laid.tuned(0), laid.base, batch)
        assert rows[number][4:] == pytest.approx([float(own[0]), float(own.mean())], rel=1e-4)
        adds.append(norms[:, 1, 0])
    base, tuning = torch.stack(adds).mean(0).tolist()
    assert tables["by layer"].rows[1][2:] == pytest.approx([tuning, base, tuning / (tuning + base)], rel=1e-4)


def test_a_model_with_more_layers_is_refused(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.01)])
    laid._last = 0, make_model(num_hidden_layers=4)
    with pytest.raises(WorkbenchError, match=r"tuned 0 has 4 blocks.*choose"):
        drain(TuCo().inspect(laid))
