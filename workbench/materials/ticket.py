"""Full tuning first, to see which numbers go far, then from the start again with those alone: the attachment of a lottery ticket.

What it is: the turn from `WholeAttachment` to `RegionAttachment` at the second link of a run, with the weights where they began. What it is
not: when that is (`jobs/schedule.py`), or what it is good for (`methods/adapters/lottery_ticket.py`).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.attachment import Attachment, Carry
from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Elements
from workbench.materials.whole import WholeAttachment

INDEX, FIRST = "/index", "/first"  # how the names in a region's state end


class TicketAttachment(Attachment):
    """All parameters move in the first link; in the second those `count` numbers that went farthest, from where they began."""

    def __init__(self, model: PreTrainedModel, count: int):
        self.model, self.count = model, count
        self.now: Attachment = self._whole()

    @torch.no_grad()
    def next_link(self) -> None:
        assert isinstance(self.now, WholeAttachment)
        moved = dict(self.now.trained())
        for name, parameter in moved.items():  # the weights go back in a moment, so their room is free for how far they went
            parameter.sub_(self.now.start[name].to(parameter.device)).abs_()
        places = farthest(moved, self.count)
        self.now.load_state({})
        self._draw(places)

    def groups(self) -> list[dict[str, Any]]:
        return self.now.groups()

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        return self.now.trained()

    def dense(self, displacement: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.now.dense(displacement)

    def after_step(self, step: int) -> None:
        self.now.after_step(step)

    def redraw(self, step: int) -> dict[str, Carry]:
        return self.now.redraw(step)

    def base(self) -> AbstractContextManager[None]:
        return self.now.base()

    def save(self, folder: Path) -> None:
        self.now.after_step(0)  # the model takes over what stands in for the values, such as an average
        self.model.save_pretrained(folder, safe_serialization=True)

    def state(self) -> dict[str, Tensor]:
        return self.now.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        places = {name.removesuffix(INDEX): own for name, own in state.items() if name.endswith(INDEX)}
        if places and isinstance(self.now, WholeAttachment):
            self.now.load_state({})
            self._draw(places)
        elif not places and isinstance(self.now, RegionAttachment):  # the best was before the turn, and nothing is trained after it
            self._go_back(self.now)
            self.now = self._whole()
        self.now.load_state(state)

    def _whole(self) -> WholeAttachment:
        return WholeAttachment(self.model, {name for name, _ in self.model.named_parameters()})

    def _draw(self, places: Mapping[str, Tensor]) -> None:
        self.now = RegionAttachment(self.model, {name: Elements(index) for name, index in places.items()})

    @staticmethod
    @torch.no_grad()
    def _go_back(region: RegionAttachment) -> None:
        state = region.state()
        for name, values in region.trained():
            values.copy_(state[f"{name}{FIRST}"].view_as(values))
        region.after_step(0)


def farthest(sizes: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The places in each flattened tensor of the `count` largest numbers of all, ascending; sizes are float32 and not negative.

    Such numbers are in the order of their bits, so the smallest that is taken is found in 31 rounds of counting, without a sorted copy
    of a whole model. Of those that are as large as it, the first are taken.
    """
    bits = {name: own.detach().flatten().view(torch.int32) for name, own in sizes.items()}
    edge = 0
    for bit in reversed(range(31)):
        if sum(int((own >= edge | 1 << bit).sum()) for own in bits.values()) >= count:
            edge |= 1 << bit
    spare, found = count - sum(int((own > edge).sum()) for own in bits.values()), dict[str, Tensor]()
    for name, own in bits.items():
        level = (own == edge).nonzero()[:spare, 0]
        spare -= len(level)
        places = torch.cat([(own > edge).nonzero()[:, 0], level]).sort().values
        found |= {name: places} if len(places) else {}
    return found
