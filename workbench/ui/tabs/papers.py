"""The Papers tab: every registered method as a card, drawn from the registry: what it does, its formula, its knobs, its paper.

Nothing here is written by hand, so no method can be missing and no card can say something else than the code.
Elements for tests: `papers` with `input[type=search]`, `select`, `.paper-card[data-method]`, buttons `[data-event=use]`.
"""

import re
from typing import Any

import gradio as gr

from workbench.core.method import SHELVES, Method, knobs_of
from workbench.core.words import count
from workbench.ui.bench import Bench
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.forms import WRITER
from workbench.ui.formula import mathml
from workbench.ui.words import attributes

CHANGES = {
    "selectors": "data: which rows are learnt from",
    "adapters": "weights: which numbers may move",
    "losses": "loss: what a token's surprise is worth",
    "noises": "noise: what disturbs the inputs",
    "updates": "step: how the numbers move",
    "probes": "measurement: what is read as it learns",
    "merges": "merge: many models into one",
    "decoders": "decode: how the next token is chosen",
    "inspections": "inspect: what tuning did to a model",
}
APART = {"merges": "merge", "decoders": "compare", "inspections": "runs"}
"""Shelves that are no part of a training spec, and the tab where they are chosen."""
TEMPLATE = """<div class="papers-head"><input type="search" placeholder="Search methods, papers, knobs" aria-label="Search methods">
<select aria-label="Shelf"><option value="">all shelves</option>OPTIONS</select></div><div class="polled"></div>"""


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""

    def cards(asked: dict[str, Any]) -> str:
        return cards_of(str(asked.get("search", "")), str(asked.get("shelf", "")))

    options = "".join(f'<option value="{shelf}">{shelf} · {len(SHELVES[shelf])}</option>' for shelf in CHANGES if SHELVES.get(shelf))
    library = gr.HTML(
        html_template=TEMPLATE.replace("OPTIONS", options),
        js_on_load='Workbench.searched(element, trigger, server, ["use"])',
        server_functions=[cards],
        apply_default_css=False,
        elem_id="papers",
    )
    library.use(use, [bench.spec, bench.loaded], [bench.spec, bench.loaded, bench.tabs], **WRITER)


def cards_of(search: str, shelf: str) -> str:
    """The cards that hold every word of `search`, by shelf."""
    words = search.lower().split()
    found = [
        (name, method)
        for name in CHANGES
        if shelf in ("", name)
        for method in sorted(SHELVES.get(name, {}).values(), key=lambda method: method.title().lower())
        if all(word in _searched(method) for word in words)
    ]
    if not found:
        return '<p class="quiet">No method has all these words. Try fewer, or another shelf.</p>'
    total = sum(len(SHELVES.get(name, {})) for name in CHANGES)
    shown = "".join(_card(name, method) for name, method in found)
    return f'<p class="quiet">{len(found)} of {count(total, "method")}</p><div class="paper-cards">{shown}</div>'


def _searched(method: type[Method]) -> str:
    knobs = " ".join(f"{knob.label} {knob.help}" for knob in knobs_of(method))
    return f"{method.title()} {method.name} {method.paper} {method.doc()} {knobs}".lower()


def _card(shelf: str, method: type[Method]) -> str:
    link = method.link()
    paper = f'<a href="{escaped(link)}" target="_blank" rel="noopener noreferrer">{escaped(method.paper)}</a>' if link else ""
    where = f"Go to {APART[shelf].capitalize()}, where it is chosen" if shelf in APART else "Put it into the piece in work"
    use_it = attributes(type="button", data_event="use", data_shelf=shelf, data_name=method.name, title=where)
    return (
        f'<article class="paper-card" {attributes(data_method=method.name)}><header><span class="shelf">{escaped(CHANGES[shelf])}</span>'
        f'<h3>{escaped(method.title())}</h3><span class="source">{paper}</span></header>'
        f'<div class="doc">{doc(method.doc())}</div>{_knobs(method)}<button class="quiet-button" {use_it}>Use it</button></article>'
    )


def doc(text: str) -> str:
    """A docstring as HTML: paragraphs, formulas between `$$` as MathML, `names` as code, arXiv numbers as links."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text):
        formula = re.fullmatch(r"\s*\$\$(.+)\$\$\s*", paragraph, re.DOTALL)
        parts.append(mathml(formula[1]) if formula else f"<p>{_inline(' '.join(paragraph.split()))}</p>")
    return "".join(parts)


def _inline(text: str) -> str:
    code = re.sub(r"&#96;([^`]+?)&#96;", r"<code>\1</code>", escaped(text))
    link = r'<a href="https://arxiv.org/abs/\1" target="_blank" rel="noopener noreferrer">arXiv:\1</a>'
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", link, code)


def _knobs(method: type[Method]) -> str:
    rows = "".join(
        f"<tr><td>{escaped(knob.label)}</td><td>{escaped(knob.default)}{' ' + escaped(knob.unit) if knob.unit else ''}</td>"
        f"<td>{escaped(knob.range)}</td><td>{escaped(knob.help)}</td></tr>"
        for knob in knobs_of(method)
    )
    if not rows:
        return ""
    head = "<tr><th>knob</th><th>default</th><th>range</th><th>what it does</th></tr>"
    return (
        f'<details class="fold" {attributes(data_keep=f"knobs-{method.shelf}-{method.name}")}>'
        f'<summary>{count(len(knobs_of(method)), "knob")}</summary><table class="plain">'
        f"<thead>{head}</thead><tbody>{rows}</tbody></table></details>"
    )


def use(event: gr.EventData, spec: dict[str, Any], loaded: int) -> tuple[Any, ...]:
    """Put a method with its default knobs where it belongs, and go there."""
    shelf, name = event.shelf, event.name
    if name not in SHELVES.get(shelf, {}):
        return gr.skip(), gr.skip(), gr.skip()
    if shelf in APART:
        return gr.skip(), gr.skip(), gr.Tabs(selected=APART[shelf])
    chosen = SHELVES[shelf][name]().chosen()
    match shelf:
        case "selectors":
            spec, tab = {**spec, "data": {**spec["data"], "selectors": [*spec["data"]["selectors"], chosen]}}, "data"
        case "probes" | "noises":
            others = [method for method in spec[shelf] if method["method"] != name]
            spec, tab = {**spec, shelf: [*others, chosen]}, "train"
        case _:
            part = {"adapters": "adapter", "losses": "loss", "updates": "update"}[shelf]
            spec, tab = {**spec, part: chosen}, "adapter" if shelf == "adapters" else "train"
    return spec, loaded + 1, gr.Tabs(selected=tab)
