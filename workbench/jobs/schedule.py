"""How far parameters move and when: the links of a run, the rate of each step, the pace of each parameter, what a guard takes back."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from workbench.core.spec import TrainSpec
from workbench.materials.models import layer_of
from workbench.methods.contracts import Attachment, Stepper, Update


def link(step: int, spec: TrainSpec) -> tuple[int, int, int]:
    """The link that `step` (from 1) belongs to, as the adapter divides the run: its number (from 1), the steps before it, its last step.

    Of T steps and c links, the k-th ends with step ⌊kT/c⌋, so none is longer than another by more than a step.
    """
    links = spec.adapter.links()
    number = min(links, -(-step * links // spec.steps))  # ⌈step · c / T⌉
    return number, (number - 1) * spec.steps // links, number * spec.steps // links


def opens(step: int, spec: TrainSpec) -> int:
    """The number of the link that begins with `step`; 0 where none does, and for the first, which begins with the run."""
    number, before, _ = link(step, spec)
    return number if before == step - 1 > 0 else 0


def rate(step: int, spec: TrainSpec) -> float:
    """The learning rate at `step` (from 1) as a share of its peak: in each link a linear warm-up, then the schedule down to 0."""
    _, before, last = link(step, spec)
    step, steps = step - before, last - before
    warm = round(spec.warmup * steps)
    if step <= warm:
        return step / warm
    done = (step - 1 - warm) / max(1, steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[spec.schedule]


def begun(update: Update, attachment: Attachment, state: Mapping[str, Tensor]) -> Stepper:
    """The update at work on what may move now, going on from the optimizer's `state`; from none where it is empty."""
    stepper = update.begin(paced(attachment, update))
    if state:
        stepper.load_state(dict(state))
    return stepper


def paced(attachment: Attachment, update: Update) -> list[dict[str, object]]:
    """The attachment's groups, split by how fast the update lets their parameters move."""
    layers = attachment.model.config.num_hidden_layers
    paces = {id(parameter): update.pace(name, layer_of(name), layers) for name, parameter in attachment.trained()}
    groups = []
    for group in attachment.groups():
        for pace in dict.fromkeys(paces[id(parameter)] for parameter in group["params"]):
            groups.append({**group, "params": [p for p in group["params"] if paces[id(p)] == pace], "pace": pace * group.get("pace", 1.0)})
    return groups


@torch.no_grad()
def shorten(
    update: Update, trained: Sequence[tuple[str, nn.Parameter]], before: Mapping[str, Tensor], moved: Mapping[str, Tensor],
    values: dict[str, float],
) -> None:  # fmt: skip
    """Take back what the update's guard does not allow of the step; what it read and what it kept go into `values`."""
    scale = update.scale(values)
    if scale < 1:
        for name, parameter in trained:
            parameter.copy_(before[name] + (scale * moved[name] if scale else 0))
    values |= {"step_scale": scale, "step_ratio_taken": scale * values["step_ratio"] if scale else 0.0}
