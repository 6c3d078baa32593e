"""S²FT: as many channels and heads as the shares say, whole columns, drawn over the whole model by the seed."""

import pytest
import torch
from pico import make_model
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.core.errors import WorkbenchError
from workbench.methods.adapters.s2ft import S2FT


def columns(knobs: S2FT, seed: int = 0, **changes: object) -> dict[str, list[int]]:
    attachment = knobs.attach(make_model(**changes), seed=seed)
    return {name: attachment.state()[f"{name}/index"].tolist() for name, _ in attachment.trained()}


def test_as_many_channels_and_heads_as_the_shares_say() -> None:
    model = make_model()
    found = columns(S2FT(channels=0.1, heads=0.25))
    layers, config = model.config.num_hidden_layers, model.config
    down = [place for name, own in found.items() if "down_proj" in name for place in own]
    out = {name: own for name, own in found.items() if "o_proj" in name}
    assert len(down) == int(0.1 * layers * config.intermediate_size) and len(out) + len({n for n in found if "down" in n}) == len(found)
    width = config.hidden_size // config.num_attention_heads
    heads = [(name, place // width) for name, own in out.items() for place in own]
    assert len(set(heads)) == int(0.25 * layers * config.num_attention_heads)
    assert all(heads.count(head) == width for head in heads), "a head moves whole"


def test_a_head_is_as_wide_as_the_model_says() -> None:
    """Some models have heads that are wider than their hidden size divided by the number of them."""
    found = columns(S2FT(channels=0, heads=0.25), head_dim=16)
    for own in found.values():
        heads = [place // 16 for place in own]
        assert all(heads.count(head) == 16 for head in heads)
    assert sum(map(len, found.values())) == 16 * (3 * 4 // 4)


def test_the_draw_is_the_seeds_and_falls_on_the_layers_as_it_comes() -> None:
    assert columns(S2FT(channels=0.2), seed=3) == columns(S2FT(channels=0.2), seed=3) != columns(S2FT(channels=0.2), seed=4)
    assert len({len(own) for own in columns(S2FT(channels=0.2), seed=3).values()}) > 1


def test_the_smallest_share_moves_something_and_none_is_refused() -> None:
    assert sum(map(len, columns(S2FT(channels=1e-6)).values())) == 1
    with pytest.raises(WorkbenchError, match=r"^S²FT moves nothing of this LlamaForCausalLM.*Raise a share"):
        S2FT(channels=0, heads=0).attach(make_model(), seed=0)


def test_columns_are_trained_whole() -> None:
    attachment = S2FT(channels=0.1).attach(make_model(), seed=0)
    for name, values in attachment.trained():
        weight = attachment.model.get_parameter(name)
        assert torch.equal(values, weight[:, attachment.state()[f"{name}/index"]])


def test_the_columns_of_a_matrix_that_is_stored_the_other_way_round_are_its_rows() -> None:
    """GPT-2, whose MLP and attention both end with a c_proj."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16))
    assert S2FT(channels=0.25).cost(model).trained == 2 * 16 * 16 and S2FT(channels=0.0, heads=0.5).cost(model).trained == 2 * 8 * 16
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attachment = S2FT(channels=0.25).attach(model, seed=0)
    for _, values in attachment.trained():
        values.data += 1.0
    attachment.after_step(1)
    moved = {name: (tensor != before[name]) for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all(name.endswith("mlp.c_proj.weight") for name in moved) and sum(int(own.all(1).sum()) for own in moved.values()) == 2 * 16
    assert all(torch.equal(own.all(1), own.any(1)) for own in moved.values()), "whole channels"
