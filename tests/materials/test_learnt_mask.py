"""The learnt mask: its ends to the bit, its step by hand, and a skill that little movement carries and much movement hides."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.materials.chance import uniform
from workbench.materials.evidence import surprise
from workbench.materials.grafted import Grafted, mean_loss
from workbench.materials.learnt_mask import BIAS, Learning, Mask, learnt, most_moved
from workbench.materials.packing import pad
from workbench.materials.subject import Subject

NORM = "model.norm.weight"


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Subject]:
    return lambda *tuned, **shape: subject(tmp_path, pico_tokenizer, tuned, **shape)


def hidden_skill(laid: Subject) -> Change:
    """The last norm, 32 numbers, tuned on the rows; and the embeddings of words that no row has, moved much further."""
    batch = pad(laid.rows[""], 0)
    unread = torch.ones(400, dtype=torch.bool)
    unread[batch["input_ids"].unique()] = False

    def tune(model: LlamaForCausalLM) -> None:
        norm = model.model.norm.weight
        with torch.enable_grad():
            for _ in range(20):
                norm.data -= 50 * torch.autograd.grad(model(**batch).loss, norm)[0]
        own = model.model.embed_tokens.weight
        own[unread] += 100 * torch.rand(own[unread].shape, generator=torch.Generator().manual_seed(1))

    return tune


def all_moved(graft: Grafted) -> Mask:
    return Mask({name: (own != base).flatten().nonzero()[:, 0] for name, base, own in graft.pairs()})


# A mask.


def test_of_nothing_it_is_the_base_and_of_all_the_tuned_model_to_the_bit(lay: Callable[..., Subject]) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    before = {name: own.clone() for name, _, own in graft.pairs()}
    with graft.put(Mask({}).put):
        assert all(torch.equal(own, base) for _, base, own in graft.pairs())
    with graft.put(all_moved(graft).put):
        assert all(torch.equal(own, before[name]) for name, _, own in graft.pairs())


def test_it_takes_exactly_its_numbers_and_says_what_they_change(lay: Callable[..., Subject]) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    mask = Mask({NORM: torch.tensor([0, 7, 31]), "model.layers.1.mlp.up_proj.weight": torch.tensor([5])})
    with graft.put(mask.put):
        different = {name: (own != base).flatten().nonzero()[:, 0].tolist() for name, base, own in graft.pairs()}
    assert {name: places for name, places in different.items() if places} == {name: own.tolist() for name, own in mask.places.items()}
    deltas, pairs = mask.deltas(graft), {name: (base, own) for name, base, own in graft.pairs()}
    assert len(mask) == 4 and deltas.keys() == mask.places.keys()
    base, own = pairs[NORM]
    assert torch.equal(deltas[NORM][1], (own - base)[[0, 7, 31]])


def test_masks_share_what_both_take() -> None:
    one, other = Mask({"a": torch.tensor([1, 4, 9]), "b": torch.tensor([2])}), Mask({"a": torch.tensor([4, 9, 10]), "c": torch.tensor([2])})
    assert one.shared(other) == other.shared(one) == 2 and one.shared(one) == 4
    assert one == Mask(dict(one.places)) and one != other and one != Mask({"a": one.places["a"]})


@pytest.mark.parametrize("many", [0, 1, 5, 40])
def test_the_most_moved_are_exactly_so_many_though_some_moved_alike(lay: Callable[..., Subject], many: int) -> None:
    def steps(model: LlamaForCausalLM) -> None:
        model.model.norm.weight[:20] += torch.arange(20).div(4, rounding_mode="floor") + 1
        model.model.layers[0].mlp.up_proj.weight[0, :30] += 2

    mask = most_moved(graft := Grafted(lay(steps), 0), many)
    sizes = torch.cat([(own - base).abs().flatten() for _, base, own in graft.pairs()]).sort(descending=True).values
    taken = [(own - base).abs().flatten()[mask.places[name]] for name, base, own in graft.pairs()]
    assert len(mask) == many and torch.allclose(torch.cat(taken).sort(descending=True).values, sizes[:many])


# How it is learnt.


def test_a_step_by_hand(lay: Callable[..., Subject]) -> None:
    """Every score moves by −rate·(1 − 2b)·(∇L ⊙ τ)·σ′(S − 10), the gradient taken at θ₀ + γ⊙τ; what began taken the other way."""
    laid = lay(moved(0.05))
    graft, batch, rate = Grafted(laid, 0), laid.evidence.batches()[0], 3e4
    start = most_moved(graft, graft.count() // 2)
    pairs = {name: (base.clone(), own.clone()) for name, base, own in graft.pairs()}
    scores = {name: uniform(5, name, 0, base.shape) + 9 for name, (base, _) in pairs.items()}  # where σ′ and σ are not alike
    begun = {name: start.of(name, base).float() for name, (base, _) in pairs.items()}
    soft = {name: (scores[name] - 10).sigmoid() for name in pairs}
    gamma = {name: begun[name] + (1 - 2 * begun[name]) * soft[name] for name in pairs}
    model = graft.model
    learning = Learning(graft, start, rate, 5)
    for own in learning._scores.values():
        own += 9
    drain(learning.step(batch))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, pairs[name][1]) and not parameter.requires_grad and parameter.grad is None
        base, own = pairs[name]
        parameter.data = base + gamma[name] * (own - base)
        parameter.requires_grad_(True)
    with torch.enable_grad():
        surprise(model, batch).backward()
    for name, parameter in model.named_parameters():
        base, own = pairs[name]
        slope = parameter.grad * (own - base) * soft[name] * (1 - soft[name])
        expected = scores[name] - rate * (1 - 2 * begun[name]) * slope
        assert torch.allclose(learning._scores[name], expected, rtol=1e-3, atol=1e-4), name
    assert float((learning._scores[NORM] - scores[NORM]).abs().max()) > 1e-3


def test_it_begins_with_what_moved_most_and_a_score_of_ten_flips_a_number(lay: Callable[..., Subject]) -> None:
    graft = Grafted(lay(moved(0.05)), 0)
    learning = Learning(graft, begun := most_moved(graft, 100), 1e7, 0)
    assert learning.mask() == begun
    place = int(begun.places[NORM][0]) if len(begun.places[NORM]) else 3
    learning._scores[NORM].view(-1)[place] = BIAS
    assert len(learning.mask()) == 100 + (1 if place not in begun.places[NORM].tolist() else -1)


def test_a_skill_that_moved_little_is_found_where_noise_moved_much(lay: Callable[..., Subject]) -> None:
    """Movement takes embeddings that nobody reads; the mask is learnt into the norm, and with it almost all is gained."""
    laid = lay(hidden_skill(lay(unchanged, tie_word_embeddings=False)), tie_word_embeddings=False)
    graft, batches = Grafted(laid, 0), laid.evidence.batches()
    mask = drain(learnt(Learning(graft, most_moved(graft, 4), 1e7, 0), batches, batches, 10))
    with graft.put(mask.put) as model:
        own = mean_loss(model, batches)
    with graft.put(most_moved(graft, len(mask)).put) as model:
        movement = mean_loss(model, batches)
    base, tuned = mean_loss(laid.base, batches), mean_loss(graft.model, batches)
    assert base - tuned > 0.1 and movement == base
    assert base - own > 0.9 * (base - tuned)
    assert 0 < len(mask.places[NORM]) <= 32 and len(mask) <= 40


def test_the_best_of_all_passes_is_kept_by_all_rows_and_the_start_is_one_of_them(lay: Callable[..., Subject]) -> None:
    laid = lay(moved(0.05))
    batches, graft = laid.evidence.batches(), Grafted(laid, 0)
    begun = most_moved(graft, 100)
    worse = Learning(graft, begun, -1e7, 0)  # a rate that goes uphill
    assert drain(learnt(worse, batches, [], 3)) == begun != worse.mask()
    better = Learning(graft, begun, 1e7, 0)
    mask = drain(learnt(better, batches, [], 3))
    found = list[float]()
    for one in (begun, mask):
        with graft.put(one.put) as model:
            found.append(mean_loss(model, batches))
    assert mask != begun and found[1] < found[0]


def test_numbers_that_did_not_move_are_never_taken(lay: Callable[..., Subject]) -> None:
    def some(model: LlamaForCausalLM) -> None:
        model.model.norm.weight[:16] += 1

    laid = lay(some, unchanged)
    batches = laid.evidence.batches()
    graft, still = Grafted(laid, 0), Grafted(laid, 1)
    mask = drain(learnt(Learning(graft, most_moved(graft, 1), 1e9, 0), batches, [], 3))
    assert {name for name, places in mask.places.items() if len(places)} == {NORM} and max(mask.places[NORM].tolist()) < 16
    assert len(drain(learnt(Learning(still, Mask({}), 1e7, 0), batches, [], 1))) == 0
