"""The Train tab: start, what is known beforehand, the run's settings; the live chart; answers, notes and steering.

Nothing of a run lives here: the page can be closed and opened again, or opened twice, and shows the same run.
Elements for tests: `start plan try tried train-name train-run pause resume stop sooner train-chart (data-run, data-step, data-n)
moving performance samples notes ask again take`; settings `train-steps …`; `train-loss train-update train-probes` choose methods.
"""

from dataclasses import replace
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.jobs.audit import refuse
from workbench.runs.records import Run
from workbench.ui.bench import Bench
from workbench.ui.cards import error_card, escaped
from workbench.ui.context import Context
from workbench.ui.forms import READER, WRITER, touched
from workbench.ui.livechart import live_chart
from workbench.ui.performance import performance_of
from workbench.ui.plan import plan, tried_steps
from workbench.ui.polled import polled
from workbench.ui.refresh import relisted
from workbench.ui.report import notes, samples
from workbench.ui.settings import settings
from workbench.ui.steering import steering_wheel
from workbench.ui.strip import strip_of
from workbench.ui.sweeping import sweeping
from workbench.ui.taking import run_path
from workbench.ui.words import run_label, status_words

LOOKING = '<p class="takes waits" role="status">Looking at the model and its rows …</p>'
RECENT = 40  # runs offered in the list; older ones are opened on the Runs tab
LIVE = ("queued", "running", "paused")


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    with gr.Row(elem_id="train", elem_classes=["bench-row"]):
        with gr.Column(scale=3, min_width=280, elem_classes=["side"]):
            start = gr.Button("Start", variant="primary", elem_id="start")
            planned = gr.HTML(LOOKING, elem_id="plan", apply_default_css=False)
            _trial(ctx, bench)
            _naming(bench)
            settings(bench)
            sweeping(ctx, bench)
        with gr.Column(scale=7, min_width=340, elem_classes=["middle"]):
            with gr.Row(elem_classes=["run-row"]):
                # any value is taken: another page may have put a run there that this one has not listed yet
                shown = gr.Dropdown(
                    [], label="Run", show_label=False, container=False, elem_id="train-run", scale=4, min_width=160, visible=False,
                    allow_custom_value=True,
                )  # fmt: skip
                steering = _steering_buttons()
            chart = live_chart(ctx, "train-chart", lambda: usual(ctx))
            blocks = polled(ctx.pulse, lambda run: (strip_of(ctx, run), ""), "moving", every=3)
            with gr.Accordion("Speed and memory", open=True, elem_classes=["group"]):
                speed = polled(ctx.pulse, lambda run: (performance_of(ctx, run), ""), "performance", every=5)
            wheel = steering_wheel(ctx, shown)
        with gr.Column(scale=3, min_width=260, elem_classes=["side"]):
            after = _after_buttons()
            answers = polled(
                ctx.pulse, lambda run: (answers_of(ctx, run), ""), "samples", every=2, around="<h3>Answers as it learns</h3>{}"
            )
            log = polled(ctx.pulse, lambda run: (notes_of(ctx, run), ""), "notes", every=2, around="<h3>Notes</h3>{}")
            watch = polled(ctx.pulse, lambda run: ("", state_of(ctx, run)), "train-watch", every=1)
    outputs = [start, *steering, *after, wheel]
    _wire_run(ctx, bench, shown, watch, [chart, blocks, speed, answers, log, watch], outputs)
    _wire_start(ctx, bench, start, planned, watch)
    _wire_steering(ctx, shown, steering)
    _wire_after(ctx, bench, shown, *after[:2])


def _trial(ctx: Context, bench: Bench) -> None:
    """Three steps in a process of their own, which a person can end."""
    with gr.Row(elem_classes=["after"]):
        attempt = gr.Button("Try three steps", size="sm", elem_id="try", min_width=120)
        leave = gr.Button("Leave it", size="sm", elem_id="try-leave", visible=False, min_width=80)
    shown = gr.HTML(elem_id="tried", apply_default_css=False)
    drawn = attempt.click(lambda: gr.Button(visible=True), None, leave, **READER).then(
        lambda spec: (yield from tried_steps(ctx, spec)), bench.spec, shown, **{**WRITER, "concurrency_limit": 1, "concurrency_id": "try"}
    )
    drawn.then(lambda: gr.Button(visible=False), None, leave, **READER)
    leave.click(lambda: ("", gr.Button(visible=False)), None, [shown, leave], cancels=[drawn], **READER)


