"""The frame above the tabs: title and machine, the piece in work as chips, its YAML, and one line for each live job.

Draws and reads; what a button in it does is wired in `page.py`. What it is not: a tab.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr
import yaml

from workbench.core.errors import SpecError
from workbench.core.method import SHELVES, knobs_of
from workbench.core.spec import TrainSpec
from workbench.core.words import count, duration, number, size
from workbench.jobs.machine import readout
from workbench.runs.runner import Live
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.polled import polled, pressed
from workbench.ui.words import attributes, dot, run_label, standing, status_words

TITLE = """<header class="titlebar"><h1><i aria-hidden="true"></i>Finetune Workbench</h1><span class="space"></span>{}
<button type="button" data-page="theme" id="theme-toggle" title="Light or dark" aria-label="Light or dark">◐</button>
<button type="button" data-page="help" id="help-open" title="How this works (?)" aria-label="How this works">?</button></header>
<dialog id="help" aria-labelledby="help-title"><h2 id="help-title">How this works</h2><ol>
<li><b>The piece in work</b> lies above the tabs: model, data, adapter, loss, update. Click a part to change it.</li>
<li><b>Start</b> on the Train tab. Loss, gradient norm and step safety r draw themselves; answers change as it learns.</li>
<li><b>Ask it</b> when it is done: the Compare tab puts the base and the tuned model side by side.</li>
<li><b>Merge</b> two results into one model, and find every run again under <b>Runs</b>: compare it, use it again, download it.</li>
<li><b>Papers</b> says where each method comes from and what its knobs mean.</li></ol>
<p>r below 1 is a safe step, 1 to 4 is worth watching, above 4 the learning rate is too high for the present gradient.
A run goes on when this page is closed; it stops only when you stop it or end the program.</p>
<button type="button" data-page="close" class="quiet-button" autofocus>Close</button></dialog>"""

PARTS = (("data", "data"), ("adapter", "adapters"), ("loss", "losses"), ("update", "updates"))
OPENS = {"model": "adapter", "data": "data", "adapter": "adapter", "loss": "train", "update": "train"}
"""Chip → the tab where it is changed."""


def title_bar(ctx: Context) -> gr.HTML:
    """Name, machine, theme and help; the machine is read every three seconds."""
    return polled(ctx.pulse, lambda _: (machine(), ""), "titlebar", every=3, around=TITLE)


def machine() -> str:
    """`CPU 2 · 3.1/24 GB`."""
    now = readout()
    share = float(now["used"]) / max(1.0, float(now["total"]))
    level = "act" if share > 0.95 else "watch" if share > 0.85 else ""
    device = f"{count(int(now['cores']), 'core')}" if now["device"] == "CPU" else escaped(now["device"])
    return (
        f'<span class="machine" title="Processor, and memory in use of what this machine has"><i>{device} · </i>'
        f'<b class="{level}">{float(now["used"]) / 1e9:.1f}</b>/{size(float(now["total"]))}</span>'
    )


def piece(spec: Mapping[str, Any]) -> gr.HTML:
    """The piece in work; a chip raises `go` with the tab it opens."""
    return pressed(chips(spec), "piece", events=("go",))


def chips(spec: Mapping[str, Any]) -> str:
    """The spec as chips, each with what it lacks, and the folded sheet with its YAML and command."""
    wrong = mistakes(spec)
    parts = [_chip("model", str(spec.get("model") or ""), "", wrong)]
    parts += [_chip(part, *_said(spec, part, shelf), wrong) for part, shelf in PARTS]
    arrow = '<i class="arrow" aria-hidden="true"></i>'
    return (
        f'<nav class="piece" aria-label="Piece in work"><span class="lead">piece in work</span>{arrow.join(parts)}'
        '<span class="space"></span><button type="button" class="quiet-button" id="yaml-open" data-page="fold" data-fold="piece">'
        f"YAML</button></nav>{sheet(spec)}"
    )


def mistakes(spec: Mapping[str, Any]) -> list[str]:
    """One sentence for each mistake of the spec; none when it can be started."""
    try:
        TrainSpec.parse(spec)
    except SpecError as error:
        return error.mistakes
    return []


def _said(spec: Mapping[str, Any], part: str, shelf: str) -> tuple[str, str]:
    """What a chip says of a part: its value in bold and one figure beside it; an empty value reads as "choose"."""
    given = spec.get(part) or {}
    if part == "data":
        steps = len(given.get("selectors", []))
        return str(given.get("path") or ""), count(steps, "selector") if steps else ""
    method = SHELVES.get(shelf, {}).get(str(given.get("method")))
    if method is None:
        return "", ""
    first = next((knob for knob in knobs_of(method) if not knob.more and knob.kind in ("int", "float")), None)
    return method.title(), f"{first.label} {given.get(first.name, first.default)}" if first else ""


def _chip(part: str, value: str, figure: str, wrong: list[str]) -> str:
    own = [sentence for sentence in wrong if sentence.startswith(part)]
    lacks = "choose" if not value else count(len(own), "mistake") if own else ""
    inner = f"<span>{part}</span> <b>{escaped(value)}</b>" + (f" <small>{escaped(figure)}</small>" if figure and not lacks else "")
    inner += f" <em>{lacks}</em>" if lacks else ""
    title = " ".join(own) or f"Change the {part}: {value}"
    where = attributes(type="button", data_event="go", data_tab=OPENS[part], id=f"chip-{part}", title=title)
    return f'<button class="chip{" lacks" if lacks else ""}" {where}>{inner}</button>'


def sheet(spec: Mapping[str, Any]) -> str:
    """The whole spec as YAML and the command that does the same without the page."""
    text = yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True, width=100)
    copy = '<button type="button" class="quiet-button" data-page="copy" data-copy="{}">copy</button>'
    return (
        f'<div class="sheet"><div><h3>The spec {copy.format("sheet-yaml")}</h3>'
        f'<pre id="sheet-yaml" tabindex="0">{escaped(text)}</pre></div>'
        f"<div><h3>The same without this page {copy.format('sheet-command')}</h3>"
        '<pre id="sheet-command" tabindex="0">python -m workbench train spec.yaml</pre>'
        "<p>Save the spec as <code>spec.yaml</code> first. A part can be changed on the way, for example "
        "<code>--set steps=500</code>.</p></div></div>"
    )


def live_lines(ctx: Context) -> gr.HTML:
    """One line for each live job; its buttons raise `steer` with the run and what to do, its name raises `go`."""
    return polled(ctx.pulse, lambda _: lines_of(ctx.runner.live()), "live", events=("steer", "go"))


def lines_of(jobs: list[Live]) -> tuple[str, str]:
    """The lines as HTML, and a state that changes when a job appears, goes or changes its status."""
    state = " ".join(f"{job.id}:{job.status}" for job in jobs)
    if not jobs:
        return '<p class="idle">idle · Start on the Train tab</p>', state
    return "".join(_line(job) for job in jobs), state


def _line(job: Live) -> str:
    share = min(1.0, job.step / job.total) if job.total else 0.0
    facts = [escaped(standing(job.step, job.total, job.unit))]
    facts += [f"{short} {number(job.latest[name])}" for name, short in (("loss", "loss"), ("step_ratio", "r")) if name in job.latest]
    facts.append(f"{duration(job.seconds_left)} left" if job.seconds_left is not None and job.status == "running" else "")
    tab = {"merge": "merge", "compare": "compare", "claim": "papers"}.get(job.kind, "train")
    name = f"<b>{escaped(run_label(job.id, job.name))}</b> {status_words(job.kind, job.status)}"
    bar = (
        f'<progress max="100" value="{share * 100:.1f}" aria-label="progress">{share:.0%}</progress><span class="share">{share:.0%}</span>'
    )
    pause = ("play", "▶", "Go on") if job.status == "paused" else ("pause", "❚❚", "Pause")
    steer = "" if job.status == "queued" else _steer(job.id, *pause)
    where = attributes(data_event="go", data_tab=tab, data_run=job.id, data_keep=job.id)
    return (
        f'<div class="job {job.status}"><button class="job-name" {where}>'
        f'{dot(job.status)}<span>{name}</span></button>{bar}<span class="facts">{" · ".join(fact for fact in facts if fact)}</span>'
        f"{steer}{_steer(job.id, 'stop', '■', 'Stop')}</div>"
    )


def _steer(run: str, what: str, sign: str, words: str) -> str:
    where = attributes(
        data_event="steer", data_run=run, data_do=what, data_keep=f"{what}-{run}", title=words, aria_label=f"{words}: run {run}"
    )
    return f'<button type="button" class="steer" {where}>{sign}</button>'
