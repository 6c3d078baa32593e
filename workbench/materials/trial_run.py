"""A short LoRA run before the real one, to see where the weights would go; it is taken back, and the model is as it was.

What it is: a LoRA beside a model for a while, a few steps of AdamW on the rows that an adapter looks at, the change of each matrix, and the
gradients on the way there. What it is not: what is made of them, which is a method's (`methods/adapters/`), or the run (`jobs/train.py`).
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.evidence import Batch, gradients, still, surprise
from workbench.materials.lora import Factors
from workbench.materials.low_rank import FIRST

RATE = 1e-3  # AdamW's, high because the steps are few


@contextmanager
def trial(model: PreTrainedModel, knobs: Ranked) -> Iterator["Trial"]:
    """For the length of a `with`, a LoRA of these knobs beside the model, always the same one; no inputs are dropped."""
    with still(model):
        wrapper = low_rank.wrapped(model, knobs, seed=0)
        try:
            yield Trial(wrapper.eval())
        finally:
            wrapper.unload()


class Trial:
    """`learn` comes first; then the change is there, by the name of the module of each matrix."""

    def __init__(self, wrapper: PeftModel):
        self.model: PreTrainedModel = wrapper.get_base_model()
        self.layers = dict(low_rank.layers(self.model))
        self.scales = {name: layer.scaling[FIRST] for name, layer in self.layers.items()}

    def learn(self, batches: Sequence[Batch], steps: int) -> Generator[Progress, None, None]:
        """So many steps, a batch each, from the first again where they are used up."""
        optimizer = torch.optim.AdamW([own for own in self.model.parameters() if own.requires_grad], lr=RATE, weight_decay=0.0)
        for step in range(steps):
            yield Progress(step, steps, "steps tried")
            surprise(self.model, batches[step % len(batches)]).backward()
            optimizer.step()
            optimizer.zero_grad()

    def changes(self) -> dict[str, Factors]:
        return {
            name: Factors(self.scales[name] * layer.lora_B[FIRST].weight.detach().double(), layer.lora_A[FIRST].weight.detach().double())
            for name, layer in self.layers.items()
        }

    def on_the_way(
        self, names: Collection[str], batches: Sequence[Batch], points: int, what: str
    ) -> Generator[Progress, None, dict[str, Tensor]]:
        """(m, n) float32, of each of these matrices the mean gradient over the batches and over as many points of the straight way from
        the start to the change, each in the middle of its part of it; all matrices go that way together."""
        layers = {f"{name}.base_layer.weight": name for name in names}
        sums = {name: torch.zeros(self.model.get_parameter(weight).shape, device=self.model.device) for weight, name in layers.items()}
        try:
            for point in range(points):
                self._go((point + 0.5) / points)
                yield from gradients(self.model, layers, batches, lambda weight, own: sums[layers[weight]].add_(own), what)
        finally:
            self._go(1.0)
        count = points * len(batches)
        return {name: low_rank.upright_of(self.layers[name].get_base_layer(), sums.pop(name)) / count for name in list(sums)}

    def _go(self, share: float) -> None:
        """Let the change be that share of itself."""
        for name, layer in self.layers.items():
            layer.scaling[FIRST] = share * self.scales[name]
