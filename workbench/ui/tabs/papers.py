"""The Papers tab: every registered method as a card, drawn from the registry: what it does, its formula, its knobs, its paper, its claim.

Nothing here is written by hand, so no method can be missing and no card can say something else than the code. What a card says of its
paper's claim is `claiming.py`'s; it comes with the page's pulse, because a check goes on while one reads.
Elements for tests: `papers` with `input[type=search]`, `select`, `.paper-card[data-method]`, buttons `[data-event=use]`; those of claiming.
"""

import json
import re
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import gradio as gr

from workbench.core.claim import ClaimSpec, claims
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.method import SHELVES, Method, knobs_of
from workbench.core.words import count
from workbench.ui import claiming
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
CLAIMS = "claims"  # what is chosen in place of a shelf to see the methods whose claim can be checked
EVENTS = ("use", "check", "stop", "open", "take")
TEMPLATE = """<div class="papers-head"><input type="search" placeholder="Search methods, papers, knobs" aria-label="Search methods">
<select aria-label="Shelf"><option value="">all shelves</option>OPTIONS
<option value="claims">claims to check here · COUNT</option></select></div><div class="polled"></div>"""


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""

    def cards(asked: dict[str, Any]) -> str:
        return cards_of(str(asked.get("search", "")), str(asked.get("shelf", "")))

    options = "".join(f'<option value="{shelf}">{shelf} · {len(SHELVES[shelf])}</option>' for shelf in CHANGES if SHELVES.get(shelf))
    library = gr.HTML(
        html_template=TEMPLATE.replace("OPTIONS", options).replace("COUNT", str(len(claims()))),
        js_on_load=f"Workbench.searched(element, trigger, server, {json.dumps(EVENTS)})",
        server_functions=[cards],
        apply_default_css=False,
        elem_id="papers",
    )
    library.use(use, [bench.spec, bench.loaded], [bench.spec, bench.loaded, bench.tabs], **WRITER)
    ctx.pulse.piece(CLAIMS, _news(ctx))
    _wire_claims(ctx, bench, library)


def _news(ctx: Context) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What is new of the claims on the cards that are drawn; the page tells of each what it has."""

    @lru_cache(maxsize=64)
    def read(run: str) -> tuple[list[Table], list[Noted]]:  # of a run that is over, which does not change
        return ctx.store.tables(run), ctx.store.notes(run)

    def news(asked: dict[str, Any]) -> dict[str, Any]:
        known, runs, live = claims(), ctx.store.runs("claim"), ctx.runner.live()
        pace, told = claiming.pace_of(runs), {}
        for name, key in dict(asked.get("keys") or {}).items():
            if name in known:
                drawn = claiming.section(name, known[name], claiming.record_of(name, runs, live, read), pace)
                now = f"{zlib.crc32(drawn.encode()):08x}"
                told |= {name: {"key": now, "html": drawn}} if now != key else {}
        return {"boxes": told}

    return news


def _wire_claims(ctx: Context, bench: Bench, library: gr.HTML) -> None:
    def check(event: gr.EventData) -> None:
        try:
            ctx.runner.submit(ClaimSpec.of(str(event.claim)))
        except WorkbenchError as error:
            gr.Warning(escaped(error))

    def stop(event: gr.EventData) -> None:
        try:
            ctx.runner.stop(event.run)
        except WorkbenchError as error:
            gr.Warning(escaped(error))

    def opened(event: gr.EventData) -> tuple[Any, ...]:
        return event.run, gr.Tabs(selected="runs")

    def take(event: gr.EventData, loaded: int) -> tuple[Any, ...]:
        spec = claiming.spec_of(ctx.store.tables(event.run), event.what)
        return (spec, loaded + 1, gr.Tabs(selected="train")) if spec else (gr.skip(),) * 3

    library.check(check, None, None, **WRITER)
    library.stop(stop, None, None, **WRITER)
    library.open(opened, None, [bench.opened, bench.tabs], **WRITER)
    library.take(take, bench.loaded, [bench.spec, bench.loaded, bench.tabs], **WRITER)


def cards_of(search: str, shelf: str) -> str:
    """The cards that hold every word of `search`, of a shelf or of the methods whose claim can be checked."""
    words, claimed = search.lower().split(), {(claim.shelf, claim.method) for claim in claims().values()}
    found = [
        (name, method)
        for name in CHANGES
        if shelf in ("", name, CLAIMS)
        for method in sorted(SHELVES.get(name, {}).values(), key=lambda method: method.title().lower())
        if all(word in _searched(method) for word in words) and (shelf != CLAIMS or (name, method.name) in claimed)
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
        f'<div class="doc">{doc(method.doc())}</div>{_claims(shelf, method)}{_knobs(method)}'
        f'<button class="quiet-button" {use_it}>Use it</button></article>'
    )


def _claims(shelf: str, method: type[Method]) -> str:
    """Where the pulse puts what is known of the method's claims."""
    own = [name for name, claim in claims().items() if (claim.shelf, claim.method) == (shelf, method.name)]
    return "".join(f'<section class="claim" {attributes(data_claim=name)}></section>' for name in own)


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
