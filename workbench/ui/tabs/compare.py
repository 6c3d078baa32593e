"""The Compare tab: a talk with up to four models side by side, token by token; blind where one wants to vote.

The controls and what happens when they are used. What goes to the job and comes back is `ui/asking.py`'s, the drawing `ui/answers.py`'s.
Ids: compare-models, compare-blind, compare-prompt, compare-ask, compare-stop, compare-system, compare-temperature, compare-max_tokens,
compare-seed, compare-token_view, compare-decoder, compare-NAME-KNOB, compare-more, compare-error, compare-past (sections `.turn`),
compare-panes (articles `.pane`, tokens `.spoken span`, buttons `[data-event=again]`, `[data-event=turn][data-do]` with vote edit fresh
recall), compare-ratings; the card of a token is `#token-card`; of `ui/batch.py`: compare-batch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.method import find
from workbench.core.ratings import Vote, ratings
from workbench.jobs.estimate import choices
from workbench.ui import answers, ballot, batch, cards, forms
from workbench.ui.asking import KNOBS, Question, next_question, told
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.polled import polled
from workbench.ui.talk import Talk, recalled

MOST = 4
FIRST = "plain"
RATED = '<details class="fold"><summary>Ratings from your votes</summary>{}</details>'
EVENTS = ("turn", "again")
SAME = (
    "At temperature 0 the likeliest token is always taken, so every seed answers the same. Raise the temperature under “System prompt, "
    "sampling and decoder”."
)


@dataclass(frozen=True)
class Shown:
    """Where a talk is drawn, and the talk itself."""

    error: gr.HTML
    past: gr.HTML
    panes: gr.HTML
    talk: gr.State

    def outputs(self) -> list[Component]:
        return [self.error, self.panes, self.past, self.talk]


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    running, decoder = gr.State(""), gr.State({"method": FIRST})
    with gr.Column(elem_classes=["tab-columns", "compare"]):
        models, blind = _who(ctx)
        with gr.Accordion("System prompt, sampling and decoder", open=False, elem_id="compare-more", elem_classes=["more"]):
            system = gr.Textbox("", label="System prompt", lines=2, interactive=True, elem_id="compare-system")
            widgets = forms.fields(KNOBS, {}, "compare")
            _decoder(decoder)
        past, panes = cards.place(elem_id="compare-past"), _panes()
        shown = Shown(cards.card_place("compare-error"), past, panes, gr.State(Talk()))
        prompt, ask, stop = _prompt()
        batch.build(ctx, bench, models)
        polled(ctx.pulse, lambda _: (_rated(ctx), ""), "compare-ratings", every=3, around=RATED)
    question = Question(models, blind, prompt, system, decoder, widgets)
    _wire_asking(ctx, question, shown, (ask, stop, running))
    _wire_turns(ctx, question, shown)
    fresh = bench.compare.change(lambda: gr.Dropdown(choices=_models(ctx)), None, models, **forms.READER)  # labels first, then values
    fresh.then(_fill, [bench.compare], [models, prompt, *shown.outputs()], **forms.WRITER)


def _who(ctx: Context) -> tuple[gr.Dropdown, gr.Checkbox]:
    """Who is asked, and whether their names are shown."""
    with gr.Row():
        models = gr.Dropdown(
            choices=_models(ctx),
            value=["pocket"],
            label="Models, up to four",
            info="The first is the base that the others are held against",
            multiselect=True,
            max_choices=MOST,
            allow_custom_value=True,
            interactive=True,
            elem_id="compare-models",
            scale=5,
            min_width=320,
        )
        blind = gr.Checkbox(
            label="Blind", info="Answers come in an order drawn by lot, without names, until you have voted", interactive=True,
            elem_id="compare-blind", scale=2, min_width=220,
        )  # fmt: skip
    models.focus(lambda: gr.Dropdown(choices=_models(ctx)), None, models, **forms.READER)
    forms.spell_out(models, lambda: _models(ctx))
    return models, blind


def _prompt() -> tuple[gr.Textbox, gr.Button, gr.Button]:
    """What is asked, at the bottom of the screen, below the answers."""
    with gr.Row(elem_classes=["bottom-bar", "buttons"]):
        prompt = gr.Textbox(
            show_label=False, label="Prompt", placeholder="Prompt: Enter asks, Shift+Enter begins a new line", lines=1, max_lines=12,
            interactive=True, elem_id="compare-prompt", scale=6, min_width=260, container=False,
        )  # fmt: skip
        ask = gr.Button("Ask", variant="primary", elem_id="compare-ask", scale=0, min_width=100)
        stop = gr.Button("Stop", elem_id="compare-stop", scale=0, min_width=80, interactive=False)
    return prompt, ask, stop


def _panes() -> gr.HTML:
    """The newest turn: its buttons are events, its tokens have a card, and the keys 1 to 4 vote."""
    script = f"Workbench.relay(element, trigger); Workbench.tokens(element, watch); Workbench.voting(element); {json.dumps(EVENTS)}"
    return gr.HTML(ballot.EMPTY, elem_id="compare-panes", js_on_load=script, apply_default_css=False)


def _decoder(chosen: gr.State) -> None:
    """How the next token is chosen from, and that method's form; `chosen` follows it."""
    method = gr.Dropdown(
        choices=forms.method_choices("decoders"), value=FIRST, label="Decoder", interactive=True, elem_id="compare-decoder",
        info="How the next token is chosen from what the models say",
    )  # fmt: skip
    error = cards.card_place("compare-decoder-error")
    method.input(lambda name: find("decoders", name)().chosen(), method, chosen, trigger_mode="always_last", **forms.WRITER)

    @gr.render(inputs=[method], **forms.DRAWN)
    def form(name: str) -> None:
        widgets = forms.method_block("decoders", {"method": name}, "compare")

        def moved(given: dict[Component, Any]) -> tuple[str, Any]:
            try:
                return "", forms.method_from("decoders", name, widgets, given)
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()

        forms.on_input(widgets, moved, [error, chosen])


