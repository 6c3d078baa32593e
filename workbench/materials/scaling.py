"""How the loss falls with the number of rows: the rectified scaling law, fitted to a few runs, and a line through the largest of them.

    L(D) = B / (D_l + D^β) + E

After "Selecting Large Language Model to Fine-tune via Rectified Scaling Law" (arXiv:2402.02314): what a model knows already counts like
D_l of data, so small sets lie on a flat stretch before the power law begins; with D_l = 0 it is the plain law B / D^β + E. The published
code fits the same curve as (A − E) / (1 + exp(β ln D + b)) + E, with D_l = e^−b and A = L(0) [R]. Accept-then-stop, by the same authors,
ranks models by a straight line in ln D and ln L through the largest sizes alone, as far down as they lie on it [P].
What it is not: it knows no run and no row (`jobs/forecast.py`), and nothing of loss scaling (`jobs/scaling.py`).
Tags as in the project's notes: [P] paper, [R] read in published code, [O] our own choice.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench.core.errors import WorkbenchError

FEWEST = 4  # sizes; the law has four numbers
ACCEPTED, FAR = 3, 5.0  # k and δ of accept-then-stop [P]
HUBER = 0.01  # |ln L − ln law| beyond which a point pulls no harder [O]
STARTS = 4  # of the coarse grid's best, from which the fit begins
TIGHT = 1e-12
BOUNDS = (-40.0, 60.0)  # of ln B, ln E and ln D_l; far beyond what a loss can be


@dataclass(frozen=True)
class Law:
    """L(D) = scale / (seen + D^power) + floor; `error` is the root mean square of ln L − ln law over the points of the fit."""

    scale: float
    seen: float
    power: float
    floor: float
    error: float = 0.0

    def __call__(self, size: float) -> float:
        return self.scale / (self.seen + size**self.power) + self.floor


@dataclass(frozen=True)
class Line:
    """ln L = intercept + slope · ln D, through the largest `used` of the sizes."""

    slope: float
    intercept: float
    used: int

    def __call__(self, size: float) -> float:
        return math.exp(self.intercept + self.slope * math.log(size))


def fit(sizes: Sequence[float], losses: Sequence[float], plain: bool = False) -> Law:
    """The law that lies nearest to ln L, by Huber's measure; `plain` holds D_l at 0.

    Raises:
        WorkbenchError: fewer than four sizes, or a number that is none.
    """
    from scipy.optimize import least_squares  # takes long to import, and nothing else here needs it

    points = _sorted(sizes, losses)
    if len(points) < FEWEST:
        raise WorkbenchError(f"A scaling law has four numbers, and {len(points)} sizes do not tell them. Give it {FEWEST} sizes or more.")
    low = [BOUNDS[0], math.log(0.01), BOUNDS[0], BOUNDS[0]][: 3 if plain else 4]
    high = [BOUNDS[1], math.log(5.0), math.log(min(losses)), BOUNDS[1]][: 3 if plain else 4]
    best: tuple[float, Law] | None = None
    for start in _starts(points, plain):
        inside = [min(max(value, lowest + 1e-6), highest - 1e-6) for value, lowest, highest in zip(start, low, high, strict=True)]
        found = least_squares(
            lambda p: [_gap(p, size, loss) for size, loss in points], inside, jac=lambda p: [_slopes(p, size) for size, _ in points],
            bounds=(low, high), loss="huber", f_scale=HUBER, xtol=TIGHT, ftol=TIGHT, gtol=TIGHT, x_scale="jac", max_nfev=300,
        )  # fmt: skip
        if best is None or found.cost < best[0]:
            best = float(found.cost), _law(found.x.tolist(), points)
    assert best is not None
    return best[1]


def accept_then_stop(sizes: Sequence[float], losses: Sequence[float], accepted: int = ACCEPTED, far: float = FAR) -> Line:
    """A line through the `accepted` largest sizes, and through each next smaller one that lies within `far` standard deviations of it.

    The first that does not ends it: the smaller sizes lie before the power law.

    Raises:
        WorkbenchError: fewer than two sizes.
    """
    points = [(math.log(size), math.log(loss)) for size, loss in reversed(_sorted(sizes, losses))]
    if len(points) < 2:
        raise WorkbenchError("One size alone lies on every line. Give it two sizes or more.")
    used = min(accepted, len(points))
    line, spread = _through(points[:used])
    while used < len(points) and abs(points[used][1] - line.intercept - line.slope * points[used][0]) <= far * max(spread, 1e-12):
        used += 1
        line, spread = _through(points[:used])
    return line


def _sorted(sizes: Sequence[float], losses: Sequence[float]) -> list[tuple[float, float]]:
    if not all(0 < value < math.inf for value in (*sizes, *losses)) or len(set(sizes)) < len(sizes):
        raise WorkbenchError("A scaling law needs different sizes and finite losses above 0. Leave the others out.")
    return sorted(zip(sizes, losses, strict=True))


def _through(points: Sequence[tuple[float, float]]) -> tuple[Line, float]:
    """The least-squares line, and how far the points lie from it: the root of the mean square, as the published code has it [R]."""
    x0, y0 = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - x0) * (y - y0) for x, y in points) / sum((x - x0) ** 2 for x, _ in points)
    line = Line(slope, y0 - slope * x0, len(points))
    return line, math.sqrt(sum((y - line.intercept - slope * x) ** 2 for x, y in points) / len(points))


# The fit: p = (ln B, ln β, ln E) and, but for the plain law, ln D_l.


def _parts(p: Sequence[float], size: float) -> tuple[float, float, float, float]:
    """B / (D_l + D^β), E, D^β, D_l."""
    grown, seen = size ** math.exp(p[1]), math.exp(p[3]) if len(p) > 3 else 0.0
    return math.exp(p[0]) / (seen + grown), math.exp(p[2]), grown, seen


def _gap(p: Sequence[float], size: float, loss: float) -> float:
    falling, floor, *_ = _parts(p, size)
    return math.log(falling + floor) - math.log(loss)


def _slopes(p: Sequence[float], size: float) -> list[float]:
    """How ln L moves with each of p."""
    falling, floor, grown, seen = _parts(p, size)
    share = falling / (falling + floor)
    by = [share, -share * grown / (seen + grown) * math.exp(p[1]) * math.log(size), 1 - share]
    return [*by, -share * seen / (seen + grown)][: len(p)]


def _law(p: Sequence[float], points: Sequence[tuple[float, float]]) -> Law:
    error = math.sqrt(sum(_gap(p, size, loss) ** 2 for size, loss in points) / len(points))
    return Law(math.exp(p[0]), math.exp(p[3]) if len(p) > 3 else 0.0, math.exp(p[1]), math.exp(p[2]), error)


def _starts(points: Sequence[tuple[float, float]], plain: bool) -> list[list[float]]:
    """The best of a grid over β and over the size d where D_l = d^β; B and E then follow from a linear fit."""
    first, last = points[0][0], points[-1][0]
    bends = [0.0] if plain else [first / 1000 * (4000 * last / first) ** (place / 11) for place in range(12)]
    found = []
    for power in (0.03 * (2 / 0.03) ** (place / 15) for place in range(16)):
        for bend in bends:
            found += _linear(points, power, bend**power if bend else 0.0)
    flat = [math.log(min(loss for _, loss in points) / 10), math.log(0.3), math.log(min(loss for _, loss in points) * 0.9), 0.0]
    best = [start for _, start in sorted(found)[:STARTS]] or [flat]
    return [start[:3] if plain else start for start in best]


def _linear(points: Sequence[tuple[float, float]], power: float, seen: float) -> Iterator[tuple[float, list[float]]]:
    """B and E of least relative error for these β and D_l, with that error; none where the loss would not fall."""
    rows = [(1 / (seen + size**power) / loss, 1 / loss) for size, loss in points]
    aa, ac, cc = (sum(products) for products in zip(*((a * a, a * c, c * c) for a, c in rows), strict=True))
    a1, c1 = (sum(column) for column in zip(*rows, strict=True))
    det = aa * cc - ac * ac
    scale, floor = ((a1 * cc - c1 * ac) / det, (c1 * aa - a1 * ac) / det) if det > 1e-12 * aa * cc else (a1 / aa, 0.0)
    if floor <= 0:
        floor = min(loss for _, loss in points) / 1000
        scale = sum(a * (1 - c * floor) for a, c in rows) / aa
    if scale > 0:
        error = sum((scale * a + floor * c - 1) ** 2 for a, c in rows)
        yield error, [math.log(scale), math.log(power), math.log(floor), math.log(max(seen, 1e-12))]
