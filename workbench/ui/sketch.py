"""Small pictures as SVG, drawn by the server in a millisecond and coloured by the page's own variables, for light and dark alike.

For pictures that are redrawn while a slider moves; what one zooms into or reads off belongs into `plots.py`. Pure functions from
numbers to markup; every text is escaped. A point says what it is on hover and to a screen reader (`<title>`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.core.words import number
from workbench.ui.cards import escaped

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 34
SERIES = 6  # colours there are
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A handle at (x, y): dragged up or down it sets the number of `widget`, less that of the widget `less` if one is named."""

    x: float
    y: float
    widget: str
    says: str
    less: str = ""


def lines(
    series: Mapping[str, Points], x: str, y: str, *, log: bool = False, ticks: Mapping[float, str] | None = None,
    marks: Sequence["Mark"] = (), zero: bool = True, says: str = "", dots: Sequence[str] = (),
) -> str:  # fmt: skip
    """One line a name over x, or dots alone for the names in `dots`. `ticks` replace the numbers below; `marks` are handles on the
    lines that may be dragged."""
    drawn = {name: [(a, b) for a, b in points if math.isfinite(b) and (b > 0 or not log)] for name, points in series.items()}
    points = [point for line in drawn.values() for point in line]
    if not points:
        return ""
    frame = Frame.around(points, log, zero)
    grid = "".join(frame.rule(value) for value in frame.ticks())
    below = ticks or {value: number(value) for value in even(*frame.across, 5)}
    feet = "".join(frame.foot(value, text) for value, text in below.items())
    curves = "".join(frame.curve(place, name, line, name not in dots) for place, (name, line) in enumerate(drawn.items()))
    handles = "".join(map(frame.handle, marks))
    scale = f'data-low="{frame.up[0]:g}" data-high="{frame.up[1]:g}" data-top="{TOP}" data-bottom="{HEIGHT - BOTTOM}"'
    return (
        f'<svg class="sketch" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(says or y)}" {scale}>'
        f"{grid}{feet}{curves}{handles}{axes(x, y)}</svg>{legend(list(drawn)) if len(drawn) > 1 else ''}"
    )


def bars(
    edges: Sequence[float], stacks: Mapping[str, Sequence[int]], cuts: Sequence[float], x: str, y: str, says: str, stretch: bool = False
) -> str:
    """A histogram between `edges`, one count a stack and part, the stacks on one another; a line at each cut. With `stretch` one may drag
    across it to choose a stretch of x (`Workbench.stretching` in page.js).

    A bar that is there is at least a pixel high, or one row in a million could not be seen.
    """
    totals = [sum(parts) for parts in zip(*stacks.values(), strict=True)]
    frame = Frame((edges[0], edges[-1]), (0, max(totals) * 1.08), log=False)
    drawn, floor = [], [0] * len(totals)
    for place, (name, counts) in enumerate(stacks.items()):
        for at, count in enumerate(counts):
            left, right, low, high = frame.x(edges[at]), frame.x(edges[at + 1]), frame.y(floor[at]), frame.y(floor[at] + count)
            tall = max(1.0, low - high) if count else 0.0
            said = f"{number(edges[at])} to {number(edges[at + 1])}: {count:,} {escaped(name)}"
            box = f'x="{left + 0.5:.1f}" y="{low - tall:.1f}" width="{max(1.0, right - left - 1):.1f}" height="{tall:.1f}"'
            drawn.append(f'<rect {box} style="fill:var(--series-{1 + place % SERIES})"><title>{said}</title></rect>' if count else "")
        floor = [below + count for below, count in zip(floor, counts, strict=True)]
    grid = "".join(frame.rule(value) for value in frame.ticks() if value == int(value))
    feet = "".join(frame.foot(value, number(value)) for value in even(*frame.across, 5))
    ends = f'y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
    lines_ = "".join(f'<line class="cut" x1="{frame.x(cut):.1f}" x2="{frame.x(cut):.1f}" {ends}/>' for cut in cuts)
    picture = f"{grid}{feet}{''.join(drawn)}{lines_}{axes(x, y)}"
    scale = f'data-first="{edges[0]!r}" data-last="{edges[-1]!r}" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" ' if stretch else ""
    return (
        f'<svg class="sketch" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(says)}" {scale}>{picture}</svg>'
        f"{legend(list(stacks)) if len(stacks) > 1 else ''}"
    )


def axes(x: str, y: str) -> str:
    """What runs along the two axes, in words."""
    return (
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 3}" text-anchor="middle">{escaped(x)}</text>'
        f'<text class="axis" x="{-HEIGHT / 2:.0f}" y="11" text-anchor="middle" transform="rotate(-90)">{escaped(y)}</text>'
    )


