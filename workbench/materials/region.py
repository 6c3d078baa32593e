"""Training a part of the weights: the part's numbers in float32 beside the model, their gradient taken out of the weights', put back.

What it is: the attachment of every adapter that names entries of the model's own weights (a mask: parameter name → `Region`). What it is
not: the choice of the mask. Consequences, each a law in the tests [V]: the gradient is that of the whole weight at those entries, exactly;
one whole gradient exists at a time, because it is let go where it was taken from; the optimizer's state is that of the part alone; the
model is at any time the tuned one, so answers and evaluation need nothing; small steps are not lost in half precision.

The values are what is true. The model takes them over at its next reading, whoever changed them: an optimizer, a guard that shortens a
step, an average that stands in for them for a while. On a GPU both ways go by `workbench_kernels/masked_adamw.py`: the gradient is taken
out by one kernel, and an AdamW that asks (`optimizers.py`) makes its step and puts it into the weight by another.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from workbench_kernels.masked_adamw import adamw_scatter, grad_gather
from workbench_kernels.road import pick

from workbench.materials.attachment import Attachment, Carry, Cost
from workbench.materials.models import weights_by_module
from workbench.materials.regions import Region, carried
from workbench.materials.sparse import save_sparse

Mask = Mapping[str, Region]
Redraw = Callable[[int], Mask | None]


class RegionAttachment(Attachment):
    """The parts named in `mask` move, all else stands still. `redraw(step)` may name other parts of the same weights before a step."""

    def __init__(self, model: PreTrainedModel, mask: Mask, redraw: Redraw = lambda step: None):
        self.model, self._redraw = model, redraw
        model.requires_grad_(False)
        self._parts = {name: Part(weight, mask[name]) for name, weight in model.named_parameters() if name in mask}
        assert len(self._parts) == len(mask), "a mask names weights of the model"
        self._away = False  # whether the base stands in the model's place
        model.base_model.register_forward_pre_hook(lambda *_: self._settle())  # training and evaluation ask the backbone alone

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, part.values) for name, part in self._parts.items()]

    def dense(self, displacement: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._parts[name].spread(step) for name, step in displacement.items()}

    def after_step(self, step: int) -> None:
        """An optimizer that is fused leaves no trace by which a change could be noticed [V]."""
        for part in self._parts.values():
            part.after_step()

    def redraw(self, step: int) -> dict[str, Carry]:
        mask = self._redraw(step)
        return {} if mask is None else {name: self._parts[name].move(region) for name, region in mask.items()}

    @contextmanager
    def base(self) -> Iterator[None]:
        self._settle()
        self._away = True
        for part in self._parts.values():
            part.go_back()
        try:
            yield
        finally:
            self._away = False
            for part in self._parts.values():
                part.return_()

    def save(self, folder: Path) -> None:
        self._settle()
        save_sparse(folder, self.model, {name: part.delta() for name, part in self._parts.items()})

    def state(self) -> dict[str, Tensor]:
        self._settle()
        return {f"{name}/{key}": tensor for name, part in self._parts.items() for key, tensor in part.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, part in self._parts.items():
            part.load_state({key: state[f"{name}/{key}"] for key in part.state()})

    def _settle(self) -> None:
        """The model takes over values that changed since it last did."""
        for part in self._parts.values() if not self._away else ():
            part.settle()


def cost(model: PreTrainedModel, moved: Mapping[str, int], in_turn: int = 0) -> Cost:
    """What moves, from how many numbers of each parameter do; counts alone, so that the model may lie on the meta device."""
    counts = dict[tuple[str, int], list[int]]()
    for name, module, layer, parameter in weights_by_module(model):
        count = counts.setdefault((module, layer), [0, 0])
        count[0] += moved.get(name, 0)
        count[1] += parameter.numel()
    by_module = [(module, layer, some, of) for (module, layer), (some, of) in counts.items()]
    return Cost(sum(row[2] for row in by_module), sum(row[3] for row in by_module), by_module, in_turn)


def evenly(count: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """`count` numbers divided by size, to the last of them: for a cost, where it is not known yet which ones they will be."""
    total, before, found = sum(sizes.values()), 0, dict[str, int]()
    for name, size in sizes.items():
        found[name] = count * (before + size) // total - count * before // total
        before += size
    return found


class Values(nn.Parameter):
    """The numbers of a part, as an optimizer has them."""

    part: "Part"


class Part:
    """One weight and the part of it that moves. `first` and `places` are what every entry that ever moved was before it did."""

    def __init__(self, weight: nn.Parameter, region: Region):
        self.weight, self.region = weight, self._here(region, weight)
        self.values = Values(self.region.gather(weight.detach()).float())
        self.values.part = self
        self.places = self.region.flat(weight.shape).sort().values
        self.first = weight.detach().reshape(-1)[self.places]
        self._seen, self._stepped = self.values._version, -1
        self._flat: Tensor | None = None  # the places of the values in the order in which they are held, once a kernel asked for them
        self._count = (torch.empty(0), 0, 0)
        weight.requires_grad_(True)
        weight.register_post_accumulate_grad_hook(self._take)

    @torch.no_grad()
    def _take(self, weight: nn.Parameter) -> None:
        """What the part needs of a whole gradient, which is let go."""
        assert weight.grad is not None
        if self.has_kernels():
            own = grad_gather(weight.grad, self.flat()).view(self.values.shape)
        else:
            own = self.region.gather(weight.grad).float()
        self.values.grad = own if self.values.grad is None else self.values.grad.add_(own)
        weight.grad = None

    def has_kernels(self) -> bool:
        return pick(self.weight) == "triton" and self.weight.is_contiguous()

    def flat(self) -> Tensor:
        if self._flat is None:
            self._flat = self.region.flat(self.weight.shape)
        return self._flat

    @torch.no_grad()
    def adamw(self, held: dict[str, Any], group: dict[str, Any]) -> None:
        """A step of the values with the settings and the state that torch's AdamW has for them, and into the weight at once."""
        values, gradient = self.values.detach().view(-1), self.values.grad
        assert gradient is not None
        if not held:
            held |= {name: torch.zeros_like(self.values) for name in ("exp_avg", "exp_avg_sq")}
            held["step"] = torch.zeros((), device=values.device)
        step = self._next(held["step"])
        moments = (held[name].view(-1) for name in ("exp_avg", "exp_avg_sq"))
        (beta1, beta2), rates = group["betas"], {"lr": group["lr"], "eps": group["eps"], "decay": group["weight_decay"]}
        adamw_scatter(self.weight, values, self.flat(), gradient.view(-1), *moments, beta1=beta1, beta2=beta2, step=step, **rates)
        self._seen = self._stepped = self.values._version

    def _next(self, counter: Tensor) -> int:
        """The number of this step. The counter lies on the GPU, which would have to be waited for: it is read where others wrote it."""
        known, version, count = self._count
        count = 1 + (count if known is counter and version == counter._version else int(counter))
        counter += 1
        self._count = (counter, counter._version, count)
        return count

    def after_step(self) -> None:
        if self._stepped != self.values._version:
            self.put()
        self._stepped = -1

    @torch.no_grad()
    def settle(self) -> None:
        if self.values._version != self._seen:
            self.put()

    @torch.no_grad()
    def put(self) -> None:
        self.region.scatter(self.weight, self.values)
        self._seen = self.values._version

    @torch.no_grad()
    def spread(self, step: Tensor) -> Tensor:
        """A step of the values as one of the whole weight."""
        whole = torch.zeros_like(self.weight, dtype=step.dtype)
        self.region.scatter(whole, step)
        return whole

    @torch.no_grad()
    def move(self, region: Region) -> Carry:
        """Another part moves from now on; what the old one learnt stays in the weight. Returns how its moments are carried over."""
        self.settle()
        before, region = self.region.flat(self.weight.shape), self._here(region, self.weight)
        now = region.flat(self.weight.shape)
        new = now[~torch.isin(now, self.places)]
        places, order = torch.cat([self.places, new]).sort()
        self.first, self.places = torch.cat([self.first, self.weight.reshape(-1)[new]])[order], places
        fresh = region.gather(self.weight).float()
        kept = torch.isin(now, before).view(fresh.shape)
        old = carried(self.values.detach(), before, now).view(fresh.shape)
        self.region, self._flat = region, None
        self.values.data = torch.where(kept, old, fresh)  # what stays in the part keeps the digits that the weight has no room for
        self.values.grad, self._seen = None, self.values._version
        return lambda moment: carried(moment, before, now).view(fresh.shape)

    @torch.no_grad()
    def go_back(self) -> None:
        flat = self.weight.view(-1)
        self._left = flat[self.places]
        flat[self.places] = self.first

    @torch.no_grad()
    def return_(self) -> None:
        self.weight.view(-1)[self.places] = self._left

    @torch.no_grad()
    def delta(self) -> tuple[Tensor, Tensor]:
        """(K,) ascending places in the flattened weight, (K,) float32 change there; the values' own digits where they still move."""
        now = self.weight.reshape(-1)[self.places].float()
        own = self.region.flat(self.weight.shape)
        now[torch.searchsorted(self.places, own)] = self.values.detach().flatten()
        return self.places, now - self.first.float()

    def state(self) -> dict[str, Tensor]:
        rest = self.weight.detach().reshape(-1)[self.places]
        return {"index": self.region.index, "values": self.values.detach(), "places": self.places, "first": self.first, "now": rest}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """The weight as it was then, wherever it stands now."""
        self.weight.view(-1)[self.places] = self.first
        own = {name: tensor.to(self.weight.device) for name, tensor in state.items()}
        self.region, self.places, self.first = self.region.moved_to(own["index"]), own["places"], own["first"].clone()
        self._flat = None
        self.weight.view(-1)[self.places] = own["now"].to(self.weight.dtype)
        self.values.data = own["values"].clone()
        self._seen = self.values._version

    @staticmethod
    def _here(region: Region, weight: Tensor) -> Region:
        return region.moved_to(region.index.to(weight.device))
