"""Weights that are switched off one by one: what is off is 0 and all else the base's, the gradient goes straight through, and a gradient
that leads away from the base is dropped by chance."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor
from torch.func import functional_call

from workbench.materials.models import head_logits
from workbench.materials.switches import SwitchAttachment, stays
from workbench.materials.token_stats import kl

QUERY, OUT = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.o_proj.weight"
DOWN = "model.layers.2.mlp.down_proj.weight"
NAMES = {QUERY, OUT, DOWN}
MARGIN = 0.25


def attached(dropping: float = 1.0, seed: int = 0, off: float = 0.0) -> SwitchAttachment:
    """Switches in three matrices, a share of whose weights is off."""
    attachment = SwitchAttachment(make_model(), NAMES, MARGIN, dropping, seed)
    generator = torch.Generator().manual_seed(5)
    for _, values in attachment.trained():
        drawn = torch.rand(values.shape, generator=generator)
        values.data.copy_(torch.where(drawn < off, -1.0, 0.1 * drawn))
    attachment.after_step(0)
    return attachment


@torch.no_grad()
def said(attachment: SwitchAttachment, batch: dict[str, Tensor]) -> Tensor:
    return attachment.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def test_what_is_off_is_0_and_everything_else_is_the_bases() -> None:
    attachment, base = attached(off=0.3), make_model()
    for name, weight in attachment.model.named_parameters():
        first = base.get_parameter(name)
        if name not in NAMES:
            assert torch.equal(weight, first)
            continue
        off = attachment.switches[name].values < 0
        assert 0.2 < off.float().mean() < 0.4
        assert not weight[off].any() and torch.equal(weight[~off], first[~off])


def test_a_weight_is_off_where_its_number_has_fallen_by_the_margin_and_comes_back_with_it(pico_batch: dict[str, Tensor]) -> None:
    attachment, base = attached(), make_model()
    values, weight = attachment.switches[QUERY].values, attachment.model.get_parameter(QUERY)
    for number, on in ((0.0, True), (-MARGIN + 1e-3, True), (-MARGIN, False), (-1.0, False), (0.0, True)):
        with torch.no_grad():
            values[1, 2] = number
        said(attachment, pico_batch)
        assert weight[1, 2] == (base.get_parameter(QUERY)[1, 2] if on else 0)


def straight_through(attachment: SwitchAttachment, loss: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """∂loss/∂W′ ⊙ W / rms(W), by the formula."""
    found = torch.autograd.grad(loss, list(weights.values()))
    base = {name: make_model().get_parameter(name).detach() for name in weights}
    return {name: own * base[name] / base[name].pow(2).mean().sqrt() for name, own in zip(weights, found, strict=True)}


def whole(attachment: SwitchAttachment) -> dict[str, Tensor]:
    return {name: attachment.model.get_parameter(name).detach().clone().requires_grad_() for name in sorted(NAMES)}


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_the_gradient_goes_through_the_switch_as_if_it_were_not_there(off: float, pico_batch: dict[str, Tensor]) -> None:
    attachment = attached(off=off, dropping=0)
    weights = whole(attachment)
    wanted = straight_through(attachment, functional_call(make_model(), weights, (), dict(pico_batch)).loss, weights)
    for _ in range(2):  # gradients add up
        attachment.model(**pico_batch).loss.backward()
    assert all(parameter.grad is None for parameter in attachment.model.parameters())
    attachment.before_step(1)
    for name, values in attachment.trained():
        assert values.grad is not None and torch.allclose(values.grad, 2 * wanted[name], atol=1e-6)
        assert not off or values.grad[values < 0].any(), "what is off has a gradient too"


def test_what_pulls_the_same_way_stays_and_what_is_outweighed_goes() -> None:
    task = torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0, 0.0, 0.0]).repeat(4000, 1)
    pulled = torch.tensor([3.0, -1.0, 0.0, -1.0, -3.0, 0.0, 5.0]).repeat(4000, 1)
    kept = stays(task, pulled, torch.Generator().manual_seed(0)).float().mean(0)
    assert (kept[:3] == 1).all(), "the same way, or nothing"
    assert kept[3] == pytest.approx(0.5, abs=0.03), "(1 + (1 − 1) / 2) / 2"
    assert kept[4] == pytest.approx(0.25, abs=0.03), "(1 + (1 − 3) / 4) / 2"
    assert stays(task, pulled, torch.Generator().manual_seed(0)).isfinite().all()


def test_the_pull_is_the_mean_gradient_of_the_kl_to_the_base_over_all_tokens_but_padding(pico_batch: dict[str, Tensor]) -> None:
    """Two batches of unlike length, one of them filled up."""
    short = {name: tensor[:1, :5] for name, tensor in pico_batch.items()}
    filled = {**pico_batch, "attention_mask": pico_batch["attention_mask"].clone()}
    filled["attention_mask"][:, -3:] = 0
    attachment = attached(off=0.3)
    weights, total, tokens = whole(attachment), torch.zeros(()), 0
    for batch in (short, filled):
        shown = {name: batch[name] for name in ("input_ids", "attention_mask")}
        mask = batch["attention_mask"].bool()
        with torch.no_grad():
            wanted = make_model()(**shown).logits[mask].log_softmax(-1)
        total = total + kl(wanted, functional_call(make_model(), weights, (), shown).logits[mask].log_softmax(-1)).sum()
        tokens += int(mask.sum())
    expected = straight_through(attachment, total / tokens, weights)
    for batch in (short, filled):
        attachment.model(**batch).loss.backward()
    tasks = {name: values.grad.clone() for name, values in attachment.trained()}
    counted, *pulled = attachment.tallies()
    assert counted == tokens
    for (name, values), own in zip(attachment.trained(), pulled, strict=True):
        assert torch.allclose(own / tokens, expected[name], rtol=1e-3, atol=1e-7) and expected[name].any()
        assert torch.equal(values.grad, tasks[name]), "the task's gradient is as it was"


@pytest.mark.parametrize("dropping", [1.0, 0.3])
def test_a_gradient_stays_whole_or_goes_by_the_share_that_is_dropped(dropping: float, pico_batch: dict[str, Tensor]) -> None:
    free, held = attached(0.0, off=0.3), attached(dropping, off=0.3)
    for attachment in (free, held):
        attachment.model(**pico_batch).loss.backward()
        attachment.before_step(1)
    some = 0
    for name, values in held.trained():
        task = free.switches[name].values.grad
        dropped = ~torch.isclose(values.grad, task, rtol=1e-4, atol=0)
        assert torch.allclose(values.grad[dropped], (1 - dropping) * task[dropped], rtol=1e-3, atol=1e-9)
        some += int(dropped.sum())
    assert 0 < some < sum(values.numel() for _, values in held.trained()) / 2


def test_the_same_seed_drops_the_same_and_no_random_state_is_touched(pico_batch: dict[str, Tensor]) -> None:
    found = []
    for seed, step in ((0, 1), (0, 1), (1, 1), (0, 2)):
        attachment, before = attached(seed=seed, off=0.3), torch.get_rng_state()
        attachment.model(**pico_batch).loss.backward()
        attachment.before_step(step)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(attachment.switches[DOWN].values.grad)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2]) and not torch.equal(found[0], found[3])


@pytest.mark.parametrize(("off", "dropping", "passes"), [(0.0, 1.0, 1), (0.3, 0.0, 1), (0.3, 1.0, 3)])
def test_the_base_is_asked_only_once_something_is_off(off: float, dropping: float, passes: int, pico_batch: dict[str, Tensor]) -> None:
    attachment, seen = attached(dropping, off=off), []
    attachment.model.base_model.register_forward_hook(lambda *_: seen.append(1))
    attachment.model(**pico_batch).loss.backward()
    assert bool(attachment.tallies()) == (passes == 3), "nothing is held where nothing is dropped"
    attachment.before_step(1)
    assert len(seen) == passes


def test_a_step_that_was_left_out_and_what_is_not_learnt_from_are_no_part_of_the_next(pico_batch: dict[str, Tensor]) -> None:
    attachment = attached(off=0.3)
    said(attachment, pico_batch)
    with attachment.base():
        attachment.model(**pico_batch)
    assert attachment.tallies()[0] == 0
    assert attachment.redraw(2) == {}
    attachment.model(**pico_batch)
    assert attachment.tallies()[0] == pico_batch["attention_mask"].sum() == attachment.tallies()[0], "they are read once"
    attachment.before_step(2)
    assert attachment.tallies()[0] == 0, "a second look in the same step begins anew"
    attachment.model(**pico_batch)
    assert attachment.redraw(3) == {} and attachment.tallies()[0] == 0


def test_what_several_processes_read_is_added_up_before_it_drops_anything(pico_batch: dict[str, Tensor]) -> None:
    """Each has read a half, and is given the sums of both: they drop the same as one that has read all."""
    alone, *halves = (attached(off=0.3) for _ in range(3))
    rows = [slice(None), slice(0, 1), slice(1, None)]
    for attachment, own in zip((alone, *halves), rows, strict=True):
        attachment.model(**{name: tensor[own] for name, tensor in pico_batch.items()})
    sums = [torch.stack(own).sum(0) for own in zip(*(half.tallies() for half in halves), strict=True)]
    task = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)) * 1e-3
    for half in halves:
        for own, total in zip(half.tallies(), sums, strict=True):
            own.copy_(total)
    for attachment in (alone, *halves):
        attachment.switches[DOWN].values.grad = task.clone()
        attachment.before_step(1)
    found = [attachment.switches[DOWN].values.grad for attachment in (alone, *halves)]
    assert torch.equal(found[1], found[2]) and (found[0] != found[1]).float().mean() < 1e-3 and (found[0] == 0).any()


def test_model_and_base_are_asked_with_the_same_dropout(pico_batch: dict[str, Tensor]) -> None:
    """What is off was 0 already, so they say the same however much is dropped, and the KL has no gradient."""
    model = make_model(attention_dropout=0.5)
    with torch.no_grad():
        model.get_parameter(QUERY)[0, 0] = 0
    attachment = SwitchAttachment(model, NAMES, MARGIN, 1.0, 0)
    attachment.switches[QUERY].values.data[0, 0] = -1
    attachment.model.train()(**pico_batch)
    before = torch.get_rng_state()
    tokens, *pulled = attachment.tallies()
    assert torch.equal(torch.get_rng_state(), before)
    assert tokens and len(pulled) == 3 and all(own.abs().max() < 1e-5 for own in pulled)
    assert not len(attachment.switches[QUERY].delta()[0]), "what was 0 already is no change"


def test_embeddings_that_were_disturbed_are_read_again_as_they_were(pico_batch: dict[str, Tensor]) -> None:
    attachment, seen = attached(off=0.3), list[Tensor]()
    attachment.model.base_model.register_forward_pre_hook(lambda _, given, named: seen.append(named["inputs_embeds"]), with_kwargs=True)
    attachment.model.enable_input_require_grads()
    shown = attachment.model.get_input_embeddings()(pico_batch["input_ids"])
    noisy = shown * (1 + 0.1 * torch.rand(shown.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    attachment.model(inputs_embeds=noisy, labels=pico_batch["labels"]).loss.backward()
    assert attachment.tallies()[0] == noisy[..., 0].numel()
    assert len(seen) == 3 and all(torch.equal(own, noisy) for own in seen)


def test_in_half_precision_the_kl_is_taken_in_the_numbers_of_the_run(pico_batch: dict[str, Tensor]) -> None:
    attachment, seen = attached(off=0.3), []
    attachment.model.get_submodule("model.layers.0.mlp").register_forward_hook(lambda _, given, made: seen.append(made.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        attachment.model(**pico_batch).loss.backward()
    attachment.before_step(1)
    assert seen == [torch.bfloat16] * 3


def test_a_step_of_the_numbers_is_told_as_what_it_did_to_the_weights() -> None:
    attachment = attached()
    before = {name: attachment.model.get_parameter(name).detach().clone() for name in NAMES}
    steps = {name: -0.5 * torch.rand(values.shape) for name, values in attachment.trained()}
    with torch.no_grad():
        for name, values in attachment.trained():
            values.add_(steps[name])
    attachment.after_step(1)
    for name, step in attachment.dense(steps).items():
        assert torch.equal(step, attachment.model.get_parameter(name) - before[name]) and step.any()


@pytest.mark.parametrize("off", [0.0, 0.02, 0.9])
def test_what_is_saved_is_what_is_off_and_peft_loads_it_to_the_bit(off: float, tmp_path: Path) -> None:
    attachment = attached(off=off)
    attachment.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(), tmp_path).merge_and_unload()
    for name, weight in attachment.model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), weight), name


def test_the_head_reads_tokens_a_slice_at_a_time(pico_batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (3, 1000):
        monkeypatch.setattr("workbench.materials.switches.SLICE", size)
        attachment, most = attached(off=0.3), []
        monkeypatch.setattr("workbench.materials.switches.head_logits", lambda m, h, most=most: most.append(len(h)) or head_logits(m, h))
        attachment.model(**pico_batch).loss.backward()
        attachment.tallies()
        assert max(most) <= size
        found.append(attachment.switches[OUT].pulled)
    assert found[0].any() and torch.allclose(*found, rtol=1e-4, atol=1e-5)