def beads(places: Mapping[str, tuple[float, float]], strong: str, says: str) -> str:
    """Models as beads on strings from the first one, the base; `strong` is the one that is being made."""
    (origin, start), *others = places.items()
    reach = max((math.hypot(*place) for place in places.values()), default=0) or 1.0
    left = min(0.0, *(x for x, _ in places.values())) / reach
    width, middle = WIDTH - 150, HEIGHT / 2
    scale = min(width / (1 - left), (HEIGHT / 2 - 24))

    def at(place: tuple[float, float]) -> tuple[float, float]:
        return 40 - left * scale + place[0] / reach * scale, middle - place[1] / reach * scale

    drawn = []
    x0, y0 = at(start)
    heights = _not_on_each_other([at(place)[1] for _, place in others])
    for index, ((name, place), height) in enumerate(zip(others, heights, strict=True)):
        x, y = at(place)
        kind, size = ("strong", 8) if name == strong else ("", 6)
        colour = f' style="--bead:{"var(--accent)" if kind else f"var(--series-{1 + index % SERIES})"}"'
        far = f"{escaped(name)}: {100 * math.hypot(*place):.2g} % of the base's norm away from it"
        drawn += [
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x:.1f}" y2="{y:.1f}" class="string {kind}"{colour}/>',
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="bead"{colour}><title>{far}</title></circle>',
            f'<text x="{x + 12:.1f}" y="{height + 4:.1f}">{escaped(name)}</text>',
        ]
    drawn += [
        f'<circle cx="{x0:.1f}" cy="{y0:.1f}" r="6" class="origin"/>',
        f'<text x="{x0:.1f}" y="{y0 + 20:.1f}" text-anchor="middle">{escaped(origin)}</text>',
    ]
    return f'<svg class="sketch beads" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(says)}">{"".join(drawn)}</svg>'


def _not_on_each_other(heights: Sequence[float], least: float = 15) -> list[float]:
    """The heights, each at least so far from the next, moved apart around their middle."""
    found = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for above, below in pairwise(order):
        found[below] = max(found[below], found[above] + least)
    moved = sum(found) / len(found) - sum(heights) / len(heights) if found else 0.0
    return [height - moved for height in found]


def legend(names: Sequence[str]) -> str:
    """The colours of the lines, in words."""
    entries = "".join(
        f'<span><i style="background:var(--series-{1 + place % SERIES})"></i>{escaped(name)}</span>' for place, name in enumerate(names)
    )
    return f'<div class="sketch-legend">{entries}</div>'


class Frame:
    """Where numbers lie on the paper. `across` and `up` are the ends of the axes."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float], log: bool):
        self.across, self.up, self.log = across, up, log

    @classmethod
    def around(cls, points: Points, log: bool, zero: bool) -> "Frame":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        if log:
            return cls((min(xs), max(xs)), (10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.0001))), log)
        low = min(0.0, low) if zero else low
        room = (high - low) or abs(high) or 1.0
        return cls((min(xs), max(xs)), (low - (0.05 * room if low < 0 or not zero else 0), high + 0.08 * room), log)

    def x(self, value: float) -> float:
        first, last = self.across
        return LEFT + (WIDTH - LEFT - RIGHT) * ((value - first) / (last - first) if last > first else 0.5)

    def y(self, value: float) -> float:
        low, high = map(math.log10, self.up) if self.log else self.up
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((math.log10(value) if self.log else value) - low) / (high - low)

    def ticks(self) -> list[float]:
        if not self.log:
            return even(*self.up, 4)
        first, last = (round(math.log10(end)) for end in self.up)
        return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 4))]

    def rule(self, value: float) -> str:
        y = self.y(value)
        line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        return f'{line}<text class="tick" x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'

    def foot(self, value: float, text: str) -> str:
        return f'<text class="tick" x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escaped(text)}</text>'

    def curve(self, place: int, name: str, points: Points, joined: bool) -> str:
        colour, label = f"var(--series-{1 + place % SERIES})", escaped(name)
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dots = "".join(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" style="fill:{colour}"><title>{label}: {number(y)}</title></circle>'
            for x, y in points
        )
        return f'<polyline points="{path}" style="stroke:{colour}"/>{dots}' if joined else dots

    def handle(self, mark: Mark) -> str:
        place = f'cx="{self.x(mark.x):.1f}" cy="{self.y(mark.y):.1f}"'
        widgets = f'data-handle="{escaped(mark.widget)}" data-less="{escaped(mark.less)}"'
        words = f'role="slider" aria-label="{escaped(mark.says)}" aria-valuenow="{mark.y:g}" tabindex="0"'
        return f'<circle class="handle" {place} r="9" {widgets} {words}><title>{escaped(mark.says)}</title></circle>'


def even(low: float, high: float, about: int) -> list[float]:
    """About so many round numbers between the ends."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(step * place, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]
