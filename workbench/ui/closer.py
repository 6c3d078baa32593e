"""A closer look at the opened run: a panel below its buttons, drawn when it is asked for, in which something is chosen and begun.

What stands in it, `inspecting.py` and `evaluating.py` say; what is begun is a run of its own and is opened. Ids: run-closer,
run-closer-says, run-closer-leave.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.parts import Spec
from workbench.jobs.estimate import choices
from workbench.runs.records import Run
from workbench.ui import cards, forms
from workbench.ui.bench import Bench
from workbench.ui.context import Context


@dataclass(frozen=True)
class Closer:
    """`shown`: which panel is open, or ""; `inspection`: which inspection its form is of; `says`: what was wrong."""

    ctx: Context
    bench: Bench
    shown: gr.State
    inspection: gr.State
    says: gr.HTML

    def leave(self) -> None:
        """Draw the button that closes the panel."""
        button = gr.Button("Leave it", size="sm", elem_id="run-closer-leave", scale=0, min_width=90)
        button.click(lambda: ("", ""), None, [self.shown, self.says], **forms.WRITER)

    def said(self, handler: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        """A handler whose first output is `says`: its mistake is a card there, and its other output stays."""

        def edge(*given: Any) -> tuple[Any, ...]:
            try:
                return handler(*given)
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()

        return edge

    def starts(self, button: gr.Button, wanted: Callable[[Run, Mapping[Component, Any]], Spec], inputs: set[Component]) -> None:
        """`button` begins what is `wanted` of the opened run, closes the panel and opens what was begun."""

        def start(given: dict[Component, Any]) -> tuple[Any, ...]:
            try:
                begun = self.ctx.runner.submit(wanted(self.ctx.store.run(given[self.bench.opened]), given))
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip(), gr.skip()
            return "", "", begun

        button.click(start, {self.bench.opened, *inputs}, [self.says, self.shown, self.bench.opened], **forms.WRITER)


def beside(closer: Closer, elem_id: str, info: str) -> gr.Dropdown:
    """Other models, chosen by mouse or typed."""
    found = [(label, name) for name, label in choices(closer.ctx.workspace)]
    return gr.Dropdown(
        found, label="Beside it", multiselect=True, interactive=True, allow_custom_value=True, elem_id=elem_id, info=info, key=elem_id
    )


def offers(run: Run | None) -> bool:
    """Whether the run is over and made something that can be looked at."""
    return run is not None and run.kind in ("train", "merge") and run.status in ("finished", "stopped")