def _naming(bench: Bench) -> None:
    """What the run is called in lists."""
    name = gr.Textbox(label="Name", placeholder="what the run is called in lists", max_length=80, max_lines=1, elem_id="train-name")
    write = {"trigger_mode": "always_last", **WRITER}
    touched(name)(lambda spec, typed: {**spec, "name": (typed or "").strip()}, [bench.spec, name], bench.spec, **write)
    bench.loaded.change(lambda spec: spec["name"], bench.spec, name, **READER)


def _steering_buttons() -> list[gr.Button]:
    return [
        gr.Button("Pause", elem_id="pause", size="sm", visible=False, min_width=80),
        gr.Button("Go on", elem_id="resume", size="sm", visible=False, min_width=80),
        gr.Button("Stop", elem_id="stop", size="sm", visible=False, min_width=80),
        gr.Button("Run it sooner", elem_id="sooner", size="sm", visible=False, min_width=100),
    ]


def _after_buttons() -> tuple[gr.Button, gr.Button, gr.Button]:
    with gr.Row(elem_classes=["after"]):
        return (
            gr.Button("Ask it", variant="primary", size="sm", elem_id="ask", visible=False, min_width=90),
            gr.Button("Make another to merge", size="sm", elem_id="again", visible=False, min_width=160),
            gr.Button("Download", size="sm", elem_id="take", visible=False, min_width=90),
        )


def state_of(ctx: Context, run: str | None) -> str:
    """Changes when a run comes to work or ends, or the one in view does; the page then asks for buttons and list anew."""
    at_work = [f"{job.id}:{job.status}" for job in ctx.runner.live() if job.kind == "train"]  # in the order of the queue
    try:
        return " ".join([*at_work, ctx.store.run(run).status if run else ""])
    except WorkbenchError:  # deleted in another page
        return " ".join(at_work)


def answers_of(ctx: Context, run: str | None) -> str:
    return samples(ctx.store.said(run)) if run else samples([])


def notes_of(ctx: Context, run: str | None) -> str:
    return notes(ctx.store.notes(run)) if run else notes([])


def _wire_run(ctx: Context, bench: Bench, shown: gr.Dropdown, watch: gr.HTML, followers: list[gr.HTML], outputs: list[gr.Button]) -> None:
    """The list of runs follows the runner; chart, answers, log and buttons follow what is chosen in it."""

    def refresh(run: str | None) -> gr.Dropdown:
        runs = known_runs(ctx)[:RECENT]
        chosen = choose(runs, run)
        names = [(f"{run_label(known.id, known.name)} · {standing(ctx, known)}", known.id) for known in runs]
        return relisted(names, run, chosen.id if chosen else None, visible=bool(names))

    def follow(run: str | None) -> tuple[Any, ...]:
        runs = known_runs(ctx)
        return followed(runs, next((known for known in runs if known.id == run), None) if run else choose(runs, None))

    news = gr.State(0)  # counted up when the runner has some: what a piece of our own tells cannot stand beside other events of one handler
    watch.moved(lambda count: count + 1, news, news, trigger_mode="always_last", **WRITER)
    moments = [news.change, bench.loaded.change]
    gr.on(moments, refresh, shown, shown, trigger_mode="always_last", **READER)
    # one handler for all, so that no answer about a run comes after that about the one chosen since
    gr.on([shown.change, *moments], follow, shown, [*followers, *outputs], trigger_mode="always_last", **READER)


def known_runs(ctx: Context) -> list[Run]:
    """All training runs, newest first, as the runner has them now: the store is a quarter of a second behind.

    `state_of` speaks of the runner too. Were the list older than it, a run that has just begun would be overlooked, and
    nothing would ask again until it ends.
    """
    now = {job.id: job.status for job in ctx.runner.live()}
    return [replace(run, status=now.get(run.id, run.status)) for run in ctx.store.runs("train")]


def standing(ctx: Context, run: Run) -> str:
    """A run's status in words, and of one that waits its place in the queue."""
    words = status_words(run.kind, run.status)
    waiting = [job.id for job in ctx.runner.live() if job.kind == run.kind and job.status == "queued"]
    return f"{words}, {waiting.index(run.id) + 1} of {len(waiting)}" if run.id in waiting and len(waiting) > 1 else words


