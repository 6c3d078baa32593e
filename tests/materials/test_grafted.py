"""Weights of the base in a tuned model: put in, taken out to the bit, ranked over the whole model; and the loss on rows."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from subjects import moved, subject, unchanged
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.method import find
from workbench.materials.grafted import Grafted, mean_loss
from workbench.materials.subject import Subject


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, **shape: subject(tmp_path, pico_tokenizer, tuned, **shape)


def states(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("tied", [True, False])
def test_with_all_weights_of_the_base_it_is_the_base_and_then_itself_again(lay: Callable[..., Subject], tied: bool) -> None:
    laid = lay(moved(0.05), tie_word_embeddings=tied)
    graft, batches = Grafted(laid, 0), laid.evidence.batches()
    before, own, base = states(graft.model), mean_loss(graft.model, batches), mean_loss(laid.base, batches)
    with graft.put(lambda name, base, own: base) as model:
        assert mean_loss(model, batches) == base != own
        assert all(torch.equal(tensor, laid.base.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in graft.model.state_dict().items())
    assert mean_loss(graft.model, batches) == own


def test_it_is_itself_again_after_a_mistake(lay: Callable[..., Subject]) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    before = states(graft.model)

    def spoilt(name: str, base: Tensor, own: Tensor) -> Tensor:
        if "norm" in name:
            raise ZeroDivisionError
        return base

    with pytest.raises(ZeroDivisionError), graft.put(spoilt):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in graft.model.state_dict().items())


def test_a_head_of_its_own_goes_back_to_the_embeddings_that_are_the_base_s_head(lay: Callable[..., Subject], tmp_path: Path) -> None:
    def parted(model: LlamaForCausalLM) -> None:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = nn.Parameter(model.lm_head.weight + 1)

    laid = lay(parted)
    graft, batches = Grafted(laid, 0), laid.evidence.batches()
    with graft.put(lambda name, base, own: base) as model:
        assert mean_loss(model, batches) == mean_loss(laid.base, batches)
    assert graft.count() == sum(parameter.numel() for parameter in laid.base.parameters()) + 400 * 32


@pytest.mark.parametrize("ranks", [[1], [1, 7, 500], [3000]])
def test_cuts_are_the_sizes_of_change_at_ranks_over_the_whole_model(lay: Callable[..., Subject], ranks: list[int]) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    every = torch.cat([(own - base).abs().flatten() for _, base, own in graft.pairs()]).sort(descending=True).values
    assert graft.cuts(ranks) == [float(every[rank - 1]) for rank in ranks]


def test_what_moved_is_counted(lay: Callable[..., Subject]) -> None:
    def few(model: LlamaForCausalLM) -> None:
        model.model.layers[0].mlp.up_proj.weight[:3, 0] += 1

    assert [Grafted(lay(change), 0).moved() for change in (few, unchanged)] == [3, 0]


def test_the_loss_is_the_mean_over_tokens_whatever_the_batches(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged)
    sums = tokens = 0.0
    for row in laid.rows[""]:
        labels = torch.tensor([token if learnt else -100 for token, learnt in zip(row.ids, row.trained, strict=True)])
        with torch.no_grad():
            logits = laid.base(torch.tensor([row.ids])).logits[0, :-1]
        sums += float(nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    for size in (1, 5, 100):
        assert mean_loss(laid.base, laid.evidence.batches(size=size)) == pytest.approx(sums / tokens, rel=1e-6)


@pytest.mark.parametrize("name", ["fisher", "intruder_removal", "layer_swap", "restoration", "skill_localisation"])
def test_who_exchanges_weights_lets_a_model_go_before_the_next_one_comes(lay: Callable[..., Subject], name: str) -> None:
    laid, alive = lay(moved(0.05), moved(0.05, seed=2)), list[weakref.ref[nn.Module]]()
    load = laid._loaded

    def loaded(place: int) -> nn.Module:
        gc.collect()
        assert sum(model() is not None for model in alive) <= 1, "the base alone"
        model = load(place)
        alive.append(weakref.ref(model))
        return model

    laid._loaded = loaded  # type: ignore[method-assign,assignment]
    drain(find("inspections", name)().inspect(laid))
    assert len(alive) == 3


def test_a_model_with_modules_beside_its_own_is_refused(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged)
    laid.tuned(0).model.layers[0].add_module("beside", nn.Linear(2, 2))
    with pytest.raises(WorkbenchError, match="beside"):
        Grafted(laid, 0)


def test_a_base_with_more_weights_is_refused(lay: Callable[..., Subject]) -> None:
    laid = lay(unchanged)
    laid.base.model.layers[0].add_module("beside", nn.Linear(2, 2))
    with pytest.raises(WorkbenchError, match="tuned from this base"):
        Grafted(laid, 0)
