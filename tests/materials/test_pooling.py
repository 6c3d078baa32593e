"""Vectors of texts: padding and neighbours change nothing, each pooling weighs the tokens it says, and summaries let the end be heard."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials import pooling
from workbench.materials.models import hidden_states
from workbench.materials.pooling import pooled, summarised

HOWS = ["mean", "weighted", "last", "htp"]
LENGTHS = [7, 1, 19, 12]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    if request.param == "llama":
        return make_model()
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=3, n_head=4, n_positions=128)).eval()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary for every 4 tokens, so that short rows have several and rows differ in how many."""
    monkeypatch.setattr(pooling, "STRETCH", 4)
    monkeypatch.setattr(pooling, "MOST", 4)


def padded(rows: list[Tensor], width: int = 0) -> dict[str, Tensor]:
    width = width or max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    return {"input_ids": ids, "attention_mask": torch.stack([(torch.arange(width) < len(row)).long() for row in rows])}


ROWS = [torch.randint(2, 400, (length,), generator=torch.Generator().manual_seed(length)) for length in LENGTHS]


@pytest.mark.parametrize("how", HOWS)
def test_padding_and_neighbours_change_nothing(model: PreTrainedModel, how: str) -> None:
    together, wider = pooled(model, padded(ROWS), how), pooled(model, padded(ROWS, 31), how)
    apart = torch.cat([pooled(model, padded([row]), how) for row in ROWS])
    assert together.shape == (4, 32) and together.dtype == torch.float32
    assert torch.allclose(together, apart, atol=1e-5) and torch.allclose(wider, apart, atol=1e-5)
    assert torch.allclose(together.norm(dim=-1), torch.ones(4))


def test_each_weighs_the_tokens_it_says(model: PreTrainedModel) -> None:
    row = ROWS[0]
    states = hidden_states(model, padded([row]))[0].detach()
    expected = {"mean": states.mean(0), "weighted": (states * torch.arange(1, 8)[:, None]).sum(0), "last": states[-1]}
    for how, vector in expected.items():
        assert torch.allclose(pooled(model, padded([row, ROWS[2]]), how)[0], vector / vector.norm(), atol=1e-5)
    assert len({tuple(pooled(model, padded([row]), how)[0].tolist()) for how in HOWS}) == 4


def test_no_summaries_are_the_plain_mean(model: PreTrainedModel) -> None:
    batch = padded(ROWS)
    states = summarised(model, batch, torch.zeros(4, dtype=torch.int64))
    there = batch["attention_mask"].bool()
    assert torch.allclose(states[there], hidden_states(model, batch)[there], atol=1e-5)


@torch.no_grad()
def test_with_summaries_the_first_token_hears_of_the_last(model: PreTrainedModel) -> None:
    row, other = ROWS[2], ROWS[2].clone()
    other[-1] = 399 - other[-1]
    heard = [
        (summarised(model, padded([row]), torch.tensor([count])) - summarised(model, padded([other]), torch.tensor([count])))[0, 0]
        .norm()
        .item()
        for count in (0, 1, 4)
    ]
    assert heard[0] < 1e-5 and heard[1] > 1e-2 and heard[2] > 1e-3


@torch.no_grad()
def test_a_summary_is_the_state_of_the_last_token_of_its_stretch(model: PreTrainedModel) -> None:
    """The second block of a row of two stretches is given the first block's states at the ends of both, in the places before it."""
    seen = list[Tensor]()
    second = pooling.blocks(model)[1]
    handle = second.register_forward_pre_hook(
        lambda _, given, named: seen.append((given or (named["hidden_states"],))[0]), with_kwargs=True
    )
    summarised(model, padded([ROWS[0], ROWS[3]]), torch.tensor([2, 3]))
    handle.remove()
    (states,) = seen
    assert torch.equal(states[0, :2], states[0, [3 + 2, 3 + 6]]), "of seven tokens the third and the last"
    assert torch.equal(states[1, :3], states[1, [3 + 3, 3 + 7, 3 + 11]])


def test_nothing_is_left_on_the_model_and_long_rows_have_more_summaries(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Tensor]()
    before = hidden_states(model, padded(ROWS))
    pooled(model, padded(ROWS), "htp")
    assert torch.equal(hidden_states(model, padded(ROWS)), before)
    monkeypatch.setattr(pooling, "summarised", lambda model, batch, counts: asked.append(counts) or before)
    pooled(model, padded(ROWS), "htp")
    assert asked[0].tolist() == [2, 1, 4, 3], "one for every four tokens, and no more than four"


def test_a_model_without_blocks_is_told_so(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "blocks", lambda model: [])
    with pytest.raises(
        WorkbenchError, match=r"^(GPT2LMHeadModel|LlamaForCausalLM) does not name its blocks .* Choose another pooling, such as weighted"
    ):
        pooled(model, padded(ROWS), "htp")
    assert pooled(model, padded(ROWS), "weighted").shape == (4, 32)
