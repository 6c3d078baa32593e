"""What is known of a run before it starts: the mistakes of its spec, what will move, whether it fits, how long it takes.

Every sentence is either good to know (green), worth a look (amber) or stops the start (red). Reads, never starts anything.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.curate import look, tokenizer_of
from workbench.jobs.estimate import estimate
from workbench.runs.records import Run
from workbench.ui.cards import error_card, escaped
from workbench.ui.context import Context
from workbench.ui.words import count, duration, number, run_label, size

Line = tuple[str, str]
"""("safe" or "watch", sentence)"""
TIGHT = 0.8  # share of the machine's memory above which a run is worth a look


def plan(ctx: Context, spec: Mapping[str, Any]) -> str:
    """All of it as HTML; a spec with mistakes gives one card that names them all."""
    try:
        parsed = TrainSpec.parse(spec)
        lines = [*_moves(ctx, parsed), *_data(ctx, parsed)]
    except WorkbenchError as error:
        return error_card(error)
    items = "".join(f'<li class="{level}">{escaped(sentence)}</li>' for level, sentence in lines)
    return f'<p class="takes">{escaped(takes(parsed, ctx.store.runs("train")))}</p><ul class="audit">{items}</ul>'


def takes(spec: TrainSpec, runs: list[Run]) -> str:
    """How long it will take, judged by the newest finished run of the same base; else what is not known yet."""
    rows = spec.batch_size * spec.accumulate
    said = f"{count(spec.steps, 'step')} of {count(rows, 'row')}"
    for run in runs:
        if run.status == "finished" and run.spec.get("model") == spec.model and run.started and run.ended and run.step:
            before = max(1, run.spec.get("batch_size", rows) * run.spec.get("accumulate", 1))
            seconds = (run.ended - run.started).total_seconds() / run.step * spec.steps * rows / before
            return f"{said} · about {duration(seconds)}, judged by run {run_label(run.id, run.name)}"
    return f"{said} · how long a step takes here is known after the first run"


def _moves(ctx: Context, spec: TrainSpec) -> Iterator[Line]:
    known = estimate(spec, ctx.workspace)
    share = known.trained / max(1, known.total)
    yield "safe", f"{number(known.trained)} of {number(known.total)} numbers will move ({share:.2%})."
    fits = known.bytes <= TIGHT * known.machine_bytes
    memory = f"Memory about {size(known.bytes)} of {size(known.machine_bytes)}"
    yield ("safe", f"{memory}.") if fits else ("watch", f"{memory}: it may not fit. Lower the batch size or the longest row.")


def _data(ctx: Context, spec: TrainSpec) -> Iterator[Line]:
    """What is learnt from: rows, tokens, and the rows and tokens that are lost on the way."""
    found = look(spec.data, _tokenizer(spec.model, ctx.workspace), ctx.workspace)
    told = "of the first rows " if found.sampled else ""
    yield "safe", f"{count(found.kept, 'row')} of {found.rows:,}; {found.trained:,} tokens {told}are learnt ({found.share_trained:.0%})."
    if found.nothing:
        yield "watch", f"{count(len(found.nothing), 'row')} with nothing to learn are left out. The Data tab shows which."
    if found.cut:
        yield "watch", f"{count(found.cut, 'token')} beyond the longest row are cut off. The Data tab says where."


@lru_cache(maxsize=4)
def _tokenizer(model: str, workspace: Workspace) -> Any:
    """Loaded once, so that what was counted with it stays known."""
    return tokenizer_of(model, workspace)
