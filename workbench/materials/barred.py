"""A LoRA that may not read some directions of what its matrices are given.

What it is: LoRA's layers, of which each A is put back behind its bars after every step, A ← A − (A V) Vᵀ with V orthonormal. What it is
not: which directions, which is a method's (`methods/adapters/`). The numbers themselves are put back and not their gradient, because an
optimizer that scales each number by itself turns the step [D]. Where A V = 0, what lies in the span of V says nothing to the change, so the
matrix answers it as the base does. Tags as in the project's notes: [D] derived.
"""

from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor

from workbench.materials import low_rank
from workbench.materials.low_rank import FIRST, LowRankAttachment


class BarredAttachment(LowRankAttachment):
    """`directions` as `bar` takes them; more may be barred before the first step."""

    def __init__(self, wrapper: PeftModel, directions: Mapping[str, Tensor]):
        super().__init__(wrapper)
        self.barred: list[tuple[Tensor, Tensor]] = []
        self.bar(directions)

    def bar(self, directions: Mapping[str, Tensor]) -> None:
        """(n, k) orthonormal columns by the name of the module that may not read them; one that is not named, or not adapted, is free."""
        factors = {name: layer.lora_A[FIRST].weight for name, layer in low_rank.layers(self.model)}
        self.barred += [(factors[name], own.to(factors[name])) for name, own in directions.items() if name in factors]
        self.after_step(0)  # B is still 0, so this changes nothing that the model says

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for factor, directions in self.barred:
            factor -= factor @ directions @ directions.T
