"""Bar charts for `docs/performance.md` as SVG, made with plain code; readable on a light page and on a dark one.

What it is not: a plotting library. A bar has a value and, if it was measured several times, the least and the most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, WIDE, ROW, TOP, RIGHT = 250, 420, 26, 34, 150
STYLE = (
    "<style>text { font: 13px sans-serif; fill: #333 } .n { fill: #666 } .ours { fill: #2a6fdb } .other { fill: #a0a7b4 } "
    ".w { stroke: #333; stroke-width: 1.5 } .g { stroke: #c2551e; stroke-width: 1.5; stroke-dasharray: 4 3 } .gt { fill: #c2551e } "
    "@media (prefers-color-scheme: dark) { text { fill: #ddd } .n { fill: #aaa } .ours { fill: #6ea2f2 } .other { fill: #666e7d } "
    ".w { stroke: #ddd } .g { stroke: #e58a55 } .gt { fill: #e58a55 } }</style>"
)


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    told: str
    ours: bool = False
    ends: tuple[float, float] | None = None


def bars(title: str, rows: Sequence[Bar], goal: float | None = None) -> str:
    """One bar under the other, all on one scale from 0; a dashed line where the goal of ours is."""
    most = max([row.ends[1] if row.ends else row.value for row in rows] + [goal or 0.0])
    found = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for number, row in enumerate(rows):
        y, end = TOP + ROW * number, LEFT + WIDE * row.value / most
        found.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(row.label)}</text>')
        found.append(f'<rect x="{LEFT}" y="{y + 3}" width="{end - LEFT:.1f}" height="16" class="{"ours" if row.ours else "other"}"/>')
        if row.ends:
            low, high = (LEFT + WIDE * value / most for value in row.ends)
            found.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}" class="w"/>')
            end = max(end, high)
        found.append(f'<text x="{end + 8:.1f}" y="{y + 15}" class="n">{escape(row.told)}</text>')
    bottom = TOP + ROW * len(rows)
    if goal is not None:
        x = LEFT + WIDE * goal / most
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom}" class="g"/>')
        found.append(f'<text x="{x:.1f}" y="{bottom + 14}" class="gt" text-anchor="middle">goal {goal:g}</text>')
    size = f'viewBox="0 0 {LEFT + WIDE + RIGHT} {bottom + 22}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">{STYLE}{"".join(found)}</svg>\n'
