"""Before a step other numbers may begin to move, where the adapter says so: what is known of those that stay goes with them.

What it is not: the choice (`methods/adapters/`), or what moves in the model (`materials/region.py`, `materials/whole.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import torch

from workbench.jobs.averaging import Average
from workbench.jobs.schedule import begun
from workbench.materials.attachment import Carry
from workbench.methods.contracts import Attachment, Stepper, Update

HARDLY = 0.01  # of all tokens; a load that moved less is not told again


def redraw(step: int, attachment: Attachment, update: Update, stepper: Stepper, average: Average) -> tuple[Stepper, dict[str, float]]:
    """Moments and slow weights of the numbers that still move are kept, those of the others forgotten.

    Returns who steps from now on, and to plot `mask_kept`, the share of what moves now that moved before, where parts were chosen anew.
    """
    before = [name for name, _ in attachment.trained()]
    moved = attachment.redraw(step)
    for name, parameter in attachment.trained() if moved else ():
        if name in moved:
            stepper.carry(parameter, moved[name])
            average.carry(name, parameter, moved[name])
    told = {"mask_kept": _kept(attachment, moved)} if moved else {}
    if [name for name, _ in attachment.trained()] == before:
        return stepper, told
    average.only(attachment.trained())
    others = begun(update, attachment, {})
    others.inherit(stepper)
    return others, told


def _kept(attachment: Attachment, moved: Mapping[str, Carry]) -> float:
    stayed = count = 0
    for name, parameter in attachment.trained():
        count += parameter.numel()
        stayed += int(moved[name](torch.ones_like(parameter)).sum()) if name in moved else parameter.numel()
    return stayed / count


@dataclass
class Moving:
    """What was told last of which blocks move, and of how tokens were shared out among experts."""

    last: dict[int, float] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)

    def told(self, attachment: Attachment) -> dict[str, float]:
        """`moving/3`: the share of block 3 that moves now; `expert_load/5`: the share of the tokens that expert 5 was given. Told of all
        when they have changed, loads by more than `HARDLY`, and nothing where there are none."""
        moving, loads = attachment.moving(), attachment.loads()
        found = {} if moving == self.last else {f"moving/{block}": share for block, share in moving.items()}
        if any(abs(now - before) > HARDLY for now, before in zip_longest(loads, self.loads, fillvalue=1.0)):
            found |= {f"expert_load/{expert}": share for expert, share in enumerate(loads)}
            self.loads = loads
        self.last = moving
        return found
