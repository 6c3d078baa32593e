"""How fast a run goes and where its time and memory go, as bars; in place of a speed the reason where there is none to tell.

Markup alone. What it is not: the judgement (`core/performance.py`) or the measuring (`jobs/clock.py`).
"""

import math
from collections.abc import Callable

from workbench.core.errors import WorkbenchError
from workbench.core.performance import GRADIENT, MOVED, SPEED, Parts, Performance, percent, performance, rate, total
from workbench.core.words import number, size
from workbench.runs.records import LIVE, Run
from workbench.runs.store import Store
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.forms import sentence_case


def performance_of(ctx: Context, run_id: str | None) -> str:
    """The panel of a run as it stands."""
    try:
        run = ctx.store.run(run_id or "")
    except WorkbenchError:  # none is chosen, or it was deleted in another page
        return ""
    if SPEED not in run.metrics:
        waits = run.status in LIVE
        return f'<p class="quiet">{"No speed yet: no step was taken." if waits else "This run measured no speed."}</p>'
    return panel(performance(run.metrics, run.step, lambda names, first: ctx.store.lines(run.id, names, first)))


def speed_of(store: Store, run: Run) -> float:
    """Tokens a second as the panel tells them; NaN where it tells none."""
    ends = {name: run.metrics[name] for name in (SPEED, GRADIENT, MOVED) if name in run.metrics}
    return performance(ends, run.step, lambda names, first: store.lines(run.id, names, first)).tokens_per_s if SPEED in ends else math.nan


def panel(found: Performance) -> str:
    """The speed or why there is none, then a bar for each thing that has parts."""
    bars = (
        _bar("What a batch holds", found.places, percent),
        _bar(f"A step: {number(total(found.time))} ms", found.time, lambda took: f"{number(took)} ms"),
        _bar(f"Memory: {size(total(found.memory))}", found.memory, size),
        _reach(found),
    )
    return f'<div class="speed">{_speed(found)}{"".join(bars)}</div>'


def _speed(found: Performance) -> str:
    if found.refused:
        why = escaped(sentence_case(found.refused))
        return f'<div class="card {"act" if found.idle else ""}" role="status"><strong>No speed is shown</strong><p>{why}</p></div>'
    first, last = found.steps
    warns = f'<p class="warns">{escaped(found.warns)}</p>' if found.warns else ""
    of = f"tokens/s without padding · median of steps {first:,} to {last:,}"
    return f"<p><b>{number(found.tokens_per_s)}</b> {of}</p>{warns}"


def _bar(title: str, parts: Parts, words: Callable[[float], str]) -> str:
    """The parts side by side, and below them in words; nothing without any. The last one is what is left of the whole."""
    whole = total(parts)
    if not whole:
        return ""
    colours = [f"var(--series-{place})" for place in range(1, len(parts))] + ["var(--line-strong)"]
    pieces, legend = "", ""
    for (what, amount), colour in zip(parts, colours, strict=True):
        share = percent(amount / whole)
        said = share if words(amount) == share else f"{words(amount)} · {share}"
        pieces += f'<i style="flex:{amount / whole:.4f} 0 0;background:{colour}" title="{escaped(what)}: {said}"></i>'
        legend += f'<li><i style="background:{colour}"></i>{escaped(what)} <b>{said}</b></li>'
    return f'<h4>{escaped(title)}</h4><div class="pieces" aria-hidden="true">{pieces}</div><ul>{legend}</ul>'


def _reach(found: Performance) -> str:
    """How much of what the machine's matrix products reach is done; nothing where nobody counted it or measured them."""
    share = found.work / found.ceiling
    if not share > 0:
        return ""
    done = f"{percent(share)} of what this machine’s matrix products reach: {rate(found.work)} of {rate(found.ceiling)}"
    piece = f'<i style="width:{min(1.0, share):.1%};background:var(--accent)"></i>'
    return f'<h4>Arithmetic</h4><div class="pieces" aria-hidden="true">{piece}</div><ul><li>{done}</li></ul>'
