"""What is known of a run before it starts, drawn: the mistakes of its spec, what the audit finds, how long it takes.

Every sentence is either good to know (green), worth a look (amber) or stops the start (red); `jobs.audit` makes them, nothing
is counted here. Reads, never starts anything.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.spec import TrainSpec
from workbench.core.words import count, duration
from workbench.jobs.audit import audit
from workbench.jobs.trial import tried
from workbench.runs.records import Run
from workbench.ui.cards import error_card, escaped
from workbench.ui.context import Context
from workbench.ui.words import run_label


def plan(ctx: Context, spec: Mapping[str, Any]) -> str:
    """All of it as HTML; a spec with mistakes gives one card that names them all."""
    try:
        parsed = TrainSpec.parse(spec)
        findings = audit(parsed, ctx.workspace)
    except WorkbenchError as error:
        return error_card(error)
    items = "".join(f'<li class="{finding.level}">{escaped(finding.text)}</li>' for finding in findings)
    return f'<p class="takes">{escaped(takes(parsed, ctx.store.runs("train")))}</p><ul class="audit">{items}</ul>'


def tried_steps(ctx: Context, spec: Mapping[str, Any]) -> Iterator[str]:
    """Three steps tried, as HTML that changes while they are; a mistake is a card."""
    try:
        work = tried(TrainSpec.parse(spec), ctx.workspace)
        sentences = yield from _watched(work)
    except WorkbenchError as error:
        yield error_card(error)
    else:
        yield f'<ul class="audit">{"".join(f"<li class=safe>{escaped(sentence)}</li>" for sentence in sentences)}</ul>'


def _watched(work: Generator[Progress, None, list[str]]) -> Generator[str, None, list[str]]:
    """The trial's progress as HTML; closing this closes the trial too."""
    with closing(work):
        while True:
            try:
                at = next(work)
            except StopIteration as end:
                return end.value
            yield f'<p class="takes">{escaped(at.what)}, {at.done} of {at.total}</p>'


def takes(spec: TrainSpec, runs: list[Run]) -> str:
    """How long it will take, judged by the newest finished run of the same base; else what is not known yet."""
    rows = spec.batch_size * spec.accumulate
    said = f"{count(spec.steps, 'step')} of {count(rows, 'row')}"
    for run in runs:
        if run.status == "finished" and run.spec.get("model") == spec.model and run.started and run.ended and run.step:
            before = max(1, run.spec.get("batch_size", rows) * run.spec.get("accumulate", 1))
            seconds = (run.ended - run.started).total_seconds() / run.step * spec.steps * rows / before
            return f"{said} · about {duration(seconds)}, judged by run {run_label(run.id, run.name)}"
    return f"{said} · how long a step takes here is known after the first run, or by trying three steps"
