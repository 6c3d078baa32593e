"""Which blocks move when, as a strip: a row for each block, to the right the steps; drawn where an adapter takes turns or switches off.

Markup alone, from the series `moving/BLOCK` and `mask_kept` of a run. What it is not: the choice (`methods/adapters/`).
"""

from collections.abc import Mapping, Sequence

from workbench.core.words import count
from workbench.ui.context import Context

MOVING, KEPT = "moving/", "mask_kept"
WIDTH, ROW = 600, 10  # of the drawing, in its own units
Points = Sequence[tuple[int, float]]


def strip_of(ctx: Context, run: str | None) -> str:
    """The strip of a run as it stands; empty for one whose adapter never chooses anew."""
    names = [name for name in ctx.store.names(run) if name.startswith(MOVING) or name == KEPT] if run else []
    if not run or not names:
        return ""
    lines = ctx.store.lines(run, [*names, "loss"])
    (steps, _), (_, kept) = lines.pop("loss"), lines.pop(KEPT, ([], []))
    blocks = {int(name.removeprefix(MOVING)): list(zip(*line, strict=True)) for name, line in lines.items()}
    return f'<div class="strip">{strip(blocks, max(steps, default=1))}{stayed(kept)}</div>'


def strip(blocks: Mapping[int, Points], last: int) -> str:
    """Each block's share from the step at which it is told until the next; `last` is the step at which the run stands."""
    if not blocks:
        return ""
    order, now = sorted(blocks, reverse=True), sum(points[-1][1] > 0 for points in blocks.values() if points)
    bars = "".join(_bars(blocks[block], row, block, max(1, last)) for row, block in enumerate(order))
    says = f"{count(now, 'block')} of {len(blocks)} move now; the first block is at the bottom"
    height = ROW * len(order)
    return (
        f'<h4>Which blocks move</h4><svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" role="img" aria-label="{says}" '
        f'style="height:{min(height, 160)}px">{bars}</svg><p class="quiet">{says}.</p>'
    )


def _bars(points: Points, row: int, block: int, last: int) -> str:
    ends = [step for step, _ in points[1:]] + [last + 1]
    found = []
    for (step, share), end in zip(points, ends, strict=True):
        x, width = WIDTH * (step - 1) / last, WIDTH * (end - step) / last
        tip = f"<title>block {block}, from step {step}: {share:.0%}</title>"
        found.append(f'<rect x="{x:.1f}" y="{ROW * row}" width="{width:.1f}" height="{ROW - 1}" fill-opacity="{share:.2f}">{tip}</rect>')
    return "".join(found)


def stayed(shares: Sequence[float]) -> str:
    """What a choice of other entries left as it was."""
    if not shares:
        return ""
    return f'<p class="quiet">Chosen anew {count(len(shares), "time")}; at the last, {shares[-1]:.0%} of what moves had moved before.</p>'
