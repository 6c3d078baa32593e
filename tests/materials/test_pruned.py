"""One model made narrower: Ward's clusters as the definition gives them, equal neurons joined without a trace; and what a width costs."""

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.neurons import cost, pruned, ward

IDS = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(3))
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # the norms and the softmax of transformers are in float32, whatever the weights


def lively(**changes: object) -> LlamaForCausalLM:
    """A float64 pico model whose blocks move what they are given: every number drawn, norms too."""
    model = make_model(
        vocab_size=50, hidden_size=24, intermediate_size=20, num_hidden_layers=2, tie_word_embeddings=False, **changes
    ).double()
    draw = torch.Generator().manual_seed(7)
    for name, weights in model.named_parameters():
        weights.data = 0.4 * torch.randn(weights.shape, generator=draw, dtype=torch.float64) + name.endswith("norm.weight")
    return model


@torch.no_grad()
def answers(model: LlamaForCausalLM) -> Tensor:
    return model(IDS).logits


def narrowed(model: LlamaForCausalLM, keep: float) -> LlamaForCausalLM:
    state, config = drain(pruned(model.state_dict(), model.config.to_dict(), keep=keep))
    narrow = LlamaForCausalLM(type(model.config)(**config)).double().eval()
    narrow.load_state_dict(state)
    return narrow


def by_definition(points: Tensor, clusters: int) -> list[set[int]]:
    """Join the two clusters whose joining costs least, again and again."""
    found = [{index} for index in range(len(points))]
    while len(found) > clusters:
        pairs = [(i, j) for i in range(len(found)) for j in range(i)]
        centre = [points[list(members)].mean(0) for members in found]

        def price(pair: tuple[int, int], centre: list[Tensor] = centre) -> float:
            one, two = (len(found[place]) for place in pair)
            return one * two / (one + two) * float((centre[pair[0]] - centre[pair[1]]).square().sum())

        i, j = min(pairs, key=price)
        found[j] |= found.pop(i)
    return sorted(found, key=min)


@pytest.mark.parametrize("clusters", [1, 2, 5, 11, 23, 24])
def test_ward_joins_the_cheapest_pair_each_time(clusters: int) -> None:
    points = torch.randn(24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = ward(points, clusters)
    assert [set(torch.where(labels == label)[0].tolist()) for label in range(clusters)] == by_definition(points, clusters)


def test_ward_by_hand() -> None:
    points = torch.tensor([[30.0], [0.0], [10.0], [11.0], [1.0]], dtype=torch.float64)
    assert ward(points, 3).tolist() == [0, 1, 2, 2, 1]
    assert ward(points, 2).tolist() == [0, 1, 1, 1, 1]  # 100 for the two pairs, 253 for 30 and one of them
    assert ward(points[:1], 1).tolist() == [0]
    # 0, 0, 0, 0 weigh more than 9: it costs 64.8 to join them, and 60.5 to join 9 and 20
    assert ward(torch.tensor([[0.0]] * 4 + [[9.0], [20.0]], dtype=torch.float64), 2).tolist() == [0, 0, 0, 0, 1, 1]


def test_ward_of_equal_points_ends() -> None:
    labels = ward(torch.ones(30, 4, dtype=torch.float64), 7)
    assert labels.unique().tolist() == list(range(7))


def test_all_kept_is_the_same_model() -> None:
    model = lively(mlp_bias=True)
    torch.testing.assert_close(answers(narrowed(model, 1.0)), answers(model), **CLOSE)


def test_equal_neurons_become_one_without_a_trace() -> None:
    """Every neuron two times, each writing half, in any order and in any scale: the narrow model has each once."""
    model = lively()
    twice = lively()
    twice.config.intermediate_size = 40
    draw = torch.Generator().manual_seed(1)
    for once, block in zip(model.model.layers, twice.model.layers, strict=True):
        order, scale = torch.randperm(40, generator=draw), torch.rand(40, generator=draw, dtype=torch.float64) + 0.5
        block.mlp.gate_proj.weight.data = once.mlp.gate_proj.weight.data.repeat(2, 1)[order]
        block.mlp.up_proj.weight.data = once.mlp.up_proj.weight.data.repeat(2, 1)[order] * scale[:, None]
        block.mlp.down_proj.weight.data = once.mlp.down_proj.weight.data.repeat(1, 2)[:, order] / 2 / scale
    torch.testing.assert_close(answers(twice), answers(model), **CLOSE)
    narrow = narrowed(twice, 0.5)
    assert narrow.config.intermediate_size == 20
    torch.testing.assert_close(answers(narrow), answers(model), **CLOSE)


def test_only_mlps_get_narrower() -> None:
    model = lively(mlp_bias=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, config = drain(pruned(model.state_dict(), model.config.to_dict(), keep=0.26))
    assert config == {**model.config.to_dict(), "intermediate_size": 5}
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert not {tensor.data_ptr() for tensor in state.values()} & {tensor.data_ptr() for tensor in model.state_dict().values()}
    same = {name for name, tensor in before.items() if torch.equal(state[name], tensor)}
    assert {name for name in before if "mlp" not in name and "post_attention" not in name} <= same
    assert {name for name in before if name.endswith("down_proj.bias")} <= same
    assert state["model.layers.1.mlp.gate_proj.bias"].shape == (5,) and state["model.layers.1.mlp.down_proj.weight"].shape == (24, 5)
    assert drain(pruned(before, model.config.to_dict(), keep=0.001))[1]["intermediate_size"] == 1


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(keep: float) -> None:
    with pytest.raises(WorkbenchError, match="keep is"):
        drain(pruned({}, {"model_type": "llama"}, keep=keep))


def test_what_has_no_units_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="this model is 'gemma'"):
        drain(pruned({}, {"model_type": "gemma"}, keep=0.5))
    with pytest.raises(WorkbenchError, match="The model lacks"):
        drain(pruned({}, lively().config.to_dict(), keep=0.5))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_cost_is_what_transformers_builds(family: str, tied: bool) -> None:
    config = {
        "model_type": family, "vocab_size": 50, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": tied,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    matrices = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    assert cost(config) == (sum(weights.numel() for weights in model.parameters()), 2 * matrices)
