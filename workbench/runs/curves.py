"""The numbers of a run as lines to draw: deltas for those who follow, few points that keep every extreme for those who look.

Asks the database through a function it is given and names no engine. Source of the decimation: bins of 2^k steps anchored at
step 0, each standing for its lowest and its highest point, so that appending never moves a point of a complete bin until
k grows; NaN and infinities are never dropped with the numbers around them.
"""

from collections.abc import Iterable, Sequence

from workbench.runs.records import Delta, Line, bin_width
from workbench.runs.schema import Ask

FAR = 10_000  # points behind which a reader is given a new picture instead of everything it missed
POINTS = 2_000

SIZES = """
SELECT name, count(*), min(step), max(step), arg_max(value, step), count(*) FILTER (NOT isfinite(value)) FROM metrics
WHERE run = $run AND step BETWEEN $first AND $last AND name IN (SELECT unnest($names)) GROUP BY name
"""

# The newest bin is not complete; it is drawn in finer ones (by 2^4), so that the living end of a long line is not a bar.
BINNED = """
FROM metrics JOIN (
    SELECT unnest($names) AS name, unnest($coarse) AS coarse, unnest($fine) AS fine, unnest($tail) AS tail
) USING (name)
WHERE run = $run AND step BETWEEN $first AND $last AND {which}
GROUP BY name, step >= tail, step >> CASE WHEN step >= tail THEN fine ELSE coarse END
"""
# Among equal values the one that was written first stands for the bin (one thread reads, in that order).
EXTREMES = "SELECT name, arg_min(step, value), min(value), arg_max(step, value), max(value) " + BINNED.format(which="isfinite(value)")
ODD = "SELECT name, min(step), any_value(value) " + BINNED.format(which="NOT isfinite(value)") + ", isnan(value), value > 0"


def series(ask: Ask, number: int, names: Sequence[str], points: int = POINTS, first: int = 0, last: int = 2**62) -> dict[str, Line]:
    """Lines of a run between two steps (inclusive), each in about `points` points; all of them where there are no more.

    A name that was not measured there has no points. Two passes over the run's numbers, however many names.
    """
    where = {"run": number, "first": first, "last": last}
    sizes = ask(SIZES, where | {"names": list(names)})
    if not sizes:
        return {name: ([], []) for name in names}
    widths = [bin_width(points, count, low, high) for _, count, low, high, *_ in sizes]
    plan = where | {
        "names": [size[0] for size in sizes],
        "coarse": widths,
        "fine": [max(0, width - 4) for width in widths],
        "tail": [size[3] >> width << width for size, width in zip(sizes, widths, strict=True)],
    }
    kept: dict[str, set[tuple[int, float]]] = {name: set() for name in names}
    for name, low_step, low, high_step, high in ask(EXTREMES, plan):
        kept[name] |= {(low_step, low), (high_step, high)}
    for name, step, value in ask(ODD, plan) if any(size[5] for size in sizes) else []:
        kept[name].add((step, value))
    for name, _, _, newest, value, _ in sizes:
        if newest not in {step for step, _ in kept[name]}:
            kept[name].add((newest, value))
    return {name: _line(found) for name, found in kept.items()}


def since(ask: Ask, number: int, cursor: int, names: list[str], seq: int, reset_seq: int) -> Delta:
    """What was measured after `cursor`, where the run now stands at `seq`.

    A reader gets a whole picture at its first call (cursor 0), when it is far behind, and when points it holds have been
    replaced since (`reset_seq`: a resumed run measured them again).
    """
    if cursor == 0 or cursor < reset_seq or cursor > seq or seq - cursor > FAR:
        return Delta(seq, series(ask, number, names), reset=True)
    points: dict[str, list[tuple[int, float]]] = {}
    rows = ask("SELECT name, step, value FROM metrics WHERE run = ? AND seq > ? ORDER BY seq", [number, cursor]) if cursor < seq else []
    for name, step, value in rows:
        points.setdefault(name, []).append((step, value))
    return Delta(seq, {name: _line(found) for name, found in points.items()}, reset=False)


def _line(found: Iterable[tuple[int, float]]) -> Line:
    pairs = sorted(found, key=lambda pair: pair[0])
    return [step for step, _ in pairs], [value for _, value in pairs]
