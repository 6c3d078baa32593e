"""A picture for a few values of a few things: a row of dots each along one axis, with a line at their mean. SVG, as in `sketch.py`.

Pure; every text is escaped. What it is not: a chart to zoom into (`plots.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from workbench.core.words import number
from workbench.ui.cards import escaped
from workbench.ui.sketch import SERIES, even

WIDTH, LEFT, RIGHT, TOP, ROW, FOOT = 460, 12, 16, 2, 40, 36
NAME, DOTS = 14, 27  # below the top of a row: the foot of its name, which may be as long as the picture is wide, and its dots


def dots(rows: Mapping[str, Sequence[float]], x: str) -> str:
    """The rows in order, each with its values; those that are no number are counted beside it. The axis holds 0."""
    finite = [value for values in rows.values() for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(0.0, *finite), max(0.0, *finite)
    high = high if high > low else low + 1.0
    height = TOP + ROW * len(rows) + FOOT

    def at(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    foot = TOP + ROW * len(rows)
    grid = "".join(
        f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{TOP}" y2="{foot}"/>'
        f'<text class="tick" x="{at(tick):.1f}" y="{foot + 15}" text-anchor="middle">{number(tick)}</text>'
        for tick in even(low, high, 4)
    )
    drawn = "".join(_row(place, name, values, at) for place, (name, values) in enumerate(rows.items()))
    says = "; ".join(f"{name}: {', '.join(map(number, values))}" for name, values in rows.items())
    axis = f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 4}" text-anchor="middle">{escaped(x)}</text>'
    about = f'role="img" aria-label="{escaped(x)}. {escaped(says)}"'
    return f'<svg class="sketch dots" viewBox="0 0 {WIDTH} {height}" {about}>{grid}{drawn}{axis}</svg>'


def _row(place: int, name: str, values: Sequence[float], at: Callable[[float], float]) -> str:
    top, colour = TOP + ROW * place, f"var(--series-{1 + place % SERIES})"
    y, there, label = top + DOTS, [value for value in values if math.isfinite(value)], escaped(name)
    drawn = f'<text class="tick" x="{LEFT}" y="{top + NAME}">{label}</text>'
    if len(there) < len(values):
        drawn += f'<text class="tick" x="{LEFT + 6}" y="{y + 4}">{len(values) - len(there)} of {len(values)}: not a number</text>'
    if there:
        mean = at(fmean(there))
        drawn += f'<line x1="{mean:.1f}" x2="{mean:.1f}" y1="{y - 9}" y2="{y + 9}" style="stroke:{colour};stroke-width:2"/>'
    look = f'cy="{y}" r="4.5" style="fill:{colour};opacity:0.75"'
    return drawn + "".join(f'<circle cx="{at(value):.1f}" {look}><title>{label}: {number(value)}</title></circle>' for value in there)
