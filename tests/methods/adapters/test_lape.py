"""LAPE: the entropy of where a neuron fires, the neurons of these rows alone, and what of a neuron moves."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded
from workbench.methods.adapters.lape import LAPE, specific

SMALL = {"vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
GATE, UP, DOWN = (f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))


def rows(*tokens: int) -> list[Encoded]:
    return [Encoded([token + place for place in range(size)], [True] * size, 0) for token, size in zip(tokens, (6, 4, 9), strict=False)]


SEEN = Evidence({"": rows(2, 12, 22), "far": rows(42, 52), "further": rows(62, 72, 82)}, 0, torch.device("cpu"))


def test_a_neuron_that_fires_on_these_rows_alone_has_no_entropy_and_is_chosen_first() -> None:
    shares = torch.tensor([[0.9, 0.9], [0.6, 0.0], [0.0, 0.8], [0.7, 0.1], [0.1, 0.0], [0.0, 0.0], [0.6, 0.7]]).double()
    assert specific(shares, 0.5, 1).nonzero().flatten().tolist() == [1]
    assert specific(shares, 0.5, 2).nonzero().flatten().tolist() == [1, 3]
    assert specific(shares, 0.5, 6).nonzero().flatten().tolist() == [0, 1, 3], "4 hardly ever fires, 2 and 6 more on others, 5 not at all"
    assert not specific(shares[2:3], 0.0, 1).any()


def test_among_three_the_one_that_fires_on_fewest_others_goes_first() -> None:
    shares = torch.tensor([[0.8, 0.4, 0.0], [0.8, 0.2, 0.2], [0.8, 0.1, 0.0], [0.8, 0.4, 0.4]]).double()
    order = [specific(shares, 0.0, count).nonzero().flatten().tolist() for count in range(1, 5)]
    assert order == [[2], [0, 2], [0, 1, 2], [0, 1, 2, 3]]


def test_it_counts_on_which_tokens_a_neuron_answers_above_0() -> None:
    """Told by what its activation function answers, row by row and so without padding."""
    model, found, shares = make_model(), list[Tensor](), list[Tensor]()
    for block in model.model.layers:
        block.mlp.act_fn.register_forward_hook(lambda module, given, made: found.append(made[0] > 0))
    for name in ("", "far"):
        found.clear()
        for row in SEEN.rows[name]:
            model(input_ids=torch.tensor([row.ids]))
        shares.append(torch.cat([torch.cat(found[layer::3]).double().mean(0) for layer in range(3)]))
    wanted = specific(torch.stack(shares, 1), 0.5, 4).view(3, 64).nonzero().tolist()
    chosen = drain(LAPE(others="far", bar=0.5, share=4.5 / 192).study(model, SEEN))
    assert len(wanted) == 4
    assert [[layer, neuron] for layer in range(3) for neuron in chosen.get(f"model.layers.{layer}.mlp.down_proj", [])] == wanted


def test_rows_of_gate_and_up_and_columns_of_down_move_and_nothing_else() -> None:
    model = make_model()
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    attachment = LAPE().attach(model, 0, {"model.layers.1.mlp.down_proj": torch.tensor([5, 40])})
    with torch.no_grad():
        for _, values in attachment.trained():
            values += 1
    attachment.after_step(1)
    changed = {name: (own != before[name]).nonzero() for name, own in model.named_parameters() if not torch.equal(own, before[name])}
    assert set(changed) == {GATE, UP, DOWN} and all(len(places) == 2 * 32 for places in changed.values())
    assert all(set(changed[name][:, side].tolist()) == {5, 40} for name, side in ((GATE, 0), (UP, 0), (DOWN, 1)))


@pytest.mark.parametrize(
    ("model", "gate", "down"),
    [
        (Phi3ForCausalLM(Phi3Config(**SMALL, intermediate_size=24, pad_token_id=0)), "mlp.gate_up_proj", "mlp.down_proj"),
        (GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=2)), "mlp.c_fc", "mlp.c_proj"),
    ],
    ids=["phi3", "gpt2"],
)
def test_a_neuron_that_is_moved_to_nothing_no_longer_answers_in_other_families(model: PreTrainedModel, gate: str, down: str) -> None:
    """Without its rows a neuron answers 0, and without its column it says nothing: what the MLP makes is that of the others."""
    stem = "model.layers.1." if "Phi3" in type(model).__name__ else "transformer.h.1."
    attachment = LAPE().attach(model, 0, {stem + down: torch.tensor([3, 17])})
    with torch.no_grad():
        for name, values in attachment.trained():
            values.zero_() if gate in name else values.fill_(99)  # if another neuron had this column, it would be heard
        block, reads = model.get_submodule(stem + "mlp").eval(), torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
        attachment.after_step(1)
        loud = block(reads)
        for _, values in attachment.trained():
            values.zero_()
        attachment.after_step(1)
        assert torch.allclose(loud, block(reads), atol=1e-5)


def test_the_cost_is_the_most_that_may_move() -> None:
    model = make_model()
    adapter = LAPE(others="far, further", share=0.05, bar=0.0)
    attachment = adapter.attach(model, 0, drain(adapter.study(model, SEEN)))
    assert sum(values.numel() for _, values in attachment.trained()) == adapter.cost(model).trained == 9 * 3 * 32


def test_it_asks_for_others_to_compare_with() -> None:
    assert LAPE(others="far, further,far").looks_at() == ["", "far", "further"]
    with pytest.raises(WorkbenchError, match=r"adapter\.others"):
        LAPE(others=" , ").looks_at()
    model = make_model()
    with torch.no_grad():
        for layer in range(3):
            model.get_parameter(f"model.layers.{layer}.mlp.gate_proj.weight").zero_()
    with pytest.raises(WorkbenchError, match="Lower bar"):
        drain(LAPE(others="far").study(model, SEEN))
