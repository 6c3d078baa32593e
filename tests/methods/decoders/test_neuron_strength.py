"""Neuron strength: at 1 the model, at 0 as if the neurons' columns were not there, and in between as with columns of that length."""

from collections.abc import Iterator

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials.choir import Choir
from workbench.materials.differing import between
from workbench.materials.speakers import ModelVoice, Singer
from workbench.methods.decoders.neuron_strength import NeuronStrength

TOKENS = [7, 8, 9, 10, 11, 12]
NAMED = "0:3, 2:5 2:60;0:3"


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def loud(seed: int = 0) -> LlamaForCausalLM:
    model = make_model(seed)
    for parameter in model.parameters():
        parameter.mul_(5 if parameter.dim() > 1 else 1)
    return model


def by_hand(seed: int, factor: float) -> LlamaForCausalLM:
    """The weights changed in the place of what they are multiplied with."""
    model = loud(seed)
    for layer, neuron in ((0, 3), (2, 5), (2, 60)):
        model.model.layers[layer].mlp.down_proj.weight[:, neuron] *= factor
    return model


def whole(model: LlamaForCausalLM, tokens: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([tokens])).logits[0, -1]


@pytest.fixture(params=["alone", "choir"])
def voice(request: pytest.FixtureRequest, no_gradients: None, pico_tokenizer: PreTrainedTokenizerFast) -> ModelVoice:
    if request.param == "alone":
        return ModelVoice(loud(1), pico_tokenizer)
    common = loud()
    return Singer(Choir(common), between(common, loud(1)) or {}, pico_tokenizer)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0, 3.0])
def test_it_says_what_columns_of_that_length_say(factor: float, voice: ModelVoice) -> None:
    says, changed = NeuronStrength(neurons=NAMED, factor=factor).begin(voice, voice), by_hand(1, factor)
    for end in (3, 4, 6, 5):  # it grows by one and by two, and goes back
        assert torch.allclose(says.logits(TOKENS[:end]), whole(changed, TOKENS[:end]), atol=1e-4)
    assert not torch.allclose(says.logits(TOKENS), whole(loud(1), TOKENS), atol=1e-2)


def test_at_1_it_is_the_model_and_without_a_change_nothing_is_turned(voice: ModelVoice) -> None:
    assert NeuronStrength(factor=1).begin(voice, voice) is voice
    nearly = NeuronStrength(neurons=NAMED, factor=1 + 1e-7).begin(voice, voice)
    assert torch.allclose(nearly.logits(TOKENS), whole(loud(1), TOKENS), atol=1e-4)


def test_the_voice_that_was_given_goes_on_as_it_was(voice: ModelVoice) -> None:
    before = voice.logits(TOKENS[:4])
    NeuronStrength(neurons=NAMED).begin(voice, voice).logits(TOKENS)
    assert torch.equal(voice.logits(TOKENS[:4]), before)
    assert torch.allclose(voice.logits(TOKENS), whole(loud(1), TOKENS), atol=1e-4)
    assert not any(module._forward_pre_hooks for module in voice.model.modules())


def test_neurons_are_named_as_the_inspection_names_them() -> None:
    assert NeuronStrength(neurons=NAMED).named() == {0: [3, 3], 2: [5, 60]}
    for wrong, says in (
        ("", "no neuron is named"),
        ("3", "'3' is no neuron"),
        ("3:4, x", "'x' is no neuron"),
        ("-1:4", "'-1:4' is no neuron"),
    ):
        with pytest.raises(WorkbenchError, match=says + r".*Write layer:neuron"):
            NeuronStrength(neurons=wrong).named()


def test_neurons_that_are_not_there_are_told(voice: ModelVoice, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    for wrong in ("3:0", "1:64", "0:1, 99999:2"):
        with pytest.raises(WorkbenchError, match=r"3 layers of 64 neurons.*Name those"):
            NeuronStrength(neurons=wrong).begin(voice, voice)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    mixture = MixtralForCausalLM(MixtralConfig(vocab_size=50, num_local_experts=2, **sizes))
    with pytest.raises(WorkbenchError, match="choose another decoder"):
        NeuronStrength(neurons="0:1").begin(ModelVoice(mixture, pico_tokenizer), voice)
