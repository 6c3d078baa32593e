"""How forgetting grows with what is tuned and for how long, fitted to a few runs, and how it goes along with what is learnt.

    F(P, N) = c + a · (P + p₀)^α · (N + n₀)^β        F = c₀ − c₁ · L

F is what a tuned model's loss is on text of the kind it knew: on the text, or by its base's own distributions, which is their entropy and
the KL from the base. The KL alone is no F, because it is 0 of the base, and c would have to lie below 0 [D]. P counts the numbers that
moved, N the steps, L is the loss on the new task. After "Scaling Laws for Forgetting When Fine-Tuning Large Language Models": forgetting
is a shifted power law of P and N, and falls in a straight line as L rises [P]; the exact form is ours [O].

Six numbers want at least `FEWEST` runs, with three different P and three different N among them [O]. c is found with the rest, between 0
and the least forgetting that was seen; the fit is of ln F [O]. Where runs tell c and the shifts poorly, the exponents are poor too: look
at the residuals. Nothing is foretold beyond twice, or below half, of what was seen.
What it is not: it knows no run (`jobs/forecast.py` reads those), and nothing of how forgetting is measured (`probes/forgetting.py`).
Tags as in the project's notes: [P] the paper's abstract, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError

FEWEST, LEVELS = 8, 3
FAR = 2.0  # times the most, or of the least, that was seen
HUBER = 0.01  # |ln F − ln law| beyond which a run pulls no harder [O]
STARTS = 3  # of the grid's best, from which the fit begins
TIGHT = 1e-14
FLOORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # c of the grid, over the least forgetting
SHIFTS = (1e-6, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # p₀ and n₀ of the grid, over the middle P or N


@dataclass(frozen=True)
class Tuned:
    """A run: numbers that moved, steps, loss on the new task, forgetting."""

    parameters: float
    steps: float
    loss: float
    forgetting: float


@dataclass(frozen=True)
class Law:
    """`residuals`: ln F − ln law of each run in the order in which they came; `error`, the root of their mean square."""

    floor: float
    scale: float
    parameters_shift: float
    parameters_power: float
    steps_shift: float
    steps_power: float
    seen: tuple[tuple[float, float], tuple[float, float]]  # least and most P, and N
    residuals: tuple[float, ...] = field(default=())

    @property
    def error(self) -> float:
        return _root_mean_square(self.residuals)

    def __call__(self, parameters: float, steps: float) -> float:
        """Forgetting to come.

        Raises:
            WorkbenchError: that lies too far from what was seen.
        """
        _near(parameters, self.seen[0], "tuned numbers")
        _near(steps, self.seen[1], "steps")
        grown = (parameters + self.parameters_shift) ** self.parameters_power * (steps + self.steps_shift) ** self.steps_power
        return self.floor + self.scale * grown


@dataclass(frozen=True)
class Line:
    """F = start − slope · L; `residuals`: F less the line."""

    start: float
    slope: float
    seen: tuple[float, float]  # least and most L
    residuals: tuple[float, ...] = field(default=())

    @property
    def error(self) -> float:
        return _root_mean_square(self.residuals)

    def __call__(self, loss: float) -> float:
        """Forgetting to come where the new task's loss is this.

        Raises:
            WorkbenchError: that lies too far from what was seen.
        """
        _near(loss, self.seen, "nats of loss on the new task")
        return self.start - self.slope * loss


def fit(runs: Sequence[Tuned]) -> Law:
    """The law that lies nearest to ln F, by Huber's measure.

    Raises:
        WorkbenchError: too few runs, too few different P or N among them, or a number that is none.
    """
    from scipy.optimize import least_squares  # takes long to import, and nothing else here needs it

    _checked(runs)
    parameters, steps = ([own.parameters for own in runs], [own.steps for own in runs])
    for own, what in ((parameters, "numbers of tuned parameters"), (steps, "numbers of steps")):
        if len(set(own)) < LEVELS:
            raise WorkbenchError(f"The law tells a shift and a power from {LEVELS} different {what} or more. Add runs with others.")
    numbers = torch.tensor([parameters, steps, [own.forgetting for own in runs]], dtype=torch.float64)
    middles, logs = numbers[:2].log().mean(1).exp(), numbers[2].log()
    scaled = numbers[:2] / middles[:, None]
    least = float(numbers[2].min())
    low, high = [0.0, -60.0, -20.0, -8.0, -20.0, -8.0], [least, 60.0, 10.0, 2.0, 10.0, 2.0]

    def gaps(p: Sequence[float]) -> list[float]:
        return (_forgetting(torch.as_tensor(p, dtype=torch.float64), scaled).log() - logs).tolist()

    found = [
        least_squares(
            gaps, _inside(start, low, high), bounds=(low, high), jac="3-point", loss="huber", f_scale=HUBER, x_scale="jac", xtol=TIGHT,
            ftol=TIGHT, gtol=TIGHT, max_nfev=200,
        )
        for start in _starts(scaled, numbers[2])
    ]  # fmt: skip
    best = min(found, key=lambda one: one.cost)
    return _law(best.x.tolist(), middles.tolist(), (_ends(parameters), _ends(steps)), tuple(-gap for gap in gaps(best.x)))


def line(runs: Sequence[Tuned]) -> Line:
    """The least-squares line.

    Raises:
        WorkbenchError: too few runs, all with one loss, or a number that is none.
    """
    _checked(runs)
    losses = [own.loss for own in runs]
    if len(set(losses)) < 2:
        raise WorkbenchError("All runs have the same loss on the new task, so no line can be drawn. Add runs with other settings.")
    x0, y0 = (sum(own) / len(runs) for own in (losses, [own.forgetting for own in runs]))
    slope = -sum((own.loss - x0) * (own.forgetting - y0) for own in runs) / sum((loss - x0) ** 2 for loss in losses)
    start = y0 + slope * x0
    return Line(start, slope, _ends(losses), tuple(own.forgetting - start + slope * own.loss for own in runs))


def _checked(runs: Sequence[Tuned]) -> None:
    if len(runs) < FEWEST:
        raise WorkbenchError(f"A law of forgetting has six numbers, and {len(runs)} runs do not tell them. Give it {FEWEST} or more.")
    if not all(0 < number < math.inf for own in runs for number in (own.parameters, own.steps, own.loss, own.forgetting)):
        raise WorkbenchError("A law of forgetting needs finite numbers above 0. Leave the other runs out.")


def _near(asked: float, seen: tuple[float, float], what: str) -> None:
    if not seen[0] / FAR <= asked <= seen[1] * FAR:
        raise WorkbenchError(
            f"{asked:,.4g} {what} lie too far from the {seen[0]:,.4g} to {seen[1]:,.4g} of the runs to foretell anything. "
            f"Ask for something between {seen[0] / FAR:,.4g} and {seen[1] * FAR:,.4g}, or add a run out there."
        )


def _ends(numbers: Sequence[float]) -> tuple[float, float]:
    return min(numbers), max(numbers)


def _root_mean_square(numbers: Sequence[float]) -> float:
    return math.sqrt(sum(own * own for own in numbers) / len(numbers)) if numbers else 0.0


# The fit: p = (c, ln a, ln p₀, ln α, ln n₀, ln β), with P and N over their geometric means.


def _forgetting(p: Tensor, scaled: Tensor) -> Tensor:
    """(n,) what the law says."""
    tuned, took = ((scaled[place] + p[2 + 2 * place].exp()).log() * p[3 + 2 * place].exp() for place in (0, 1))
    return p[0] + (p[1] + tuned + took).exp()


def _starts(scaled: Tensor, forgetting: Tensor) -> list[list[float]]:
    """The best of a grid over c and the shifts; a, α and β then follow from a linear fit of ln(F − c)."""
    least, grid = float(forgetting.min()), [(floor, p, n) for floor in FLOORS for p in SHIFTS for n in SHIFTS]
    floors = torch.tensor([[floor * least] for floor, _, _ in grid], dtype=torch.float64)
    shifts = torch.tensor([[[p], [n]] for _, p, n in grid], dtype=torch.float64)
    logs = (scaled + shifts).log()  # (grid, 2, n)
    table = torch.stack([torch.ones_like(logs[:, 0]), logs[:, 0], logs[:, 1]], -1)
    found = torch.linalg.lstsq(table, (forgetting - floors).log().unsqueeze(-1)).solution
    told = floors + (table @ found)[..., 0].exp()
    errors = (told.log() - forgetting.log()).square().sum(1)
    starts = []
    for place in errors.argsort()[:STARTS].tolist():
        floor, p, n = grid[place]
        scale, *powers = found[place, :, 0].tolist()
        tuned, took = (math.log(max(power, 1e-3)) for power in powers)
        starts.append([floor * least, scale, math.log(p), tuned, math.log(n), took])
    return starts


def _inside(start: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[float]:
    return [min(max(own, least + 1e-9), most - 1e-9) for own, least, most in zip(start, low, high, strict=True)]


def _law(
    p: Sequence[float], middles: Sequence[float], seen: tuple[tuple[float, float], tuple[float, float]], residuals: tuple[float, ...]
) -> Law:  # fmt: skip
    """In the units of P and N."""
    tuned, took = math.exp(p[3]), math.exp(p[5])
    scale = math.exp(p[1] - tuned * math.log(middles[0]) - took * math.log(middles[1]))
    return Law(p[0], scale, math.exp(p[2]) * middles[0], tuned, math.exp(p[4]) * middles[1], took, seen, residuals)
