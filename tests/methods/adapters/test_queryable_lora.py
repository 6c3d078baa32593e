"""Queryable LoRA (arXiv:2605.08423): a LoRA whose middle each token mixes for itself, of atoms that the whole model shares."""

import copy
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from pico import make_model
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.atoms import Atoms
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.queryable_lora import QueryableLoRA

IDS = torch.arange(5, 45).reshape(4, 10)
FEW = {"atoms": 5, "per_token": 3, "rank": 4, "alpha": 8.0, "key": 6, "group": 1}


@torch.no_grad()
def said(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    return model.eval()(ids).logits


def attached(model: PreTrainedModel | None = None, seed: int = 0, **knobs: object) -> InsertedAttachment:
    return QueryableLoRA(**{**FEW, **knobs}).attach(model or make_model(), seed)


def own(attachment: InsertedAttachment) -> Atoms:
    (found,) = attachment.modules.values()
    assert isinstance(found, Atoms)
    return found


def moved(model: PreTrainedModel | None = None, **knobs: object) -> InsertedAttachment:
    """Every number of it is random."""
    attachment, generator = attached(model, **knobs), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    return attachment


def by_the_formula(memory: Atoms, x: list[Tensor]) -> list[Tensor]:
    """What is added to what each matrix says, token by token, from what each reads; a group is one block of the seven matrices here."""
    h, found = torch.zeros(4), list[Tensor]()
    for first in range(0, len(x), 7):
        middles = []
        for place in range(first, first + 7):
            z = memory.read[place] @ x[place]
            scores = memory.keys @ memory.query @ torch.cat([layer_norm(z, (4,)), h]) / 6**0.5
            chosen = scores.argsort(descending=True)[: memory.chosen]
            shares = scores[chosen].exp() / scores[chosen].exp().sum()
            mixed = sum(share * memory.atoms[k] for share, k in zip(shares, chosen, strict=True))
            middles.append(mixed @ z)
            found.append(2.0 * memory.write[place] @ middles[-1])
        h = h + memory.summary @ layer_norm(torch.stack(middles).mean(0), (4,))
    return found


def test_what_each_matrix_adds_for_a_token_is_the_formula() -> None:
    attachment, seen = moved(), list[tuple[Tensor, Tensor]]()
    memory = own(attachment)
    for name in memory.places:  # heard behind the adapter's own hook, in the order in which they speak
        matrix = attachment.model.get_submodule(name)
        matrix.register_forward_hook(
            lambda host, given, made: seen.append((given[0][0, 3], (made - nn.Linear.forward(host, given[0]))[0, 3]))
        )
    said(attachment.model)
    with torch.no_grad():
        wanted = by_the_formula(memory, [read for read, _ in seen])
    assert len(seen) == 21
    for (_, added), expected in zip(seen, wanted, strict=True):
        assert torch.allclose(added, expected, atol=1e-4, rtol=1e-3) and expected.any()


def test_one_atom_that_is_the_identity_is_lora() -> None:
    one = moved(atoms=1, per_token=1)
    memory = own(one)
    memory.atoms.data = torch.eye(4)[None]
    lora = LoRA(rank=4, alpha=8.0, dropout=0.0).attach(make_model(), seed=0)
    for name, layer in lora.model.named_modules():
        if isinstance(layer, LoraLayer):
            place = memory.places[name]
            layer.lora_A["default"].weight.data = memory.read[place].data.clone()
            layer.lora_B["default"].weight.data = memory.write[place].data.clone()
    assert torch.allclose(said(one.model), said(lora.model), atol=1e-4)
    assert not torch.allclose(said(one.model), said(make_model()), atol=1e-1)


def test_the_middle_is_never_larger_than_the_largest_atom() -> None:
    memory = own(moved())
    z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shares = memory.shares(z, torch.zeros_like(z))
        grown = memory.mixed(z, torch.zeros_like(z)).norm(dim=1) / z.norm(dim=1)
    assert torch.allclose(shares.sum(1), torch.ones(200)) and (shares >= 0).all() and (shares.count_nonzero(1) == 3).all()
    assert len(shares.topk(3).indices.sort(1).values.unique(dim=0)) > 1, "tokens choose differently"
    assert grown.max() <= torch.linalg.matrix_norm(memory.atoms.detach(), 2).max() * 1.0001


def test_a_token_hears_nothing_of_later_ones_and_a_cache_changes_nothing() -> None:
    model, other = moved().model, IDS.clone()
    other[:, 6:] = 77
    assert torch.allclose(said(model)[:, :6], said(model, other)[:, :6], atol=1e-5)
    assert not torch.allclose(said(model)[:, 6:], said(model, other)[:, 6:], atol=1e-2)
    told = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached, uncached = (model.generate(IDS[:2], use_cache=use, **told) for use in (True, False))
    assert torch.equal(cached, uncached) and not torch.equal(cached, make_model().generate(IDS[:2], **told))


@pytest.mark.parametrize("group", [1, 2, 3])
def test_the_summary_goes_on_from_group_to_group_and_into_no_earlier_one(group: int) -> None:
    """Only what stands above the first group hears it, and nothing does in the only group there is."""
    plain, summed = moved(group=group), moved(group=group)
    own(plain).summary.data.zero_()
    assert own(plain).ends == [f"model.layers.{block}" for block in range(group - 1, 2, group)], "none behind the last"
    read: list[list[Tensor]] = [[], []]
    for attachment, into in zip((plain, summed), read, strict=True):
        for block in attachment.model.model.layers:
            block.register_forward_hook(lambda _, given, made, into=into: into.append(made))
        said(attachment.model)
    assert [torch.equal(one, other) for one, other in zip(*read, strict=True)] == [block < group for block in range(3)]


def test_all_of_it_learns_also_through_the_summary() -> None:
    attachment = moved()
    attachment.model(IDS, labels=IDS).loss.backward()
    assert all(numbers.grad is not None and numbers.grad.any() for _, numbers in attachment.trained())


def test_activations_that_are_computed_anew_give_the_same_gradients_through_the_summary() -> None:
    plain, anew = moved(), moved()
    anew.model.gradient_checkpointing_enable({"use_reentrant": False})
    anew.model.enable_input_require_grads()
    for attachment in (plain, anew):
        attachment.model.train()(IDS, labels=IDS).loss.backward()
    for (_, one), (_, other) in zip(plain.trained(), anew.trained(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_at_the_start_nothing_is_said_and_the_seed_fixes_what_is_read_and_asked() -> None:
    one, again, other = (attached(seed=seed).state() for seed in (0, 0, 1))
    assert torch.equal(said(attached().model), said(make_model()))
    still = {name for name, tensor in one.items() if not tensor.any()}
    assert all(".write." in name or name.endswith(".summary") for name in still) and len(still) == 22
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one if name not in still)
    assert torch.allclose(one["model.atoms"], torch.eye(4).expand(5, 4, 4), atol=0.1)


def test_it_counts_two_factors_a_matrix_and_one_memory() -> None:
    factors = LoRA(rank=4).cost(make_model()).trained
    assert QueryableLoRA(**FEW).cost(make_model()).trained == factors + 5 * (4 * 4 + 6) + 2 * 6 * 4 + 4 * 4


def test_a_group_without_adapted_matrices_is_passed_over() -> None:
    attachment = moved(modules="layers.0.mlp.*, layers.2.mlp.*")
    with_it = said(attachment.model)
    own(attachment).summary.data.zero_()
    assert not torch.allclose(with_it, said(attachment.model), atol=1e-4), "what the first block said reaches the third"
    upper = moved(modules="layers.2.mlp.*")
    assert said(upper.model).isfinite().all()


def test_a_copy_has_a_memory_of_its_own_and_rows_of_another_length_may_follow() -> None:
    attachment = moved()
    before = said(attachment.model)
    attachment.model(IDS)  # what it put down has a graph
    twin = copy.deepcopy(attachment.model)
    assert own(attachment).passing and not twin.get_submodule("model.beside").passing
    for _, numbers in attachment.trained():
        nn.init.zeros_(numbers)
    assert torch.equal(said(attachment.model), said(make_model())) and torch.equal(said(twin), before)
    assert torch.allclose(said(twin, IDS[:1, :4]), before[:1, :4], atol=1e-5)


def test_what_is_saved_answers_as_what_was_trained_to_the_bit(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    attachment = moved()
    attachment.save(tmp_path / "adapter")
    make_model().save_pretrained(tmp_path / "base")
    loaded = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "adapter"), torch.device("cpu"), torch.float32)
    assert torch.equal(said(loaded), said(attachment.model))


def test_matrices_stored_the_other_way_round_learn_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0, embd_pdrop=0)).eval()
    attachment = moved(model)
    attachment.model(IDS, labels=IDS).loss.backward()
    assert all(numbers.grad is not None for _, numbers in attachment.trained())


def test_more_atoms_for_a_token_than_there_are_is_refused_with_a_remedy() -> None:
    with pytest.raises(WorkbenchError, match="Set atoms for a token to 5 or less"):
        QueryableLoRA(**{**FEW, "per_token": 6}).cost(make_model())
    assert "cannot be merged" in QueryableLoRA().costs()
