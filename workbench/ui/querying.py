"""All runs asked in SQL: a statement, its answer as a picture and a table, statements that are kept under a name.

Part of the Runs tab; what may be asked is `runs/query.py`'s, how an answer looks `replies.py`'s. Ids: runs-sql, runs-sql-begin,
runs-sql-text, runs-sql-go, runs-sql-stop, runs-sql-name, runs-sql-keep, runs-sql-forget, runs-sql-tables, runs-sql-says, runs-sql-axes,
runs-sql-across, runs-sql-up, runs-sql-each, runs-sql-figure, runs-sql-answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.runs.kept import forget, keep, kept
from workbench.runs.query import Answer
from workbench.runs.views import EXAMPLES
from workbench.ui import cards, replies, taking
from workbench.ui.context import Context
from workbench.ui.forms import DRAWN, READER, WRITER

KEPT = "kept: "
ASKED: dict[str, Any] = {**WRITER, "concurrency_id": "query", "concurrency_limit": 2, "trigger_mode": "once"}
"""Two statements at once, whoever asks: each may take half a gigabyte and a core. The others wait."""
FIRST = next(iter(EXAMPLES))
KEYS = """
element.closest('#runs-sql').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || !event.target.closest('#runs-sql-text')) return;
  event.preventDefault();
  event.stopPropagation();
  document.getElementById('runs-sql-go').click();
}, true);
"""


@dataclass(frozen=True)
class Parts:
    """What is drawn of the section."""

    begin: gr.Dropdown
    text: gr.Code
    go: gr.Button
    stop: gr.Button
    name: gr.Textbox
    keep: gr.Button
    forget: gr.Button
    says: gr.HTML
    axes: gr.Row
    across: gr.Dropdown
    up: gr.Dropdown
    each: gr.Dropdown
    figure: gr.Plot
    answer: gr.HTML

    def chosen(self) -> list[gr.Dropdown]:
        return [self.across, self.up, self.each]

    def answered(self) -> list[Any]:
        return [self.says, self.axes, *self.chosen(), self.figure, self.answer]


def build(ctx: Context) -> None:
    """Draw the section, its inside when it is opened for the first time."""
    desk, seen = replies.Desk(), gr.State(False)
    with gr.Accordion("SQL: ask all runs a question", open=False, elem_id="runs-sql", elem_classes=["more"]) as panel:

        @gr.render(inputs=[seen], triggers=[seen.change], **DRAWN)
        def drawn(opened: bool) -> None:
            if opened:
                parts = _parts(ctx)
                _wire_asking(ctx, parts, desk)
                _wire_keeping(ctx, parts)
                panel.expand(lambda: gr.Dropdown(choices(ctx)), None, parts.begin, **READER)

    panel.expand(lambda: True, None, seen, **WRITER)


def _parts(ctx: Context) -> Parts:
    with gr.Row(elem_classes=["bench-row"]):
        with gr.Column(scale=7, min_width=320):
            begin = gr.Dropdown(choices(ctx), value=FIRST, label="Begin with", interactive=True, elem_id="runs-sql-begin")
            text = gr.Code(
                EXAMPLES[FIRST], language="sql", label="Statement", interactive=True, lines=6, max_lines=16, wrap_lines=True,
                elem_id="runs-sql-text", buttons=["copy"],
            )  # fmt: skip
            with gr.Row(elem_classes=["actions"]):
                go = gr.Button("Ask (Ctrl+Enter)", variant="primary", size="sm", elem_id="runs-sql-go", scale=0, min_width=130)
                stop = gr.Button("Stop", size="sm", elem_id="runs-sql-stop", scale=0, min_width=70)
                name = gr.Textbox(
                    label="Name to keep it under", show_label=False, placeholder="keep it as …", max_lines=1, elem_id="runs-sql-name",
                    min_width=120,
                )  # fmt: skip
                held = gr.Button("Keep", size="sm", elem_id="runs-sql-keep", scale=0, min_width=70)
                gone = gr.Button("Forget", size="sm", visible=False, elem_id="runs-sql-forget", scale=0, min_width=80)
            says = cards.card_place("runs-sql-says")
        with gr.Column(scale=5, min_width=300):
            gr.HTML(
                f"<h4>What can be asked</h4>{replies.what_can_be_asked()}",
                elem_id="runs-sql-tables",
                js_on_load=KEYS,
                apply_default_css=False,
            )
    with gr.Row(visible=False, elem_id="runs-sql-axes") as axes:
        lists = [
            gr.Dropdown([], label=label, interactive=True, elem_id=f"runs-sql-{name}", min_width=120)
            for name, label in (("across", "Across"), ("up", "Upwards"), ("each", "A colour for each"))
        ]
    figure = gr.Plot(show_label=False, visible=False, elem_id="runs-sql-figure", elem_classes=["figure"])
    return Parts(begin, text, go, stop, name, held, gone, says, axes, *lists, figure, cards.place(elem_id="runs-sql-answer"))


def choices(ctx: Context) -> list[str]:
    """What one can begin with: examples, then what somebody kept."""
    return [*EXAMPLES, *(f"{KEPT}{name}" for name in kept(ctx.workspace))]


def _wire_asking(ctx: Context, parts: Parts, desk: replies.Desk) -> None:
    def ask(statement: str | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        page, asked = str(request.session_hash), statement or ""
        question = desk.begin(page, asked)
        yield cards.progress(0, 0, "asking the runs"), *[gr.skip()] * 6
        try:
            answer = desk.told(page, question.answer(ctx.store, replies.HELD))
        except cards.PROBLEMS as error:
            yield replies.mistake(error), gr.Row(visible=False), *[gr.skip()] * 3, gr.Plot(visible=False), ""
            return
        yield "", *drawing(answer), replies.drawn(answer, asked, taking.ANSWER)

    def stopped(request: gr.Request) -> None:
        desk.stop(str(request.session_hash))

    def redraw(across: str, up: str, each: str, request: gr.Request) -> Any:
        answer = desk.last(str(request.session_hash))
        there = {column.name for column in answer.columns} if answer else set()
        return replies.picture(answer, (across, up, each)) if answer and {across, up, each} - {""} <= there else gr.skip()

    parts.go.click(ask, parts.text, parts.answered(), **ASKED)
    parts.stop.click(stopped, None, None, **READER)
    gr.on([one.input for one in parts.chosen()], redraw, parts.chosen(), parts.figure, trigger_mode="always_last", **READER)


def drawing(answer: Answer) -> tuple[Any, ...]:
    """What the row of lists and the picture become with a new answer."""
    chosen = replies.axes(answer)
    if chosen is None:
        return gr.Row(visible=False), *[gr.skip()] * 3, gr.Plot(visible=False)
    lists = [gr.Dropdown(offered, value=value) for offered, value in zip(replies.offered(answer), chosen, strict=True)]
    return gr.Row(visible=True), *lists, gr.Plot(replies.picture(answer, chosen), visible=True)


def _wire_keeping(ctx: Context, parts: Parts) -> None:
    def begin(chosen: str) -> tuple[Any, ...]:
        """Put what was chosen into the editor; one that is kept can be kept anew or forgotten."""
        name = chosen.removeprefix(KEPT)
        if chosen in EXAMPLES:
            return EXAMPLES[chosen], "", gr.Button(visible=False)
        return kept(ctx.workspace).get(name, gr.skip()), name, gr.Button(visible=True)

    def hold(name: str, statement: str | None) -> tuple[Any, ...]:
        try:
            named = keep(ctx.workspace, name, statement or "")
        except WorkbenchError as error:
            return cards.error_card(error), gr.skip(), gr.skip(), gr.skip()
        said = cards.note(f"Kept as {named}, in {ctx.workspace.query(named)}.", "safe")
        return said, gr.Dropdown(choices(ctx), value=f"{KEPT}{named}"), named, gr.Button(visible=True)

    def drop(chosen: str) -> tuple[Any, ...]:
        name = chosen.removeprefix(KEPT)
        forget(ctx.workspace, name)
        said = cards.note(f"{name} is forgotten. Its statement still stands here.")
        return said, gr.Dropdown(choices(ctx), value=None), "", gr.Button(visible=False)

    changed = [parts.says, parts.begin, parts.name, parts.forget]
    parts.begin.input(begin, parts.begin, [parts.text, parts.name, parts.forget], trigger_mode="always_last", **READER)
    gr.on([parts.keep.click, parts.name.submit], hold, [parts.name, parts.text], changed, **READER)
    parts.forget.click(drop, parts.begin, changed, **READER)
