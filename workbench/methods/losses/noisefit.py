"""NoiseFiT: the model is to say the same when noise that fits its own activations is added inside it.

Tags: [R] read in the authors' code (akhadangi/NoiseFiT, two generations), [D] derived, [O] our own choice. Not ported: masking the
divergences with labels that are not shifted (off by one behind a prompt), and noise that is scaled by its strength twice.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.materials.models import blocks
from workbench.materials.token_stats import kl
from workbench.methods.contracts import Further, Loss, TokenStats

FOLD = 5.0  # the most that an unusual token's noise is enlarged [R]
FALL = 0.1  # how quickly the noise falls with the distance from the median [R]


class NoiseFiT(Loss, title="NoiseFiT", paper="arXiv:2504.03302"):
    """Learn the labels, and to say the same under noise as without it.

    $$L = \\frac{1}{M} \\sum_t \\Big[ -\\alpha \\log q_t
    + \\frac{1 - \\alpha}{2} T^2 \\sum_{i=1}^{2} \\mathrm{KL}\\big(p_t^{T} \\,\\Vert\\, p_t^{(i) T}\\big)
    + \\lambda T^2 \\mathrm{KL}\\big(p_t^{(2) T} \\,\\Vert\\, p_t^{(1) T}\\big) \\Big]$$

    p⁽ⁱ⁾ comes from a reading with noise on the outputs of some blocks; the first of each pair is a teacher without a gradient (in the
    authors' first generation it has one) [R]. The noise of a token with activations h ∈ Rᴰ is
    n · b · MAD(h) · exp(−0.1 |h − median| / MAD) · min(5, exp(var h / mean var)), n standard normal and b = strength/√D [R].
    It goes to the blocks with the highest ratio of mean |h| to mean |noise|, as the abstract says and the first
    generation does with ten probes [R]; here every batch has its own choice, taken in its plain reading, so that nothing has to be
    calibrated or kept [O]. The second generation chooses by how the divergence answers, on two batches, which is not done here.
    The paper reports fewer hallucinations on its own prompts; no figure of it was verified.
    """

    neutral = {"alpha": 1.0, "consistency": 0.0}

    alpha: float = knob(0.5, ge=0, le=1, help="α: share of the labels; the rest goes to agreeing with the plain reading", step=0.05)
    consistency: float = knob(0.1, ge=0, le=10, help="λ: how much the two noisy readings are to agree", step=0.05)
    temperature: float = knob(1.0, gt=0, le=20, help="T: more lets unlikely tokens have their say", step=0.5, more=True)
    strength: float = knob(1.0, ge=0, le=100, help="size of the noise, in units of 1/√width", step=0.25)
    layers: int = knob(3, ge=1, le=1000, help="blocks that get noise", unit="blocks")
    calmest: bool = knob(True, help="choose the blocks with the highest signal-to-noise ratio; off, the lowest", more=True)

    def costs(self) -> str:
        return "Two noisy readings of every batch: training takes about three times as long." if self._noisy() else super().costs()

    def weights(self, stats: TokenStats) -> Tensor:
        return torch.full_like(stats.logp, self.alpha)

    def further(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> "Noisy | None":
        return Noisy(self, blocks(model), batch["rows"] >= 0) if self._noisy() else None

    def difference(self, table: Tensor, again: Sequence[Tensor]) -> Tensor:
        plain, first, second = ((values / self.temperature).log_softmax(-1) for values in (table, *again))
        held = (1 - self.alpha) / 2 * (kl(plain.detach(), first) + kl(plain.detach(), second))
        return self.temperature**2 * (held + self.consistency * kl(second.detach(), first))

    def _noisy(self) -> bool:
        return self.alpha < 1 or self.consistency > 0


@dataclass
class Noisy(Further):
    """The two noisy readings of one batch. `mask` (B, T) is true where a token is."""

    knobs: NoiseFiT
    blocks: Sequence[nn.Module]
    mask: Tensor
    ratios: dict[nn.Module, float] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure each block's ratio of signal to noise."""

        def measure(block: nn.Module, _: Any, output: Any) -> None:
            hidden = _hidden(output).detach().float()[self.mask]
            size = noise_size(hidden, hidden.var(-1).mean()).mean()
            self.ratios[block] = (hidden.abs().mean() / size).item() if size > 0 else math.inf

        with _hooked(self.blocks, measure):
            yield

    def readings(self, generator: torch.Generator) -> Iterator[Any]:
        for _ in range(2):
            yield _hooked(self.chosen(), lambda _block, _, output: self._noised(output, generator))

    def chosen(self) -> list[nn.Module]:
        """The blocks that get noise, in the order of their ratios; of equal ones the earlier."""
        ranked = sorted(self.blocks, key=self.ratios.__getitem__, reverse=self.knobs.calmest)
        return ranked[: self.knobs.layers]

    def _noised(self, output: Any, generator: torch.Generator) -> Any:
        hidden = _hidden(output)
        with torch.no_grad():
            values = hidden.detach().float()
            normal = torch.randn(values.shape, generator=generator).to(values.device)
            size = noise_size(values, values[self.mask].var(-1).mean())
            noise = normal * size * self.knobs.strength / math.sqrt(values.shape[-1])
            noise *= self.mask[..., None]
        noisy = hidden + noise.to(hidden.dtype)
        return (noisy, *output[1:]) if isinstance(output, tuple) else noisy


def noise_size(hidden: Tensor, mean_variance: Tensor) -> Tensor:
    """(…, D): standard deviation of the noise of each number of (…, D) activations, at b = 1; 0 where all of a token are equal."""
    away = (hidden - hidden.median(-1, keepdim=True).values).abs()
    deviation = away.median(-1, keepdim=True).values
    fold = (hidden.var(-1, keepdim=True) / mean_variance.clamp_min(1e-30)).exp().clamp(max=FOLD)
    return deviation * (-FALL * away / deviation.clamp_min(1e-30)).exp() * fold


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
