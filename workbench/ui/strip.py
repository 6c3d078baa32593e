"""Which blocks move when, and what each expert is given, as strips: a row for each block or expert, to the right the steps.

Markup alone, from the series `moving/BLOCK`, `expert_load/EXPERT` and `mask_kept` of a run, where there are any. What it is not: the
choice (`methods/adapters/`).
"""

from collections.abc import Mapping, Sequence

from workbench.core.words import count
from workbench.ui.context import Context

MOVING, LOAD, KEPT = "moving/", "expert_load/", "mask_kept"
WIDTH, ROW = 600, 10  # of the drawing, in its own units
Points = Sequence[tuple[int, float]]
Line = tuple[Sequence[int], Sequence[float]]


def strip_of(ctx: Context, run: str | None) -> str:
    """The strip of a run as it stands; empty for one whose adapter never chooses anew."""
    names = [name for name in ctx.store.names(run) if name.startswith((MOVING, LOAD)) or name == KEPT] if run else []
    if not run or not names:
        return ""
    lines = ctx.store.lines(run, [*names, "loss"])
    (steps, _), (_, kept) = lines.pop("loss"), lines.pop(KEPT, ([], []))
    last = max(steps, default=1)
    return f'<div class="strip">{strip(_numbered(lines, MOVING), last)}{shared(_numbered(lines, LOAD), last)}{stayed(kept)}</div>'


def _numbered(lines: Mapping[str, Line], prefix: str) -> dict[int, Points]:
    """The series of that kind by their number."""
    return {int(name.removeprefix(prefix)): list(zip(*line, strict=True)) for name, line in lines.items() if name.startswith(prefix)}


def strip(blocks: Mapping[int, Points], last: int) -> str:
    """Each block's share from the step at which it is told until the next; `last` is the step at which the run stands."""
    if not blocks:
        return ""
    now = sum(points[-1][1] > 0 for points in blocks.values() if points)
    says = f"{count(now, 'block')} of {len(blocks)} move now; the first block is at the bottom"
    return _drawn("Which blocks move", "block", blocks, last, 1.0, says)


def shared(experts: Mapping[int, Points], last: int) -> str:
    """What share of the tokens each expert is given; the darkest is twice an equal share or more."""
    if not experts:
        return ""
    shares = {expert: points[-1][1] for expert, points in experts.items() if points}
    most = max(shares, key=lambda expert: shares[expert])
    says = f"Equal shares are {1 / len(experts):.0%}; expert {most} has most now, {shares[most]:.0%}"
    return _drawn("What each expert is given", "expert", experts, last, len(experts) / 2, says)


def _drawn(title: str, what: str, rows: Mapping[int, Points], last: int, strength: float, says: str) -> str:
    order = sorted(rows, reverse=True)
    bars = "".join(_bars(rows[number], row, f"{what} {number}", max(1, last), strength) for row, number in enumerate(order))
    height = ROW * len(order)
    return (
        f'<h4>{title}</h4><svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" role="img" aria-label="{says}" '
        f'style="height:{min(height, 160)}px">{bars}</svg><p class="quiet">{says}.</p>'
    )


def _bars(points: Points, row: int, what: str, last: int, strength: float) -> str:
    ends = [step for step, _ in points[1:]] + [last + 1]
    found = []
    for (step, share), end in zip(points, ends, strict=True):
        x, width = WIDTH * (step - 1) / last, WIDTH * (end - step) / last
        tip, depth = f"<title>{what}, from step {step}: {share:.0%}</title>", min(1.0, share * strength)
        found.append(f'<rect x="{x:.1f}" y="{ROW * row}" width="{width:.1f}" height="{ROW - 1}" fill-opacity="{depth:.2f}">{tip}</rect>')
    return "".join(found)


def stayed(shares: Sequence[float]) -> str:
    """What a choice of other entries left as it was."""
    if not shares:
        return ""
    return f'<p class="quiet">Chosen anew {count(len(shares), "time")}; at the last, {shares[-1]:.0%} of what moves had moved before.</p>'
