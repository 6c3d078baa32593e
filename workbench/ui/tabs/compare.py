"""The Compare tab: one prompt, up to four models, token by token beside each other.

One generator streams all panes at most ten times a second: updates token by token cost the browser thirty times as much
(gui.md 4.3). The models take turns in the runner, beside a training run. Closing the page stops the answers.
Ids: compare-models, compare-prompt, compare-ask, compare-stop, compare-system, compare-temperature, compare-max_tokens,
compare-seed, compare-decoder, compare-NAME-KNOB, compare-more, compare-error, compare-panes (articles `.pane`, tokens `.spoken span`).
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import CompareSpec
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Event, Finished, Noted, Progress, Said
from workbench.core.method import find, knobs_of
from workbench.jobs.estimate import choices
from workbench.ui import answers, cards, forms
from workbench.ui.bench import Bench
from workbench.ui.context import Context

REFRESH = 0.1  # seconds between two updates of the panes
MOST = 4
KNOBS = knobs_of(CompareSpec)
FIRST = "plain"


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    running, decoder = gr.State(""), gr.State({"method": FIRST})
    with gr.Column(elem_classes=["tab-columns", "compare"]):
        models, prompt = _question(ctx)
        with gr.Row(elem_classes=["buttons"]):
            ask = gr.Button("Ask", variant="primary", elem_id="compare-ask", scale=0, min_width=120)
            stop = gr.Button("Stop", elem_id="compare-stop", scale=0, min_width=120, interactive=False)
        with gr.Accordion("System prompt, sampling and decoder", open=False, elem_id="compare-more", elem_classes=["more"]):
            system = gr.Textbox("", label="System prompt", lines=2, interactive=True, elem_id="compare-system")
            widgets = forms.fields(KNOBS, {}, "compare")
            _decoder(decoder)
        error = cards.card_place("compare-error")
        cards.place(answers.legend())
        panes = cards.place(answers.drawn(answers.Answers()), "compare-panes")
    _wire(ctx, (models, prompt, system, decoder), widgets, (ask, stop), (error, panes, running))
    fresh = bench.compare.change(lambda: gr.Dropdown(choices=_models(ctx)), None, models, **forms.READER)  # labels first, then values
    fresh.then(_fill, [bench.compare], [models, prompt], **forms.READER)


def _question(ctx: Context) -> tuple[gr.Dropdown, gr.Textbox]:
    """Who is asked, and what."""
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
            scale=2,
        )
        prompt = gr.Textbox(
            label="Prompt",
            info="Enter asks; Shift+Enter begins a new line",
            lines=1,
            max_lines=12,
            interactive=True,
            elem_id="compare-prompt",
            scale=3,
        )
    models.focus(lambda: gr.Dropdown(choices=_models(ctx)), None, models, **forms.READER)
    return models, prompt


def _decoder(chosen: gr.State) -> None:
    """How the next token is chosen from, and that method's form; `chosen` follows it."""
    method = gr.Dropdown(
        choices=forms.method_choices("decoders"), value=FIRST, label="Decoder", interactive=True, elem_id="compare-decoder",
        info="How the next token is chosen from what the models say",
    )  # fmt: skip
    error = cards.card_place("compare-decoder-error")
    method.input(lambda name: find("decoders", name)().chosen(), method, chosen, **forms.WRITER)

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
    return [(label, reference) for reference, label in choices(ctx.workspace)]


def _fill(wanted: dict[str, Any]) -> tuple[Any, Any]:
    """What another tab asks to compare is put into the controls; an empty prompt leaves the one that stands there."""
    models, prompt = wanted.get("models") or [], wanted.get("prompt") or ""
    return models[:MOST] or gr.skip(), prompt or gr.skip()


def _wire(
    ctx: Context,
    question: tuple[Component, ...],
    widgets: Mapping[str, Component],
    buttons: tuple[Any, Any],
    outputs: tuple[Component, ...],
) -> None:
    """Ask on the button or Enter, stop on the other; the two are never alive at once."""
    models, prompt, system, decoder = question
    ask, stop = buttons
    error, panes, running = outputs

    def stream(given: dict[Component, Any]) -> Iterator[tuple[Any, ...]]:
        try:
            asked = {"models": given[models] or [], "prompt": given[prompt] or "", "system": given[system] or "", "decoder": given[decoder]}
            spec = _spec(asked, widgets, given)
            for shown, run, over in _answers(ctx, spec):
                yield "", answers.drawn(shown), run, gr.Button(interactive=over), gr.Button(interactive=not over)
        except WorkbenchError as mistake:
            yield cards.error_card(mistake), gr.skip(), "", gr.Button(interactive=True), gr.Button(interactive=False)

    def end(run: str) -> str:
        if run:
            ctx.runner.stop(run)
        return ""

    gr.on(
        [ask.click, prompt.submit],
        stream,
        {*question, *widgets.values()},
        [error, panes, running, ask, stop],
        trigger_mode="once",
        **forms.WRITER,
    )
    stop.click(end, running, error, **forms.READER)


def _spec(asked: Mapping[str, Any], widgets: Mapping[str, Component], given: Mapping[Component, Any]) -> CompareSpec:
    """The question as a spec, or all its mistakes in words."""
    mistakes, models = [], asked["models"]
    if not models:
        mistakes.append("no model is chosen; choose one or more above")
    if len(set(models)) < len(models):
        mistakes.append("a model is chosen twice; one of each is enough")
    if not asked["prompt"].strip():
        mistakes.append("the prompt is empty; write what the models should answer")
    try:
        knobs = forms.collect(KNOBS, {name: given[widget] for name, widget in widgets.items()})
    except SpecError as error:
        mistakes += error.mistakes
    if mistakes:
        raise SpecError(mistakes)
    return CompareSpec.parse({**asked, **knobs})  # type: ignore[return-value]


def _answers(ctx: Context, spec: CompareSpec) -> Iterator[tuple[answers.Answers, str, bool]]:
    """(answers so far, run id, whether it is over), at most ten times a second and once at the end.

    Where nobody listens any more (the page was closed), the run is stopped.
    """
    labels = dict(choices(ctx.workspace))
    shown = answers.asked(spec.prompt, spec.models, labels)
    run, over, last = ctx.runner.submit(spec), False, 0.0
    try:
        yield shown, run, False
        for event in ctx.runner.watch(run):
            shown, over = _heard(shown, event), isinstance(event, Finished)
            if over or time.monotonic() - last >= REFRESH:
                last = time.monotonic()
                yield shown, run, over
    finally:
        if not over:
            ctx.runner.stop(run)


def _heard(shown: answers.Answers, event: Event) -> answers.Answers:
    """The answers after one more event; a failure is a line above them, what was said stays."""
    if isinstance(event, Said):
        return shown.heard(event)
    if isinstance(event, Progress) and event.what != "tokens":
        return shown.with_words(event.what[:1].upper() + event.what[1:] + " …")
    if isinstance(event, Noted):
        return shown.with_words(event.text)
    if isinstance(event, Finished):
        words = {"finished": "", "stopped": "Stopped; what was said stays."}
        return shown.with_words(words.get(event.status, event.message), over=True)
    return shown
