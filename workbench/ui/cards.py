"""Small pieces of HTML that several tabs show: error cards, figures in tiles, tables, a list to pick from, a progress bar.

What it is not: a template engine or a style; the looks stand in assets/theme.css and assets/tabs.css. Every text that came
from a person, a file or a model goes through `escaped` here. Nothing else builds markup from foreign text.
"""

import functools
import html
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gradio as gr

from workbench.core.errors import SpecError, WorkbenchError
from workbench.runs.failures import sentence

PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-pick]');
  if (!button || button.disabled) return;
  if (button.hasAttribute('aria-pressed'))
    element.querySelectorAll('[aria-pressed]').forEach((other) => other.setAttribute('aria-pressed', other === button));
  trigger('select', {pick: button.dataset.pick});
});
"""

PROBLEMS = (WorkbenchError, OSError, MemoryError, RuntimeError)
"""What long work in a handler may end with: a sentence of ours, a full disk, no memory, a full graphics card."""

# A figure that was drawn while its tab was hidden has Plotly's default width; it measures itself again at a resize.
FIT = "new ResizeObserver(() => window.dispatchEvent(new Event('resize'))).observe(element);"


def escaped(text: Any) -> str:
    """Foreign text, safe inside markup and inside Gradio's HTML component.

    The component reads its value as a template (`${…}` and `{{…}}`), so those signs are written as character references.
    """
    return html.escape(str(text)).replace("{", "&#123;").replace("$", "&#36;").replace("`", "&#96;")


def picker(value: str, elem_id: str, classes: Sequence[str] = ()) -> gr.HTML:
    """HTML whose `<button data-pick="…">`s raise `.select(handler)`; the handler reads `event.pick` (`gr.EventData`)."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=list(classes), js_on_load=PICK, apply_default_css=False)


def place(value: str = "", elem_id: str | None = None, classes: Sequence[str] = (), above_figure: bool = False) -> gr.HTML:
    """HTML that is only looked at; the one `above_figure` makes the figures of its tab fit when the tab is shown."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=list(classes), js_on_load=FIT if above_figure else None, apply_default_css=False)


def card_place(elem_id: str) -> gr.HTML:
    """Where a card will stand when there is something to say; it takes no room until then."""
    return place(elem_id=elem_id, classes=["card-place"])


def error_card(error: WorkbenchError) -> str:
    """What happened in bold, then why and what to do; each mistake of a spec on its own line."""
    if isinstance(error, SpecError):
        mistakes = "".join(f"<li>{escaped(mistake)}</li>" for mistake in error.mistakes)
        return f'<div class="card act" role="alert"><strong>This cannot be used yet</strong><ul>{mistakes}</ul></div>'
    happened, _, rest = _sentences(str(error))
    return f'<div class="card act" role="alert"><strong>{escaped(happened)}</strong><p>{escaped(rest)}</p></div>'


def problem(error: Exception) -> str:
    """The card for one of `PROBLEMS`."""
    return error_card(error if isinstance(error, WorkbenchError) else WorkbenchError(sentence(error)))


def _sentences(text: str) -> tuple[str, str, str]:
    """The first sentence and the rest; a full stop inside a name or a number ends nothing."""
    found = re.search(r"(?<=[.:])\s+(?=[A-Z`'])", text)
    return (text, "", "") if found is None else (text[: found.start()], " ", text[found.end() :])


def note(text: str, tone: str = "") -> str:
    """A sentence in place; `tone` is empty, `safe`, `watch` or `act`."""
    return f'<div class="card {tone}" role="status">{escaped(text)}</div>'


def carded(others: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A handler that returns `others` values gets an error card put before them as its first output.

    Where it raises a `WorkbenchError`, the card says so and the other outputs stay as they are: nothing typed is lost.
    """

    def wrap(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def edge(*given: Any) -> tuple[Any, ...]:
            try:
                result = handler(*given)
            except WorkbenchError as error:
                return (error_card(error), *[gr.skip()] * others)
            return ("", *(result if others > 1 else (result,)))

        return edge

    return wrap


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Figures in a row: (number, what it counts, tone)."""
    cells = "".join(
        f'<div class="tile {tone}"><b>{escaped(number)}</b><span>{escaped(what)}</span></div>' for number, what, tone in figures
    )
    return f'<div class="tiles">{cells}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], limit: int = 50, empty: str = "Nothing to show.") -> str:
    """A small table; what is beyond `limit` is counted, not drawn."""
    if not rows:
        return f'<p class="quiet">{escaped(empty)}</p>'
    head = "".join(f"<th>{escaped(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows[:limit])
    more = f'<p class="quiet">and {len(rows) - limit:,} more</p>' if len(rows) > limit else ""
    return (
        f'<div class="table-box" tabindex="0"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if not isinstance(value, int | float):
        return f"<td>{escaped('' if value is None else value)}</td>"
    return f'<td class="number">{value:,}</td>' if isinstance(value, int) else f'<td class="number">{value:.3g}</td>'


def progress(done: int, total: int, what: str) -> str:
    """A bar with its words; an unknown total (0) shows the words alone."""
    share = min(1.0, done / total) if total else 0.0
    words = f"{what} · {done:,} of {total:,}" if total else what
    bar = f'<div class="bar"><i style="width:{share:.1%}"></i></div>' if total else ""
    return f'<div class="progress" role="status" aria-live="polite">{bar}<span>{escaped(words)}</span></div>'
