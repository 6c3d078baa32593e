"""Before a step other numbers may begin to move, where the adapter says so: what is known of those that stay goes with them.

What it is not: the choice (`methods/adapters/`), or what moves in the model (`materials/region.py`, `materials/whole.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from workbench.jobs.averaging import Average
from workbench.jobs.schedule import begun
from workbench.materials.attachment import Carry
from workbench.methods.contracts import Attachment, Stepper, Update


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
    """What was told last of which blocks move."""

    last: dict[int, float] = field(default_factory=dict)

    def told(self, attachment: Attachment) -> dict[str, float]:
        """`moving/3`: the share of block 3 that moves now; told of all blocks when it has changed, and nothing where it never does."""
        now = attachment.moving()
        if now == self.last:
            return {}
        self.last = now
        return {f"moving/{block}": share for block, share in now.items()}
