"""From the controls of the Compare tab to a run, and from what the run says back to a talk.

One generator streams all panes at most ten times a second: updates token by token cost the browser thirty times as much
(gui.md 4.3). The models take turns in the runner, beside a training run. Draws nothing.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import CompareSpec
from workbench.core.errors import SpecError
from workbench.core.events import Event, Finished, Noted, Progress, Said, Started, Table
from workbench.core.method import knobs_of
from workbench.jobs.estimate import choices
from workbench.ui import answers, forms
from workbench.ui.context import Context
from workbench.ui.talk import Talk

REFRESH = 0.1  # seconds between two updates of the panes
KNOBS = knobs_of(CompareSpec)


@dataclass(frozen=True)
class Question:
    """The controls that say who is asked, and what."""

    models: gr.Dropdown
    blind: gr.Checkbox
    prompt: gr.Textbox
    system: gr.Textbox
    decoder: gr.State
    knobs: dict[str, Component]

    def inputs(self) -> set[Component]:
        return {self.models, self.blind, self.prompt, self.system, self.decoder, *self.knobs.values()}


def next_question(question: Question, given: Mapping[Component, Any], talk: Talk, again: bool) -> tuple[CompareSpec, Talk]:
    """The question as a spec, and the talk before it; or all mistakes in words. `again` asks the last one with the next seed."""
    before = talk.without_last() if again else talk.onward()
    prompt = talk.now.prompt if again else given[question.prompt] or ""
    mistakes, models = [], given[question.models] or []
    if not models:
        mistakes.append("no model is chosen; choose one or more above")
    if len(set(models)) < len(models):
        mistakes.append("a model is chosen twice; one of each is enough")
    if given[question.blind] and len(models) == 1:
        mistakes.append("one model alone cannot be compared blind; choose another beside it, or switch Blind off")
    if not prompt.strip():
        mistakes.append("the prompt is empty; write what the models should answer")
    knobs: dict[str, Any] = {}
    try:
        knobs = forms.collect(KNOBS, {name: given[widget] for name, widget in question.knobs.items()})
    except SpecError as error:
        mistakes += error.mistakes
    if mistakes:
        raise SpecError(mistakes)
    if again:
        knobs["seed"] = (knobs["seed"] + 1) % 2**31
    history = [turn.model_dump() for turn in before.history(models)]
    asked = {"models": models, "prompt": prompt, "system": given[question.system] or "", "decoder": given[question.decoder], **knobs}
    return CompareSpec.parse({**asked, "history": history}), before  # type: ignore[return-value]


@dataclass(frozen=True)
class Moment:
    """How things stand while a question is answered. lost: nothing was said, and the talk is what it was before the question."""

    talk: Talk
    run: str
    first: bool = False
    over: bool = False
    lost: bool = False
    says: str = ""


def told(ctx: Context, spec: CompareSpec, standing: Talk, before: Talk, blind: bool) -> Iterator[Moment]:
    """What is told of a question, at most ten times a second and once at the end. `standing` is the talk as it was, `before` what of it
    comes before the question. Where nobody listens any more (the page was closed), the run is stopped."""
    run, over, last = ctx.runner.submit(spec), False, 0.0
    now = replace(answers.asked(spec.prompt, spec.models, dict(choices(ctx.workspace))), run=run)
    now = now.shuffled(before.lot(run)) if blind else now
    try:
        yield Moment(before.with_turn(now), run, first=True)
        for event in ctx.runner.watch(run):
            now, over = heard(now, event), isinstance(event, Finished)
            if over and not now.words():
                yield Moment(standing, run, over=True, lost=True, says=now.says)
            elif over or time.monotonic() - last >= REFRESH:
                last = time.monotonic()
                yield Moment(before.with_turn(now), run, over=over)
    finally:
        if not over:
            ctx.runner.stop(run)


def heard(now: answers.Answers, event: Event) -> answers.Answers:
    """The answers after one more event; a failure is a line above them, what was said stays."""
    match event:
        case Started():
            return replace(now, template=event.about.get("template", ""))
        case Said():
            return now.heard(event)
        case Table():
            return now.looked_at(event)
        case Progress() if event.what != "tokens":
            return now.with_words(event.what[:1].upper() + event.what[1:] + " …")
        case Noted() if not now.hidden:  # it names a model
            return now.with_words(event.text)
        case Finished():
            stopped = "Stopped; what was said stays." if now.words() else "Stopped before the first word."
            words = {"finished": "", "stopped": stopped}
            return now.with_words(words.get(event.status, event.message), over=True)
    return now
