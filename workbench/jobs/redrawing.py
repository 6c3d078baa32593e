"""Before a step other numbers may begin to move, where the adapter says so: what is known of those that stay goes with them.

What it is not: the choice (`methods/adapters/`), or what moves in the model (`materials/region.py`, `materials/whole.py`).
"""

from workbench.jobs.averaging import Average
from workbench.jobs.schedule import begun
from workbench.methods.contracts import Attachment, Stepper, Update


def redraw(step: int, attachment: Attachment, update: Update, stepper: Stepper, average: Average) -> Stepper:
    """Moments and slow weights of the numbers that still move are kept, those of the others forgotten; returns who steps from now on."""
    before = [name for name, _ in attachment.trained()]
    moved = attachment.redraw(step)
    for name, parameter in attachment.trained() if moved else ():
        if name in moved:
            stepper.carry(parameter, moved[name])
            average.carry(name, parameter, moved[name])
    if [name for name, _ in attachment.trained()] == before:
        return stepper
    average.only(attachment.trained())
    others = begun(update, attachment, {})
    others.inherit(stepper)
    return others
