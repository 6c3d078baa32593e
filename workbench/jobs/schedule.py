"""How fast parameters move: the learning rate of each step, and the pace of each parameter. Knows no optimizer."""

import math

from workbench.core.spec import TrainSpec
from workbench.materials.models import layer_of
from workbench.methods.contracts import Attachment, Update


def rate(step: int, spec: TrainSpec) -> float:
    """The learning rate at `step` (from 1) as a share of its peak: a linear warm-up, then the schedule down to 0."""
    warm = round(spec.warmup * spec.steps)
    if step <= warm:
        return step / warm
    done = (step - 1 - warm) / max(1, spec.steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[spec.schedule]


def paced(attachment: Attachment, update: Update) -> list[dict[str, object]]:
    """The attachment's groups, split by how fast the update lets their parameters move."""
    layers = attachment.model.config.num_hidden_layers
    paces = {id(parameter): update.pace(name, layer_of(name), layers) for name, parameter in attachment.model.named_parameters()}
    groups = []
    for group in attachment.groups():
        for pace in dict.fromkeys(paces[id(parameter)] for parameter in group["params"]):
            groups.append({**group, "params": [p for p in group["params"] if paces[id(p)] == pace], "pace": pace})
    return groups
