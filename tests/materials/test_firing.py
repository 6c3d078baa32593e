"""Neurons of MLPs: the shares of tokens and of the answer are those that the definitions give, in every family that has one MLP a block."""

import pytest
import torch
from pico import make_model
from test_every_family import FAMILIES
from transformers import LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.beside import hang
from workbench.materials.experts import Experts
from workbench.materials.firing import contributions, firing, neurons_of

IDS = torch.tensor([[3, 5, 7, 9, 11, 13], [2, 4, 6, 8, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}
WHERE = torch.tensor([[False, False, True, True, True, True], [False, True, True, True, False, False]])


def test_a_neuron_fires_where_its_activation_is_above_0(pico_model: LlamaForCausalLM) -> None:
    seen = list[torch.Tensor]()
    hooks = [layer.mlp.act_fn.register_forward_hook(lambda module, given, made: seen.append(made)) for layer in pico_model.model.layers]
    with torch.no_grad():
        pico_model(IDS[1:, :4])
    for hook in hooks:
        hook.remove()
    found = firing(pico_model, neurons_of(pico_model, "it"), BATCH)
    assert len(found) == 3 and found[0].shape == (2, 64)
    for own, expected in zip(found, seen, strict=True):
        torch.testing.assert_close(own[1], (expected[0] > 0).double().mean(0))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "phi3"])
def test_what_neurons_contribute_is_how_long_their_parts_of_the_answer_are(family: str) -> None:
    """Each neuron's own part, a_j times its column, is written out and measured."""
    torch.manual_seed(0)
    model = make_model() if family == "llama" else FAMILIES[family]().eval()
    every = neurons_of(model, "it")
    found = contributions(model, every, BATCH, WHERE)
    down = model.get_submodule(every[1].down)
    seen = list[tuple[torch.Tensor, torch.Tensor]]()
    hook = down.register_forward_hook(lambda module, given, made: seen.append((given[0], made)))
    with torch.no_grad():
        model(**BATCH)
        hook.remove()
        read, written = seen[0]
        parts = torch.diag_embed(read)  # a row for each neuron alone
        bias = 0 if down.bias is None else down.bias
        lengths = (down(parts) - bias).norm(dim=-1) / written.norm(dim=-1, keepdim=True)
    for row in (0, 1):
        torch.testing.assert_close(found[1][row], lengths[row][WHERE[row]].mean(0))


def test_a_longer_column_contributes_as_much_more(pico_model: LlamaForCausalLM) -> None:
    """Beside its neighbours, at one token: all of them are held against the same answer."""
    every, one = neurons_of(pico_model, "it"), torch.arange(6)[None].expand(2, 6) == 2
    before = contributions(pico_model, every, BATCH, one)[-1]
    with torch.no_grad():
        pico_model.model.layers[-1].mlp.down_proj.weight[:, 5] *= 2
    after = contributions(pico_model, every, BATCH, one)[-1]
    torch.testing.assert_close(after[:, 5] / after[:, 6], 2 * before[:, 5] / before[:, 6])


def test_experts_are_refused(pico_model: LlamaForCausalLM) -> None:
    name = "model.layers.0.mlp"
    hang(pico_model, {name: Experts.at(pico_model, name, experts=2, chosen=1, rank=2, scale=1.0)})
    for model in (FAMILIES["mixtral"](), pico_model):
        with pytest.raises(WorkbenchError, match=r"this one shares the work.*choose"):
            neurons_of(model, "this one")
