"""Single rows by hand: dropped, brought back, rewritten, with the mouse or the keyboard (j and k move, x drops, e edits).

Part of the Data tab. What is done stands in the recipe (`jobs/handiwork.py`).
Ids: data-rows, data-edit, data-edit-text, data-edit-save, data-edit-leave.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.parts import DataSpec
from workbench.jobs.handiwork import rewritten, toggled
from workbench.jobs.paging import Row, row
from workbench.ui import cards, counting, forms
from workbench.ui.context import Context

KEYS = """
element.addEventListener('keydown', (event) => {
  if (event.target.matches('input, textarea') || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...element.querySelectorAll('.data-row')];
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const move = {j: 1, k: -1}[event.key];
  if (move) {
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + move))];
    next?.querySelector('[data-pick]')?.focus();
    next?.scrollIntoView({block: 'nearest'});
    event.preventDefault();
  }
  if (at >= 0) rows[at].querySelector(`[data-key="${event.key}"]`)?.click();
});
"""
Draft = dict[str, Any]


def build(ctx: Context, draft: gr.State, counted: gr.State) -> gr.HTML:
    """Draw the place for a rewritten answer and the one for the rows, which is returned; hear what is done to rows."""
    edited = gr.State(None)  # the row's mark and the answer that it has in the file
    with gr.Column(visible=False, elem_id="data-edit") as panel:
        text = gr.Textbox(label="The answer", lines=4, max_lines=16, interactive=True, elem_id="data-edit-text")
        with gr.Row():
            save = gr.Button("Keep this answer", variant="primary", elem_id="data-edit-save", size="sm")
            leave = gr.Button("Leave it", elem_id="data-edit-leave", size="sm")
    shown = gr.HTML(elem_id="data-rows", js_on_load=cards.PICK + KEYS, apply_default_css=False)

    def done(held: Draft, seen: dict[str, Any] | None, event: gr.EventData) -> tuple[Any, ...]:
        does, _, number = event.pick.partition(":")
        if seen is None:  # the rows are of before, and what they are of is being counted
            return (gr.skip(),) * 4
        try:
            found = _row(ctx, seen, int(number))
        except (WorkbenchError, IndexError):  # the file is another one now, which the count says
            return (gr.skip(),) * 4
        if does == "toggle":
            return toggled(held, found.mark), gr.skip(), gr.skip(), gr.skip()
        label = f"Row {found.number:,}: the answer it is to have"
        return gr.skip(), gr.Column(visible=True), gr.Textbox(found.answer, label=label), (found.mark, found.before)

    def saved(held: Draft, answer: str, own: tuple[str, str]) -> tuple[Draft, Any]:
        return rewritten(held, own[0], answer, own[1]), gr.Column(visible=False)

    shown.select(done, [draft, counted], [draft, panel, text, edited], **forms.WRITER)
    save.click(saved, [draft, text, edited], [draft, panel], **forms.WRITER)
    leave.click(lambda: gr.Column(visible=False), None, panel, **forms.READER)
    return shown


def _row(ctx: Context, seen: dict[str, Any], number: int) -> Row:
    spec: Any = DataSpec.parse(seen["data"])
    return row(spec, counting.tokenizer(seen["model"], ctx.workspace), ctx.workspace, number, seen["model"])
