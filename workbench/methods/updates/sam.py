"""SAM: the step from here is taken along the gradient a little uphill, with AdamW inside.

The ascent [P] arXiv:2010.01412, its adaptive form and the constants of FTSAM [R] (arXiv:2304.11823, in BackdoorBench). What is said of
LoRA is derived [D]. Its effect against backdoors in text is unverified.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.adam import Adam
from workbench.core.method import knob
from workbench.materials.adam import AdamStepper
from workbench.methods.contracts import Update


class SAM(Adam, Update, title="SAM (sharpness-aware)", paper="arXiv:2010.01412"):
    """Look for flat places: step along the gradient found where the loss is worst nearby.

    $$g' = \\nabla L(\\theta + e), \\qquad e = \\rho\\, \\frac{g}{\\lVert g \\rVert}, \\qquad
    e_{\\mathrm{adaptive}} = \\rho\\, \\frac{\\theta^2 \\odot g}{\\lVert\\, |\\theta| \\odot g \\,\\rVert}, \\qquad g = \\nabla L(\\theta)$$

    AdamW then steps from θ along g′. e is one vector over all that is trained and one for the whole step, also with accumulation; both
    gradients see the same rows and the same dropout. The adaptive form, for large numbers more and for small ones less, is what
    FTSAM tunes backdoors out of image models with, at ρ = 2 [R]. It is not for LoRA [D]: it does not look along B while B is 0, and it
    changes when A grows and B shrinks alike, which the model does not; there the plain form with ρ near 0.05 is a start [S]. Where
    nothing leads uphill the step is AdamW's; where the gradient uphill is no finite number, nothing is moved and the rate plotted is 0.
    """

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    rho: float = knob(0.05, ge=0, le=10, help="ρ: how far uphill it looks; 0 is AdamW", step=0.05)
    adaptive: bool = knob(False, help="look further along large parameters; not for LoRA")

    def costs(self) -> str:
        return "Every step takes a second forward and backward pass, so training takes about twice as long." if self.rho else ""

    def begin(self, groups: list[dict[str, Any]]) -> "SAMStepper":
        return SAMStepper(self, groups)

    def bytes_per_parameter(self) -> int:
        return 12 if self.rho else 8  # two float32 moments, and the parameter itself while it stands uphill


class SAMStepper(AdamStepper):
    """AdamW, given the gradients that are found uphill."""

    def __init__(self, knobs: SAM, groups: list[dict[str, Any]]):
        super().__init__(knobs, knobs.lr, groups)
        self.knobs = knobs

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        if self.knobs.rho and not self._looked_uphill(again):
            self.optimizer.zero_grad()
            return {"lr": 0.0}
        return super().step(rate, again)

    def _looked_uphill(self, again: Callable[[], float]) -> bool:
        """Put the gradients at θ + e in place of those at θ, and leave θ as it was; False where they are not finite."""
        moving = [parameter for group in self.optimizer.param_groups for parameter in group["params"] if parameter.grad is not None]
        norm = nn.utils.get_total_norm([self._pull(parameter) for parameter in moving])
        if not norm > 0:
            return True
        before = [parameter.detach().clone() for parameter in moving]
        try:
            self._climb(moving, norm)
            again()
        finally:
            with torch.no_grad():
                for parameter, value in zip(moving, before, strict=True):
                    parameter.copy_(value)
        found = [parameter.grad for parameter in moving if parameter.grad is not None]
        return bool(nn.utils.get_total_norm(found).isfinite())

    def _pull(self, parameter: nn.Parameter) -> Tensor:
        """g, or |θ| ⊙ g: what the norm is taken of."""
        assert parameter.grad is not None
        return parameter.detach().abs() * parameter.grad if self.knobs.adaptive else parameter.grad

    @torch.no_grad()
    def _climb(self, moving: list[nn.Parameter], norm: Tensor) -> None:
        for parameter in moving:
            pull = self._pull(parameter)
            parameter.add_(self.knobs.rho * (parameter.abs() * pull if self.knobs.adaptive else pull) / norm)
