"""A paper's claim on its method's card: what it says, a button that checks it here, the verdict with its numbers and how it was come by.

Pure functions over what is on record, as markup; the cards are the Papers tab's, the check is a run like any other (`jobs/claim.py`).
Elements for tests: `section.claim[data-claim]`, `.verdict[data-verdict]` (ours with `data-from=us`), buttons
`[data-event=check][data-claim][data-run]`, `[data-event=stop][data-run]`, `[data-event=open][data-run]`,
`[data-event=take][data-run][data-what]`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from workbench.core.claim import FOUND, MARKS, SEEDS, SPECS, VERDICT, Claim, Verdict, claims
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.outcome import NOT_CHECKED, Outcome
from workbench.core.spec import TrainSpec
from workbench.core.words import count, duration
from workbench.runs.live import Live
from workbench.runs.records import Run
from workbench.runs.runner import RESUMABLE
from workbench.ui import cards
from workbench.ui.cards import escaped
from workbench.ui.dots import dots
from workbench.ui.words import attributes, standing

TONES: dict[Verdict, str] = {"shows here": "safe", "mixed": "watch", "does not show here": "quiet"}
TAKES = {"train": "Put it into the piece in work", "merge": "Put it into the Merge tab"}
"""By kind, the specs that can be put on the bench."""
AT_ONCE = 5.0  # seconds; a check that began later may have waited, or gone on after a stop, and its time is not that of the whole [O]
SMALL = (
    "The demo model has 6 small blocks, and papers speak of models a thousand times its size: "
    "what does not show here may well show there, and the other way round."
)


@dataclass(frozen=True)
class Record:
    """What is on record of a claim: its run at work, the newest that is over, and the newest that came to a verdict with what it found."""

    live: Live | None = None
    last: Run | None = None
    kept: Run | None = None
    tables: Sequence[Table] = ()
    notes: Sequence[Noted] = ()


def section(name: str, claim: Claim, record: Record, pace: float, ours: Outcome | None = None) -> str:
    """What stands in the card; `pace` is how many times as long claims take here as they took us, `ours` what came out on our machine."""
    parts = [f'<p class="says">{escaped(claim.says)} <small class="quiet">[{claim.mark}] {MARKS[claim.mark]}{_source(claim)}</small></p>']
    if record.kept:
        parts.append(_result(claim, record))
    if ours:
        parts.append(_beside(ours) if record.kept else _ours(name, claim, ours))
    if record.live:
        parts.append(_at_work(record.live))
    else:
        parts += [_broken(record.last)] if record.last and record.last is not record.kept else []
        parts.append(_button(name, claim, record, pace))
    return "".join(parts)


def word(record: Record, ours: Outcome | None) -> str:
    """The verdict that counts here: a person's own before ours."""
    own = next((str(table.rows[0][0]) for table in record.tables if table.name == VERDICT), "")
    return own or (ours.verdict if ours else NOT_CHECKED)


def _source(claim: Claim) -> str:
    return f" ({escaped(claim.paper)})"


def cost(claim: Claim, pace: float, seeds: int = SEEDS) -> str:
    """`9 trainings and 6 merges of the demo model, about 40 s on one core`."""
    kinds = [str(spec.get("kind", "train")) for spec in claim.runs.values()]
    trained, merged = kinds.count("train") * seeds, kinds.count("merge") * seeds
    runs = count(trained, "training") + (f" and {count(merged, 'merge')}" if merged else "")
    where = "on this machine" if pace else "on one core"
    return f"{runs} of the demo model, {count(seeds, 'seed')}; about {duration(claim.seconds * (pace or 1.0) * seeds / SEEDS)} {where}"


def pace_of(runs: Sequence[Run]) -> float:
    """How many times as long claims took here as they took us; 0 where none was checked yet."""
    took = [
        (run.ended - run.started).total_seconds() / (known.seconds * run.spec["seeds"] / SEEDS)
        for run in runs
        if run.status == "finished"
        and run.ended
        and run.started
        and (known := _known(run)) is not None
        and (run.started - run.created).total_seconds() < AT_ONCE
    ]
    return median(took) if took else 0.0


def _known(run: Run) -> Claim | None:
    """The claim that a run checked, where this version still has it."""
    return claims().get(str(run.spec["claim"]))


