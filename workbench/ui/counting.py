"""Counting what a recipe makes of a data set while a person watches: asked first where it is long, with a bar, and a button that stops it.

What it is: the wiring between a recipe's draft and what is drawn of it. A count that nobody wants any more, because the recipe changed or
the button was pressed, ends within its next sign of life. What it is not: the counting (`jobs/curate.py`) or the drawing (`findings.py`).
Ids: data-counting (buttons `[data-pick=count]`, `[data-pick=stop]`).
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.memory import Memory
from workbench.core.parts import DataSpec
from workbench.core.words import duration
from workbench.core.workspace import Workspace
from workbench.jobs.curate import Look, looking, tokenizer_of
from workbench.jobs.steps import LONG, estimates
from workbench.ui import cards, forms
from workbench.ui.watching import watched

HOUR = 3600.0  # estimated seconds beyond which a person is told what would make it shorter
OPEN = 1000  # pages whose latest wish is remembered
Recipe = Mapping[str, Any]
Drawn = Callable[[Look, Recipe], tuple[Any, ...]]


class Wishes:
    """What each open page wants counted: only the latest."""

    def __init__(self) -> None:
        self._numbers, self._latest = itertools.count(), Memory[int](OPEN)

    def begin(self, page: str) -> Callable[[], bool]:
        """A new wish of the page; what is returned says whether it still is the latest. To stop, wish and do nothing."""
        number = self._latest.put(page, next(self._numbers))
        return lambda: self._latest.get(page) == number


@functools.lru_cache(maxsize=4)
def tokenizer(model: str, workspace: Workspace) -> Any:
    """Loaded once, so that the counts of `jobs.curate` stay in memory."""
    return tokenizer_of(model, workspace)


def counted(recipe: Recipe, model: str, workspace: Workspace, wanted: Callable[[], bool], asked: bool) -> Iterator[str | Look]:
    """Markup that says how far it is, then the `Look`; markup alone where a person must be asked first, or nobody wants it any more.

    Raises:
        WorkbenchError: as `looking`.
    """
    spec: Any = DataSpec.parse(recipe)
    steps = [] if asked else estimates(spec, workspace, model)
    if sum(seconds for _, seconds in steps) > LONG:
        yield from [_ask(steps)] if wanted() else []
        return
    yield from watched(looking(spec, tokenizer(model, workspace), workspace, model), wanted, _button("stop", "Stop"))


def wire(workspace: Workspace, draft: gr.State, model: gr.State, says: gr.HTML, outputs: tuple[Component, ...], drawn: Drawn) -> None:
    """Count at each change of the recipe or the model. `outputs`: a place for errors, then what `drawn` gives, then a state that holds
    the recipe and the model that were counted, None where they could not be."""
    wishes = Wishes()
    still = [gr.skip()] * (len(outputs) - 2)

    def run(recipe: Recipe, model_: str, page: str, asked: bool) -> Iterator[tuple[Any, ...]]:
        wanted = wishes.begin(page)
        try:
            for found in counted(recipe, model_, workspace, wanted, asked):
                if isinstance(found, Look):
                    yield "", "", *drawn(found, recipe), {"data": recipe, "model": model_}
                else:
                    yield found, "", *still, None
        except cards.PROBLEMS as error:
            if wanted():
                yield "", cards.problem(error), *still, None

    def changed(recipe: Recipe, model_: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from run(recipe, model_, str(request.session_hash), asked=False)

    def pressed(recipe: Recipe, model_: str, event: gr.EventData, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        if event.pick == "count":
            yield from run(recipe, model_, str(request.session_hash), asked=True)
        else:
            wishes.begin(str(request.session_hash))
            yield _stopped(), "", *still, None

    wired: dict[str, Any] = {"trigger_mode": "multiple", **forms.WRITER}
    gr.on(None, changed, [draft, model], [says, *outputs], **wired)
    says.select(pressed, [draft, model], [says, *outputs], **wired)


def _ask(steps: Sequence[tuple[str, float]]) -> str:
    """How long it takes, which step is to blame where it is one of several, and what makes it shorter where nobody would wait."""
    seconds = sum(own for _, own in steps)
    title, most = max(steps, key=lambda step: step[1])
    blame = f", most of it for {title}" if len(steps) > 1 and most > seconds / 2 else ""
    less = " A Random sample or another cheap step before it leaves it fewer rows to read." if seconds > HOUR else ""
    words = f"To count what these steps keep takes about {duration(seconds)}{blame}.{less} What is shown is of before."
    return f'<div class="card watch" role="status">{cards.escaped(words)} {_button("count", "Count them")}</div>'


def _stopped() -> str:
    return f'<div class="card" role="status">Stopped. What models have read is kept. {_button("count", "Go on")}</div>'


def _button(does: str, words: str) -> str:
    return f'<button type="button" class="quiet-button" data-pick="{does}">{words}</button>'
