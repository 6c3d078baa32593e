"""Walking between blocks: the two parts make up the tuned model, nothing of them leaves the base, and no hook stays behind."""

from collections.abc import Callable

import pytest
import torch
from pico import make_model
from test_every_family import FAMILIES
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.models import blocks, head_logits, hidden_states
from workbench.materials.walking import alongside, left_by_blocks, lens, paired, replacing

IDS = torch.tensor([[3, 5, 7, 9, 11, 13], [2, 4, 6, 8, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}


@torch.no_grad()
def pair(family: str = "llama") -> tuple[PreTrainedModel, PreTrainedModel]:
    """A tuned model, and the base: other blocks, the same embeddings, final norm and head."""
    made = []
    for by in (0.1, 0.0):
        torch.manual_seed(0)
        model = make_model() if family == "llama" else FAMILIES[family]().eval()
        torch.manual_seed(1)
        for block in blocks(model):
            for parameter in block.parameters():
                parameter.add_(by * torch.randn(parameter.shape))
        made.append(model)
    return made[0], made[1]


@torch.no_grad()
def said(model: PreTrainedModel, batch: dict[str, Tensor] = BATCH) -> Tensor:
    return head_logits(model, hidden_states(model, batch))[batch["attention_mask"].bool()]


def steered(amount: float) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
    return lambda layer, before, own, other: other + amount * (own - other)


@pytest.mark.parametrize("family", ["llama", *FAMILIES])
def test_all_of_tuning_is_the_tuned_model_and_none_of_it_the_base(family: str) -> None:
    tuned, base = pair(family)
    with alongside(tuned, base, steered(1)):
        torch.testing.assert_close(said(tuned), plain := tuned_alone(family))
    with alongside(tuned, base, steered(0)):
        torch.testing.assert_close(said(tuned), said(base), rtol=0, atol=0)
    with alongside(tuned, base, lambda layer, before, own, other: None):
        assert torch.equal(said(tuned), plain)
    assert not torch.allclose(plain, said(base), atol=1e-2)


def tuned_alone(family: str) -> Tensor:
    return said(pair(family)[0])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_both_blocks_are_asked_about_the_same_state_and_what_they_add_makes_up_the_way(family: str) -> None:
    tuned, base = pair(family)
    reads, adds = list[Tensor](), list[Tensor]()

    def meet(layer: int, before: Tensor, own: Tensor, other: Tensor) -> None:
        assert layer == len(reads)
        reads.append(before)
        adds.extend([other - before, own - other])

    with alongside(tuned, base, meet):
        said(tuned)
    left = left_by_blocks(tuned, BATCH)
    for before, after in zip(reads[1:], left[:-1], strict=True):
        assert torch.equal(before, after)
    torch.testing.assert_close(reads[0] + sum(adds), left[-1])


def test_other_blocks_than_those_that_are_named_are_not_asked() -> None:
    tuned, base = pair()
    asked = list[int]()
    with alongside(tuned, base, lambda layer, before, own, other: asked.append(layer), layers=[1]):
        said(tuned)
    assert asked == [1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_token_by_token_with_two_memories_is_the_same_as_all_at_once(family: str) -> None:
    tuned, base = pair(family)
    ids = IDS[:1]
    with alongside(tuned, base, steered(0.5)), torch.no_grad():
        whole = tuned(input_ids=ids, use_cache=False).logits
    own: Cache = DynamicCache(config=tuned.config)
    others: Cache = DynamicCache(config=base.config)
    with alongside(tuned, base, steered(0.5), memory=others), torch.no_grad():
        parts = [tuned(input_ids=part, past_key_values=own, use_cache=True).logits for part in ids.split([3, 1, 2], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert own.get_seq_length() == others.get_seq_length() == ids.shape[1]


def test_the_states_of_a_row_do_not_depend_on_its_neighbours() -> None:
    tuned, _ = pair()
    alone = left_by_blocks(tuned, {name: tensor[1:, :4] for name, tensor in BATCH.items()})
    for among, own in zip(left_by_blocks(tuned, BATCH), alone, strict=True):
        torch.testing.assert_close(among[1:, :4], own)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_states_that_are_put_in_place_are_what_the_next_block_reads(family: str) -> None:
    tuned, base = pair(family)
    everywhere = torch.ones_like(IDS, dtype=torch.bool)
    plain, states = said(tuned), left_by_blocks(base, BATCH)
    for own in ({}, {1: left_by_blocks(tuned, BATCH)[1]}):
        with replacing(tuned, own, everywhere):
            assert torch.equal(said(tuned), plain), "nothing, or its own state"
    with replacing(tuned, {1: states[1]}, ~everywhere):
        assert torch.equal(said(tuned), plain), "nowhere"
    last = len(states) - 1
    with replacing(tuned, {last: states[last]}, everywhere):
        assert torch.equal(said(tuned), said(base)), "behind the last block stands what both share"
    with replacing(tuned, {0: states[0]}, everywhere):
        mixed = left_by_blocks(tuned, BATCH)
    x = states[0]
    assert torch.equal(mixed[0], x) and not torch.allclose(mixed[1], left_by_blocks(tuned, BATCH)[1])


@pytest.mark.parametrize("family", ["llama", *FAMILIES])
def test_the_lens_ends_with_what_the_head_reads_and_begins_with_the_first_block_behind_the_final_norm(family: str) -> None:
    model, _ = pair(family)
    seen = lens(model, BATCH)
    assert seen.shape[:3] == (len(blocks(model)), *IDS.shape)
    with torch.no_grad():
        torch.testing.assert_close(seen[-1], hidden_states(model, BATCH))
    if family in ("llama", "gpt2"):
        norm = model.model.norm if family == "llama" else model.transformer.ln_f
        torch.testing.assert_close(seen[0], norm(left_by_blocks(model, BATCH)[0]))


def test_models_of_another_depth_or_width_are_refused_and_a_mistake_leaves_no_hook() -> None:
    tuned, base = pair()
    for other in (make_model(num_hidden_layers=2), make_model(hidden_size=16, intermediate_size=16)):
        with pytest.raises(WorkbenchError, match="layer by layer"):
            paired(tuned, other, "the tuned one")

    def fails(layer: int, before: Tensor, own: Tensor, other: Tensor) -> Tensor:
        raise KeyError(layer)

    with pytest.raises(KeyError), alongside(tuned, base, fails):
        said(tuned)
    lens(tuned, BATCH)
    assert not any(module._forward_hooks for model in (tuned, base) for module in model.modules())