def _button(name: str, claim: Claim, record: Record, pace: float) -> str:
    """A check that was stopped goes on with the seeds that are not done."""
    rest = record.last if record.last and record.last.status in RESUMABLE and _done(record.last) else None
    words = "Go on with it" if rest else "Check it again" if record.kept else "Check it here"
    seeds = rest.spec["seeds"] - _done(rest) if rest else SEEDS
    where = attributes(type="button", data_event="check", data_claim=name, data_run=rest.id if rest else "", data_keep=f"check-{name}")
    return (
        f'<div class="claim-go"><button class="quiet-button" {where}>{words}</button>'
        f'<span class="quiet">{escaped(cost(claim, pace, seeds))}</span></div>'
    )


def _done(run: Run) -> int:
    """Seeds that a check which came to no end has kept."""
    seeds = int(run.spec["seeds"])
    done = run.step * seeds // run.total if run.total else 0
    return done if done < seeds else 0


def _at_work(live: Live) -> str:
    words = "waits its turn" if live.status == "queued" else standing(live.step, live.total, live.unit)
    left = f" · {duration(live.seconds_left)} left" if live.seconds_left is not None else ""
    share = min(1.0, live.step / live.total) if live.total else 0.0
    stop = attributes(type="button", data_event="stop", data_run=live.id, data_keep=f"stop-{live.id}")
    return (
        f'<div class="progress" role="status" aria-live="polite"><div class="bar"><i style="width:{share:.1%}"></i></div>'
        f'<span>{escaped(words + left)}</span></div><button class="quiet-button" {stop}>Stop</button>'
    )


def _broken(run: Run) -> str:
    """Why the latest check came to no verdict."""
    words = {"stopped": "was stopped", "failed": "failed", "interrupted": "was cut off"}.get(run.status, run.status)
    far = f" after {_done(run)} of {count(run.spec['seeds'], 'seed')}" if _done(run) else ""
    return f'<p class="quiet">{_opens(run)} {words}{far}. {escaped(run.message if run.status == "failed" else "")}</p>'


def _opens(run: Run) -> str:
    where = attributes(type="button", data_event="open", data_run=run.id, data_keep=f"claim-{run.id}")
    return f'<button class="run-name" {where}>Run {escaped(run.id)}</button>'


def _result(claim: Claim, record: Record) -> str:
    by_name = {table.name: table for table in record.tables}
    if VERDICT not in by_name or record.kept is None:
        return ""
    verdict, holds, seeds = by_name[VERDICT].rows[0]
    ended = record.kept.ended or record.kept.created
    said = "".join(f"<li>{escaped(note.text)}</li>" for note in record.notes[1:])
    return (
        f'<p class="verdict {TONES.get(verdict, "quiet")}" {attributes(data_verdict=verdict)}><b>{escaped(verdict)}</b> '
        f"with {holds} of {count(seeds, 'seed')} <small>{ended:%Y-%m-%d %H:%M} UTC · {_opens(record.kept)}</small></p>"
        f'{pictures(by_name[FOUND])}<ul class="said">{said}</ul>{_how(claim, record.kept, by_name)}'
    )


