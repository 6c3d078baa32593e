"""Step safety ρ_a: how far the optimizer's actual step goes, measured in units of the radius inside which it can be trusted.

Formulas [P] arXiv:2603.13552; the refined radius and the predicted KL from the same pass are ours [D]. Not here: shortening
the step, which is a knob of every update (`core/guard.py`). Not ported from the paper's repository: its controllers that use
the spread of the logits instead of their derivative, or the raw gradient instead of the optimizer's displacement; both measure
something else.
"""

import math
import re
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel
from workbench_kernels.logit_spread import Spread, logit_spread
from workbench_kernels.road import only

from workbench.core.guard import Gauge
from workbench.core.method import knob
from workbench.materials.duals import Duals
from workbench.materials.models import softcap
from workbench.materials.rounded import unpacked
from workbench.methods.contracts import Moment, Probe, Reading

QUANTILE = 0.99
SAME = 0.02  # up to which two secants are taken for the derivative
SHORTER = 8  # secants that are tried at most


class StepSafety(Probe, Gauge, title="Step safety ρ_a", paper="arXiv:2603.13552"):
    """Compare the length τ of each step with the radius ρ_a inside which the loss along it is sure to be well behaved.

    $$r = \\frac{\\tau}{\\rho_a}, \\qquad \\rho_a = \\frac{\\pi}{\\Delta_a}, \\qquad
    \\Delta_a = \\max_t \\left(\\max_k a_{t,k} - \\min_k a_{t,k}\\right), \\qquad a_t = J_{z_t} v$$

    v is the unit direction of the optimizer's actual displacement p, τ = ‖p‖, and a the derivative of a token's logits along
    it. Since J is linear, r = max_t spread(J p) / π, without normalising anything. Below 1 the linearised loss has a
    convergent series at the step; above 1 there is no guarantee. It is a reliability boundary, not a cliff: runs do well
    up to about 4, and r far above 10 means the model is being destroyed. The worst token decides, so r is careful
    by nature; the refined ratio uses the model's confidence and is less so. Behaviour at vocabularies above 50,000 is
    not known to the paper.
    """

    when = "step"

    every: int = knob(10, ge=1, le=1000, help="steps between two readings", unit="steps")
    rows: int = knob(2, ge=1, le=64, help="rows of the batch that are read; more is surer and slower", more=True)
    tokens: int = knob(512, ge=16, le=65536, help="most tokens of them that are read", more=True, log=True)

    share: float = knob(0.05, gt=0, le=1, help="of the run's time, at most; a guarded step is always read", more=True, step=0.01)

    def due(self, step: int) -> bool:
        return step == 1 or step % self.every == 0

    def budget(self) -> float:
        return self.share

    def read(self, moment: Moment) -> Reading:
        began = time.perf_counter()
        batch, learnt = self._part(moment.batch)
        if not len(learnt) or not moment.displacement:
            return Reading({})
        model = moment.attachment.model
        training = model.training
        model.eval()
        try:
            spread, share = measured(model, batch, moment.displacement, learnt)
        finally:
            model.train(training)
        finding = Finding.of(spread, norm(moment.displacement))
        values = {**finding.values(), "probe_ms": 1000 * (time.perf_counter() - began)} | ({"secant_share": share} if share else {})
        return Reading(values, self._in_words(finding, spread, batch, learnt, moment), finding.level)

    def _part(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The beginning of the first rows, and the (row, position) pairs in it whose next token is learnt, (N, 2).

        What comes later changes nothing before it, so it ends with the last such token. Where nothing is learnt so early, as behind a
        long question, all is read.
        """
        lines = min(self.rows, len(batch["labels"]))
        for width in (max(2, self.tokens // lines), batch["labels"].shape[1]):
            part = {name: tensor[:lines, :width] for name, tensor in batch.items()}
            learnt = (part["labels"][:, 1:] != -100).nonzero()[: self.tokens]
            if len(learnt):
                return {name: tensor[:, : int(learnt[:, 1].max()) + 2] for name, tensor in part.items()}, learnt
        return part, learnt

    def _in_words(self, finding: "Finding", spread: Spread, batch: dict[str, Tensor], learnt: Tensor, moment: Moment) -> str:
        if finding.ratio <= 1:
            return ""
        row, position = learnt[finding.worst].tolist()
        label = moment.decode(batch["labels"][row, position + 1].item())
        rises, falls = (moment.decode(tokens[finding.worst].item()) for tokens in (spread.rises, spread.falls))
        return (
            f"Step {moment.step}: r = {finding.ratio:.3g}. Where {label!r} should follow, the step lifts {rises!r} "
            f"and lowers {falls!r} further than the linear picture can vouch for."
        )


@dataclass(frozen=True)
class Finding:
    """One reading: the ratio r, τ, and what the same pass gives for nothing."""

    ratio: float
    refined: float
    most: float  # the ratio that 99 % of the tokens keep below
    tau: float
    kl: float
    worst: int

    @classmethod
    def of(cls, spread: Spread, tau: float) -> "Finding":
        """From per-token spreads of the unnormalised step, whose length is `tau`."""
        ratios = spread.width / math.pi
        reach = torch.maximum(spread.highest - spread.at_top, spread.at_top - spread.lowest).clamp_min(1e-30)
        refined = ((spread.margin / reach) ** 2 + (math.pi / spread.width.clamp_min(1e-30)) ** 2).rsqrt()
        worst, most = int(ratios.argmax()), ratios.quantile(QUANTILE).item()
        return cls(ratios[worst].item(), refined.max().item(), most, tau, 0.5 * spread.variance.mean().item(), worst)

    def values(self) -> dict[str, float]:
        rho_a = self.tau / self.ratio if self.ratio > 0 else math.inf
        ratios = {"step_ratio": self.ratio, "step_ratio_refined": self.refined, "step_ratio_q99": self.most}
        return {**ratios, "rho_a": rho_a, "tau": self.tau, "step_kl": self.kl}

    @property
    def level(self) -> str:
        return "info" if self.ratio <= 1 else "watch" if self.ratio <= 4 else "act"


def measured(model: PreTrainedModel, batch: dict[str, Tensor], displacement: dict[str, Tensor], learnt: Tensor) -> tuple[Spread, float]:
    """The spread of the logits' derivative along the step, and 0; or by a secant, and the share of the step that it took.

    Layers with code of their own (fused attention) may have no forward derivative. A secant over the whole step
    is blind when it matters, because a step that is too long saturates [M]: it is shortened until a shorter one sees the same.
    """
    try:
        return _spread(model, *hidden_and_derivative(model, batch, displacement, learnt), displacement), 0.0
    except (NotImplementedError, RuntimeError) as error:
        if not re.search(r"forward[- ](mode )?AD|jvp", str(error)):
            raise
    share, seen = 1.0, 0.0
    for _ in range(SHORTER):
        spread = _spread(model, *secant(model, batch, displacement, learnt, share), displacement)
        width = spread.width.max().item()
        if abs(width - seen) <= SAME * seen:
            break
        share, seen = share / 4, width
    return spread, share


def secant(
    model: PreTrainedModel, batch: dict[str, Tensor], displacement: dict[str, Tensor], learnt: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """As `hidden_and_derivative`, from the states before the step, and this share of it ahead and behind."""
    before, ahead, behind = (_states(model, batch, displacement, learnt, done) for done in (0.0, share, -share))
    return before, (ahead - behind) / (2 * share)


@torch.no_grad()
def _states(model: PreTrainedModel, batch: dict[str, Tensor], displacement: dict[str, Tensor], learnt: Tensor, done: float) -> Tensor:
    prefix = model.base_model_prefix + "."
    parameters = dict(model.named_parameters())
    moved = {
        name.removeprefix(prefix): parameters[name] - (1 - done) * step.to(parameters[name].dtype)
        for name, step in displacement.items()
        if name.startswith(prefix)
    }
    rows, positions = learnt.unbind(1)
    return functional_call(model.base_model, moved, (), _inputs(batch)).last_hidden_state[rows, positions].float()


def _inputs(batch: dict[str, Tensor]) -> dict[str, object]:
    return {**{name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}, "use_cache": False}


def hidden_and_derivative(
    model: PreTrainedModel, batch: dict[str, Tensor], displacement: dict[str, Tensor], learnt: Tensor
) -> tuple[Tensor, Tensor]:
    """(N, D) final hidden states before the step at the `learnt` (row, position) pairs, and their derivative along the step.

    Dual numbers through the backbone. Fused attention and our kernels have no forward derivative, so all takes the plain road here.
    The parameters stand after the step; what is evaluated is after − displacement, that is, before it.
    """
    prefix = model.base_model_prefix + "."
    parameters = dict(model.named_parameters())
    with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), only("reference"), unpacked(model):
        duals = {
            name.removeprefix(prefix): forward_ad.make_dual(
                parameters[name] - step.to(parameters[name].dtype), step.to(parameters[name].dtype)
            )
            for name, step in displacement.items()
            if name.startswith(prefix)
        }
        with Duals():
            states = functional_call(model.base_model, duals, (), _inputs(batch)).last_hidden_state
        value, tangent = forward_ad.unpack_dual(states)
        rows, positions = learnt.unbind(1)
        value = value[rows, positions].float()
        return value, torch.zeros_like(value) if tangent is None else tangent[rows, positions].float()


def norm(displacement: dict[str, Tensor]) -> float:
    """τ = ‖p‖₂ over all parameters that moved."""
    return torch.stack([step.norm(dtype=torch.float32) for step in displacement.values()]).norm().item()


def _spread(model: PreTrainedModel, hidden: Tensor, hidden_dot: Tensor, displacement: dict[str, Tensor]) -> Spread:
    """The head's part: its weight before the step, and its derivative where the head itself moved (or is tied to embeddings that did)."""
    head = model.get_output_embeddings()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weight_dot = displacement.get(names[id(head.weight)])
    bias_dot = None if head.bias is None else displacement.get(names[id(head.bias)])
    with torch.no_grad():
        # In the model's own numbers, which is what it was before the step; the products are then those of the model.
        weight = head.weight if weight_dot is None else (head.weight - weight_dot).to(head.weight.dtype)
        bias = head.bias if bias_dot is None else head.bias - bias_dot
        return logit_spread(hidden, hidden_dot, weight, weight_dot, bias, bias_dot, softcap(model))
