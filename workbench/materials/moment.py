"""A moment of a run: what a noise may know of it, what a probe may look at, and what a probe says.

What it is not: the noises and probes themselves (`methods/`), or when they are asked (`jobs/`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.materials.attachment import Attachment


@dataclass(frozen=True)
class Showing:
    """What a noise may know of the moment: the share of the run that is over, how ids become vectors, ids it must not use.

    `generator` (CPU) is new for each step and a function of seed and step alone: a resumed run is shown the same.
    """

    share: float
    embed: nn.Embedding
    special: Sequence[int]
    generator: torch.Generator


@dataclass(frozen=True)
class Moment:
    """What a probe may look at. Tensors are the run's own: a probe reads and changes nothing."""

    step: int
    attachment: Attachment
    batch: dict[str, Tensor]  # input_ids, attention_mask, labels (B, T), on the model's device
    displacement: dict[str, Tensor] = field(default_factory=dict)  # θ_after − θ_before by parameter name, fp32
    validation: Sequence[dict[str, Tensor]] = ()  # batches of the new task, never trained on
    known: Sequence[dict[str, Tensor]] = ()  # batches of what must not be forgotten, never trained on
    decode: Callable[[int], str] = str  # a token's id → its text, for findings in words


@dataclass(frozen=True)
class Reading:
    """Named floats for the plots, and optionally one sentence for the log."""

    values: dict[str, float]
    says: str = ""
    level: Literal["info", "watch", "act"] = "info"
