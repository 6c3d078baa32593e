"""Before a step other numbers may begin to move, where the adapter says so: what is known of those that stay goes with them.

What it is not: the choice (`methods/adapters/`), or the part of the model that moves (`materials/region.py`).
"""

from workbench.jobs.averaging import Average
from workbench.methods.contracts import Attachment, Stepper


def redraw(step: int, attachment: Attachment, stepper: Stepper, average: Average) -> None:
    """Moments and slow weights of the numbers that still move are kept, those of the others forgotten."""
    moved = attachment.redraw(step)
    for name, parameter in attachment.trained() if moved else ():
        if name in moved:
            stepper.carry(parameter, moved[name])
            average.carry(name, parameter, moved[name])
