"""The tuners that peft builds beside LoRA, at work on a model. What is at work, trained and saved is the same for all (`low_rank.py`).

What it is not: their settings, which are a method's (`methods/adapters/ia3.py`, `oft.py`).
"""

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from workbench.materials.low_rank import LowRankAttachment
from workbench.materials.rounded import hand_back


def tuned(model: PreTrainedModel, config: PeftConfig, seed: int) -> LowRankAttachment:
    peft = wrapped(model, config, seed)
    hand_back(peft)
    return LowRankAttachment(peft)


def wrapped(model: PreTrainedModel, config: PeftConfig, seed: int) -> PeftModel:
    """`model` with peft's layers in place. The random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)