def _models(ctx: Context) -> list[tuple[str, str]]:
    """What can be asked; a run that is at work answers with its newest checkpoint."""
    done = [(label, reference) for reference, label in choices(ctx.workspace)]
    at_work = [(f"run {job.id}, at work", f"run:{job.id}") for job in ctx.runner.live() if job.kind == "train"]
    return [*done, *(job for job in at_work if job[1] not in {reference for _, reference in done})]


def _rated(ctx: Context) -> str:
    votes = ctx.store.votes()
    return ballot.table(ratings(votes), len(votes))


def _fill(wanted: dict[str, Any]) -> tuple[Any, ...]:
    """What another tab asks to compare is put into the controls and begins a new talk; an empty prompt leaves the one that stands there."""
    models, prompt = wanted.get("models") or [], wanted.get("prompt") or ""
    return models[:MOST] or gr.skip(), prompt or gr.skip(), "", *_drawn(Talk())


def _drawn(talk: Talk, edge: bool = True) -> list[Any]:
    """A talk for the places of `Shown` after the error's; between the edges of an answer the panes alone are drawn anew."""
    panes = ballot.newest(talk)
    return [panes, answers.past(talk.past), talk] if edge else [panes, gr.skip(), gr.skip()]


def _wire_asking(ctx: Context, question: Question, shown: Shown, others: tuple[gr.Button, gr.Button, gr.State]) -> None:
    """Ask on the button or Enter, stop on the other; the two are never alive at once."""
    ask, stop, running = others
    outputs = [*shown.outputs(), running, ask, stop, question.prompt, question.knobs["seed"]]

    def stream(given: dict[Component, Any], again: bool = False) -> Iterator[list[Any]]:
        if any(line.id == given[running] for line in ctx.runner.live()):
            yield [gr.skip()] * len(outputs)
            return
        try:
            spec, before = next_question(question, given, given[shown.talk], again)
            same = cards.note(SAME) if again and spec.temperature == 0 else ""
            for moment in told(ctx, spec, given[shown.talk], before, given[question.blind]):
                says = cards.note(moment.says, "watch") if moment.lost else same
                drawn = _drawn(moment.talk, moment.first or moment.over)
                buttons = gr.Button(interactive=moment.over), gr.Button(interactive=not moment.over)
                box = gr.skip() if again else spec.prompt if moment.lost else "" if moment.first else gr.skip()
                seed = str(spec.seed) if again and moment.first else gr.skip()
                yield [says, *drawn, "" if moment.over else moment.run, *buttons, box, seed]
        except WorkbenchError as mistake:
            live = gr.Button(interactive=True), gr.Button(interactive=False)
            yield [cards.error_card(mistake), *[gr.skip()] * 3, "", *live, gr.skip(), gr.skip()]

    def regenerate(given: dict[Component, Any]) -> Iterator[list[Any]]:
        yield from stream(given, again=True)

    def end(run: str) -> str:
        if run:
            ctx.runner.stop(run)
        return ""

    inputs = {*question.inputs(), shown.talk, running}
    gr.on([ask.click, question.prompt.submit], stream, inputs, outputs, trigger_mode="once", **forms.WRITER)
    shown.panes.again(regenerate, inputs, outputs, trigger_mode="once", **forms.WRITER)
    stop.click(end, running, shown.error, **forms.READER)


def _wire_turns(ctx: Context, question: Question, shown: Shown) -> None:
    """What is done with turns that are over: vote, take the last one back, begin anew."""

    @cards.carded(5)
    def turn(event: gr.EventData, talk: Talk) -> tuple[Any, ...]:
        if event.do == "edit":
            return *_drawn(talk.without_last()), talk.now.prompt, gr.skip()
        if event.do == "vote":
            return *_drawn(_voted(ctx, talk, event.verdict)), gr.skip(), gr.skip()
        if event.do == "recall":
            return *_drawn(last := _last(ctx)), gr.skip(), list(last.now.panes)
        return *_drawn(Talk()), gr.skip(), gr.skip()

    outputs = [*shown.outputs(), question.prompt, question.models]
    shown.panes.turn(turn, shown.talk, outputs, trigger_mode="once", **forms.WRITER)


def _last(ctx: Context) -> Talk:
    """The newest talk on record that came to an answer."""
    labels = dict(choices(ctx.workspace))
    for run in ctx.store.runs("compare"):
        if said := ctx.store.said(run.id):
            return recalled(run.id, CompareSpec.parse(run.spec), said, ctx.store.tables(run.id), labels)
    raise WorkbenchError("No talk is on record yet. Ask something first.")


def _voted(ctx: Context, talk: Talk, verdict: str) -> Talk:
    """The talk with its names told, after the vote has been put on record."""
    now = talk.now
    if not now.hidden or verdict == ballot.SKIP:
        return talk.revealed(now.verdict)
    outcome, winner, words = ballot.cast(now, verdict)
    spec = ctx.store.run(now.run).spec
    models = {model: pane.label for model, pane in now.panes.items()}
    ctx.store.vote(Vote(now.run, now.prompt, models, outcome, winner, spec["seed"], spec["decoder"]))
    return talk.revealed(words)
