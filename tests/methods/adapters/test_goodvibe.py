"""GoodVibe (arXiv:2602.10778): the neurons that the answers hang on, and one change for each group of them."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM, PreTrainedModel

from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.templates import Encoded
from workbench.methods.adapters.goodvibe import GoodVibe, members, seen
from workbench.methods.updates.adamw import AdamW

ROWS = [Encoded(list(range(start, start + size)), [False] * 4 + [True] * (size - 4), 0) for start, size in ((2, 12), (30, 7), (60, 9))]
SEEN = Evidence({"": ROWS, "asked": ROWS[:1]}, 0, torch.device("cpu"))
IDS = torch.arange(5, 45).reshape(4, 10)
SMALL = {"vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
DOWN, GATE, UP = (f"model.layers.1.mlp.{part}_proj" for part in ("down", "gate", "up"))


def gpt2() -> PreTrainedModel:
    """One matrix reads, stored the other way round."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


def phi() -> PreTrainedModel:
    """Gate and up in one matrix."""
    torch.manual_seed(0)
    return Phi3ForCausalLM(Phi3Config(**SMALL, num_key_value_heads=1, intermediate_size=24, pad_token_id=0)).eval()


def learnt(model: PreTrainedModel, **knobs: object) -> dict[str, Tensor]:
    return dict(drain(GoodVibe(**{"share": 0.2, "groups": 3, **knobs}).study(model, SEEN)))


def test_the_score_is_how_much_the_loss_would_change_with_the_neuron_token_by_token() -> None:
    """The slope of a factor that each neuron has at each token, row by row and so without padding."""
    model, wanted, factors = make_model(), torch.zeros(64), list[Tensor]()
    model.get_submodule(DOWN).register_forward_pre_hook(lambda module, given: (given[0] * factors[-1],))
    for row in ROWS:
        factors.append(torch.ones(len(row.ids), 64, requires_grad=True))
        (sum(row.trained) * surprise(model, Evidence({"": [row]}, 0, SEEN.device).batches()[0])).backward()
        wanted += factors[-1].grad.abs().sum(0)
    assert torch.allclose(seen(make_model(), [DOWN], SEEN.batches()[0])[DOWN].scores, wanted, rtol=1e-4, atol=1e-7)


def test_batches_add_up() -> None:
    whole = seen(make_model(), [DOWN], SEEN.batches()[0])[DOWN]
    one, other = (seen(make_model(), [DOWN], batch)[DOWN] for batch in SEEN.batches(size=2))
    assert torch.allclose((one + other).scores, whole.scores, rtol=1e-4) and torch.allclose((one + other).means, whole.means, atol=1e-5)


def test_what_a_neuron_is_in_a_row_leaves_padding_out_and_the_model_is_as_it_was() -> None:
    model, read = make_model(), list[Tensor]()
    found = seen(model, [DOWN], SEEN.batches()[0])[DOWN]
    assert all(own.requires_grad and own.grad is None for own in model.parameters())
    model.get_submodule(DOWN).register_forward_pre_hook(lambda module, given: read.append(given[0][0].mean(0)))
    with torch.no_grad():
        for row in ROWS:
            model(torch.tensor([row.ids]))
    assert torch.allclose(found.means, torch.stack(read), atol=1e-5)


def test_a_neuron_that_writes_nothing_is_never_taken() -> None:
    model = make_model()
    with torch.no_grad():
        model.get_submodule(DOWN).weight[:, :32] = 0
    taken = learnt(model, share=0.5)[GATE].any(1).nonzero().flatten().tolist()
    assert taken == list(range(32, 64))


@pytest.mark.parametrize(("make", "matrices", "rows", "halves"), [(make_model, 2, 64, 1), (gpt2, 1, 64, 1), (phi, 1, 48, 2)])
def test_each_block_has_as_many_neurons_each_in_one_group(make: object, matrices: int, rows: int, halves: int) -> None:
    model = make()
    adapter, found = GoodVibe(share=0.2, groups=3), learnt(model)
    blocks, neurons = model.config.num_hidden_layers, int(0.2 * rows / halves)
    assert len(found) == matrices * blocks
    for own in found.values():
        assert own.shape == (rows, 3 * halves) and own.sum() == halves * neurons
        assert set(own.sum(1).tolist()) == {0.0, 1.0} and own.any(0).all()
    attachment = adapter.attach(model, 0, found)
    assert sum(numbers.numel() for _, numbers in attachment.trained()) == adapter.cost(make()).trained
    assert not any(numbers.any() for _, numbers in attachment.trained()), "from zero"
    assert adapter.cost(make()).beside == sum(own.numel() for own in found.values())


def test_gate_and_up_one_below_the_other_have_groups_of_their_own() -> None:
    found = members(torch.tensor([1, 2]), torch.tensor([1, 0]), 2, 3, 6)
    assert found.nonzero().tolist() == [[1, 1], [2, 0], [4, 3], [5, 2]]


def test_neurons_that_are_always_active_together_are_in_one_group() -> None:
    model = make_model()
    with torch.no_grad():
        for name in (GATE, UP):
            model.get_submodule(name).weight[1::2] = model.get_submodule(name).weight[::2]
    found = learnt(model, share=1.0, groups=8)[GATE]
    assert torch.equal(found[::2], found[1::2]) and found.any(0).sum() > 1


def test_after_some_steps_the_rows_of_a_group_have_one_change_and_all_others_none(tmp_path: Path) -> None:
    model, found = make_model(), learnt(make_model())
    attachment = GoodVibe(share=0.2, groups=3).attach(model, 0, found)
    stepper = AdamW(lr=1e-2).begin(attachment.groups())
    for _ in range(3):
        model(IDS, labels=IDS).loss.backward()
        stepper.step(1.0, lambda: None)
    for name, layer in low_rank.layers(model):
        change, groups = layer.get_delta_weight("default").detach(), found[name]
        assert torch.equal(change.any(1), groups.any(1)), "all of these rows, and no others"
        for group in groups.T.bool():
            rows = change[group]
            assert torch.equal(rows, rows[:1].expand_as(rows))
        assert torch.linalg.matrix_rank(change) == 3 and torch.equal(change, groups @ layer.lora_A["default"].weight), "added as it is"
    attachment.save(tmp_path)
    with torch.no_grad():
        opened = PeftModel.from_pretrained(make_model(), tmp_path).merge_and_unload()
        assert torch.allclose(opened(IDS).logits, model.eval()(IDS).logits, atol=1e-5)


def test_the_rows_that_are_looked_at_are_those_named() -> None:
    assert GoodVibe().looks_at() == [""] and GoodVibe(data="asked").looks_at() == ["asked"]
    one, other = learnt(make_model(), data="asked"), learnt(make_model())
    assert any(not torch.equal(one[name], other[name]) for name in one)