def followed(runs: list[Run], chosen: Run | None) -> tuple[Any, ...]:
    """What chart, blocks, speed, answers, log and buttons become when a run is chosen."""
    run = chosen.id if chosen else ""
    return ({"run": run}, run, run, run, run, run, *buttons(chosen, busy=any(known.status in LIVE for known in runs)))


def usual(ctx: Context) -> str:
    """The run that the tab opens with."""
    chosen = choose(known_runs(ctx), None)
    return chosen.id if chosen else ""


def choose(runs: list[Run], shown: str | None) -> Run | None:
    """The run to look at: the one that is shown, unless it is over and a newer one is at work; else the newest."""
    present = next((run for run in runs if run.id == shown), None)
    at_work = next((run for run in reversed(runs) if run.status in ("running", "paused")), None)
    if present and (present.status in LIVE or at_work is None):
        return present
    return at_work or (runs[0] if runs else None)


def buttons(run: Run | None, busy: bool) -> list[Any]:
    """Start, pause, go on, stop, sooner, ask, again, download, the wheel: what can be done with this run now."""
    status = run.status if run else ""
    goes_on = status == "paused" or (status in ("stopped", "interrupted", "failed") and bool(run and run.step))
    return [
        gr.Button("Queue" if busy else "Start"),
        gr.Button(visible=status == "running"),
        gr.Button("Go on" if status == "paused" else "Resume from the checkpoint", visible=goes_on),
        gr.Button("Take out of the queue" if status == "queued" else "Stop", visible=status in LIVE),
        gr.Button(visible=status == "queued"),
        gr.Button(visible=status == "finished"),
        gr.Button(visible=status == "finished"),
        gr.Button(visible=status == "finished", link=run_path(run.id) if run else None),
        gr.Accordion(visible=status in ("running", "paused")),
    ]


def _wire_start(ctx: Context, bench: Bench, start: gr.Button, planned: gr.HTML, watch: gr.HTML) -> None:
    """Start, and what is known before it: both read the spec on the bench, so both find the same mistakes. A run that ends tells more."""

    def begin(spec: dict[str, Any]) -> Any:
        try:
            parsed = TrainSpec.parse(spec)
            refuse(parsed, ctx.workspace)
            ctx.runner.submit(parsed)
        except WorkbenchError as error:
            return error_card(error)
        return gr.skip()

    start.click(begin, bench.spec, planned, **WRITER)
    once: dict[str, Any] = {"trigger_mode": "always_last", **WRITER, "concurrency_limit": 2, "concurrency_id": "plan"}
    for moment in (bench.spec.change, bench.loaded.change, watch.moved):
        moment(lambda spec: plan(ctx, spec), bench.spec, planned, **once)


def _wire_steering(ctx: Context, shown: gr.Dropdown, steering: list[gr.Button]) -> None:
    def steered(action: Any) -> Any:
        def act(run: str) -> None:
            try:
                action(run)
            except WorkbenchError as error:
                gr.Warning(escaped(error))

        return act

    def go_on(run: str) -> None:
        (ctx.runner.play if ctx.store.run(run).status == "paused" else ctx.runner.resume)(run)

    for button, action in zip(steering, (ctx.runner.pause, go_on, ctx.runner.stop, ctx.runner.sooner), strict=True):
        button.click(steered(action), shown, None, **WRITER)


def _wire_after(ctx: Context, bench: Bench, shown: gr.Dropdown, ask: gr.Button, again: gr.Button) -> None:
    """What one does with a finished run: hold it against its base, or make a second one to merge with it."""

    def to_compare(run: str) -> tuple[Any, Any]:
        made = ctx.store.run(run)
        prompt = next((answer.prompt for answer in ctx.store.said(run)), "")
        return {"models": [made.spec["model"], f"run:{run}"], "prompt": prompt}, gr.Tabs(selected="compare")

    def another(run: str, loaded: int) -> tuple[Any, ...]:
        spec = ctx.store.run(run).spec
        gr.Info(f"Choose what the second run should learn, then start it. Merge joins it with run {run}.")
        return {**spec, "seed": spec["seed"] + 1, "name": ""}, loaded + 1, gr.Tabs(selected="data")

    ask.click(to_compare, shown, [bench.compare, bench.tabs], **WRITER)
    again.click(another, [shown, bench.loaded], [bench.spec, bench.loaded, bench.tabs], **WRITER)
