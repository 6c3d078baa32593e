"""What a run has to show besides its curves: answers as it learnt, notes, artifacts, its spec, what went wrong; as HTML.

Pure functions over what the store gives back; every foreign text is escaped. Used by the Train and the Runs tab.
"""

from collections.abc import Sequence

import yaml

from workbench.core.events import Made, Noted, Said
from workbench.core.words import duration, number
from workbench.runs.records import Run
from workbench.ui.cards import escaped
from workbench.ui.words import dot, metric, run_label, status_words

SHOWN = 5  # newest answers to a prompt that are shown beside the first; the rest is folded
NOTHING = '<span class="quiet">(nothing)</span>'
LEVELS = {"info": "", "watch": "watch", "act": "act"}


def samples(said: Sequence[Said]) -> str:
    """Prompt × step: under each prompt the answers by step, the first and the newest open, those between folded."""
    if not said:
        return '<p class="quiet">No answers yet: the first are given before step 1.</p>'
    prompts = dict.fromkeys(answer.prompt for answer in said)
    return "".join(_prompt(place, prompt, [answer for answer in said if answer.prompt == prompt]) for place, prompt in enumerate(prompts))


def grid(said: Sequence[Said]) -> str:
    """The same as a table, a column for each prompt and a row for each step: read down to see the model learn."""
    answers = {(answer.step, answer.prompt): answer.answer for answer in said}
    prompts, steps = list(dict.fromkeys(answer.prompt for answer in said)), sorted({answer.step for answer in said})
    head = "".join(f"<th>{escaped(prompt)}</th>" for prompt in prompts)
    rows = (_line(step, [answers.get((step, prompt)) for prompt in prompts]) for step in steps)
    table = f'<table class="plain answers"><thead><tr><th class="number">step</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="table-box" tabindex="0">{table}</div>'


def _line(step: int, answers: Sequence[str | None]) -> str:
    cells = "".join(f"<td>{'' if answer is None else escaped(answer) or NOTHING}</td>" for answer in answers)
    return f'<tr><th class="number">{step:,}</th>{cells}</tr>'


def _prompt(place: int, prompt: str, answers: list[Said]) -> str:
    rows = [_answer(answer, newest=answer is answers[-1]) for answer in answers]
    if len(rows) > SHOWN + 2:
        between = rows[1:-SHOWN]
        folded = f'<details data-keep="answers-{place}"><summary>{len(between)} between</summary>{"".join(between)}</details>'
        rows = [rows[0], folded, *rows[-SHOWN:]]
    return f'<section class="sample"><h4>{escaped(prompt)}</h4>{"".join(rows)}</section>'


def _answer(answer: Said, newest: bool) -> str:
    said = escaped(answer.answer) or NOTHING
    return f'<div class="sampled{" newest" if newest else ""}"><span class="step">{answer.step:,}</span><p>{said}</p></div>'


def notes(noted: Sequence[Noted]) -> str:
    """The run's log, newest first; what a person should act on carries its colour."""
    if not noted:
        return '<p class="quiet">Nothing to report.</p>'
    items = "".join(f'<li class="{LEVELS[note.level]}">{escaped(note.text)}</li>' for note in reversed(noted))
    return f'<ul class="notes">{items}</ul>'


def artifacts(made: Sequence[Made]) -> str:
    """What lies on disk and where, newest of each kind."""
    if not made:
        return '<p class="quiet">Nothing was written yet.</p>'
    newest = {thing.what: thing for thing in made}
    rows = "".join(_artifact(thing) for thing in newest.values())
    return f'<table class="plain"><tbody>{rows}</tbody></table>'


def _artifact(thing: Made) -> str:
    step = f"step {thing.step:,}" if thing.step else ""
    return f"<tr><td class=nowrap>{thing.what}</td><td class=nowrap>{step}</td><td><code>{escaped(thing.path)}</code></td></tr>"


def spec_sheet(run: Run) -> str:
    """The run's spec as YAML, folded."""
    text = yaml.safe_dump(run.spec, sort_keys=False, allow_unicode=True, width=100)
    copy = '<button type="button" class="quiet-button" data-page="copy" data-copy="run-yaml">copy</button>'
    return f'<details class="fold"><summary>Spec as YAML</summary>{copy}<pre id="run-yaml" tabindex="0">{escaped(text)}</pre></details>'


def failure(run: Run) -> str:
    """Why the run ended as it did: the sentence, with the traceback folded below it."""
    if run.status not in ("failed", "interrupted") or not (run.message or run.traceback):
        return ""
    level = "act" if run.status == "failed" else "watch"
    trace = (
        f'<details class="fold"><summary>Traceback</summary><pre tabindex="0">{escaped(run.traceback)}</pre></details>'
        if run.traceback
        else ""
    )
    return f'<div class="card {level}" role="alert"><p>{escaped(run.message)}</p>{trace}</div>'


def headline(run: Run) -> str:
    """Name, status, steps and times of one run."""
    facts = [f"{status_words(run.kind, run.status)}"]
    facts += [f"step {run.step:,} of {run.total:,}"] if run.total and run.unit == "step" else []
    facts += [f"took {duration((run.ended - run.started).total_seconds())}"] if run.ended and run.started else []
    facts.append(f"made {run.created:%Y-%m-%d %H:%M} UTC")
    return f'<h2 class="run-title">{dot(run.status)}{escaped(run_label(run.id, run.name))} <small>{" · ".join(facts)}</small></h2>'


def scores(run: Run) -> str:
    """First and last value of every number that was measured."""
    rows = "".join(
        f"<tr><td>{escaped(metric(name))}</td><td class=number>{number(first)}</td><td class=number>{number(last)}</td></tr>"
        for name, (first, last) in sorted(run.metrics.items())
    )
    if not rows:
        return '<p class="quiet">Nothing was measured.</p>'
    head = "<thead><tr><th>what</th><th class=number>first</th><th class=number>last</th></tr></thead>"
    return f'<div class="table-box" tabindex="0"><table class="plain">{head}<tbody>{rows}</tbody></table></div>'