def pictures(found: Table) -> str:
    """A picture for each measure: a row of dots for each model, one a seed."""
    names = list(dict.fromkeys(row[0] for row in found.rows))
    return "".join(
        dots({name: [_number(row[place]) for row in found.rows if row[0] == name] for name in names}, title)
        for place, title in enumerate(found.columns[2:], 2)
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _beside(ours: Outcome) -> str:
    return f'<p class="quiet">On our machine, {escaped(ours.date)}: {escaped(ours.in_brief())}.</p>'


def _ours(name: str, claim: Claim, ours: Outcome) -> str:
    """What came out on our machine, before anybody has checked it here."""
    said, found = "".join(f"<li>{escaped(sentence)}</li>" for sentence in ours.says[1:]), ours.found()
    return (
        f'<p class="verdict {TONES[ours.verdict]}" {attributes(data_verdict=ours.verdict, data_from="us")}><b>{escaped(ours.verdict)}</b> '
        f"with {ours.holds} of {count(ours.seeds, 'seed')} <small>on our machine, {escaped(ours.date)}</small></p>"
        f'<details class="fold" {attributes(data_keep=f"ours-{name}")}><summary>What came out there</summary>'
        f'{pictures(found)}<ul class="said">{said}</ul>{_rule(claim)}{numbers(found)}</details>'
    )


def _how(claim: Claim, run: Run, tables: Mapping[str, Table]) -> str:
    """The rule, what is other than in the paper, every number, and the specs."""
    specs = "".join(_spec(run, *row) for row in tables[SPECS].rows) if SPECS in tables else ""
    return (
        f'<details class="fold" {attributes(data_keep=f"how-{run.id}")}><summary>What was done</summary>'
        f"{_rule(claim)}{numbers(tables[FOUND])}{specs}</details>"
    )


def _rule(claim: Claim) -> str:
    return (
        f"<p>{escaped(claim.rule())} It does not if that is so with none, and else it is mixed.</p><p>{escaped(claim.differs)}</p>"
        f'<p class="quiet">{SMALL}</p>'
    )


def numbers(found: Table) -> str:
    """A table for each measure: a row for each model, a column for each seed."""
    seeds, drawn = list(dict.fromkeys(row[1] for row in found.rows)), []
    for place, title in enumerate(found.columns[2:], 2):
        by_model: dict[str, list[Any]] = {}
        for row in found.rows:
            by_model.setdefault(row[0], []).append(row[place])
        rows = [[name, *own] for name, own in by_model.items()]
        drawn.append(f"<p>{escaped(title)}</p>{cards.table(['model', *(f'seed {seed}' for seed in seeds)], rows)}")
    return "".join(drawn)


def _spec(run: Run, what: str, kind: str, text: str) -> str:
    written = yaml.safe_dump(yaml.safe_load(text), sort_keys=False, allow_unicode=True, width=100)
    keep = f"spec-{run.id}-{what}".replace(" ", "-")
    copy = attributes(type="button", data_page="copy", data_copy=keep)
    where = attributes(type="button", data_event="take", data_run=run.id, data_what=what)
    take = f'<button class="quiet-button" {where}>{TAKES[kind]}</button>' if kind in TAKES else ""
    return (
        f"<details {attributes(data_keep=f'fold-{keep}')}><summary>{escaped(kind)}: {escaped(what)}</summary>"
        f'<button class="quiet-button" {copy}>copy</button>{take}<pre id="{escaped(keep)}" tabindex="0">{escaped(written)}</pre></details>'
    )


def record_of(name: str, runs: Sequence[Run], live: Sequence[Live], read: Any) -> Record:
    """Of the runs of claims, newest first, what belongs to this one; `read(run id)` gives its tables and notes."""
    own = [run for run in runs if run.spec["claim"] == name]
    working = {line.id: line for line in live}
    at_work = next((working[run.id] for run in own if run.id in working), None)
    over = [run for run in own if run.id not in working]
    kept = next((run for run in over if run.status == "finished"), None)
    tables, notes = read(kept.id) if kept else ((), ())
    return Record(at_work, over[0] if over else None, kept, tables, notes)


def spec_of(tables: Sequence[Table], what: str) -> dict[str, Any] | None:
    """The training spec of that name, whole, as a run of a claim has it on record."""
    written = next((row[2] for table in tables if table.name == SPECS for row in table.rows if row[:2] == [what, "train"]), None)
    return TrainSpec.parse(yaml.safe_load(written)).model_dump(mode="json") if written else None


def recipe_of(tables: Sequence[Table], what: str, trained: Sequence[Run]) -> dict[str, Any] | None:
    """The merge of that name as the Merge tab takes it up; what it merges are the runs here that were trained by the claim's own specs.

    Raises:
        WorkbenchError: one of them was not trained here yet.
    """
    written = next((row[2] for table in tables if table.name == SPECS for row in table.rows if row[:2] == [what, "merge"]), None)
    if written is None:
        return None
    given = yaml.safe_load(written)
    models = [{**one, "model": _here(one["model"], tables, trained)} for one in given["models"]]
    return {**given, "base": _here(given["base"], tables, trained), "models": models}


def _here(reference: str, tables: Sequence[Table], trained: Sequence[Run]) -> str:
    """The run here that stands for one of the claim's."""
    what = reference.removeprefix("run:")
    if what == reference or (wanted := spec_of(tables, what)) is None:
        return reference
    same = (run.id for run in trained if run.status == "finished" and {**run.spec, "name": what} == wanted)
    if (found := next(same, None)) is None:
        raise WorkbenchError(f"{what!r} was not trained here yet. Put it into the piece in work and press Start; then this merge finds it.")
    return f"run:{found}"
