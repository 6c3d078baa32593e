"""peft's tuners on a model: what is at work is the same attachment whatever the tuner is."""

import torch
from peft import IA3Config
from pico import make_model

from workbench.materials.tuners import tuned


def test_a_tuner_is_put_on_the_model_and_no_random_state_is_touched() -> None:
    model = make_model()
    before = torch.get_rng_state()
    attachment = tuned(model, IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"), seed=0)
    assert torch.equal(torch.get_rng_state(), before), "peft draws numbers even where it sets them to one afterwards"
    assert attachment.model is model and {name.split(".")[-3] for name, _ in attachment.trained()} == {"k_proj"}
