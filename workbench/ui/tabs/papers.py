"""The Papers tab: every registered method as a card, drawn from the registry: what it does, its formula, its knobs, its paper, its claim.

Nothing here is written by hand, so no method can be missing and no card can say something else than the code. What a card says of its
paper's claim is `claiming.py`'s; it comes with the page's pulse, because a check goes on while one reads.
Elements for tests: `papers` with `input[type=search]`, `select`, `.paper-card[data-method]`, `.claim-word[data-word]`, buttons
`[data-event=use]`; those of claiming.
"""

import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import gradio as gr

from workbench.core.claim import ClaimSpec, claims
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.method import SHELVES, Method, knobs_of
from workbench.core.outcome import NOT_CHECKED, Outcome, outcome_of, tally
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
Known = dict[str, tuple[claiming.Record, Outcome | None]]
EVENTS = ("use", "check", "stop", "open", "take")
TEMPLATE = """<div class="papers-head"><input type="search" placeholder="Search methods, papers, knobs" aria-label="Search methods">
<select aria-label="Shelf"><option value="">all shelves</option>OPTIONS
<option value="claims">claims to check here · COUNT</option></select></div><div class="polled"></div>"""


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    known = _known(ctx)

    def cards(asked: dict[str, Any]) -> str:
        verdicts = {name: claiming.word(*found) for name, found in known(claims()).items()}
        return cards_of(str(asked.get("search", "")), str(asked.get("shelf", "")), verdicts)

    options = "".join(f'<option value="{shelf}">{shelf} · {len(SHELVES[shelf])}</option>' for shelf in CHANGES if SHELVES.get(shelf))
    library = gr.HTML(
        html_template=TEMPLATE.replace("OPTIONS", options).replace("COUNT", str(len(claims()))),
        js_on_load=f"Workbench.searched(element, trigger, server, {json.dumps(EVENTS)})",
        server_functions=[cards],
        apply_default_css=False,
        elem_id="papers",
    )
    library.use(use, [bench.spec, bench.loaded], [bench.spec, bench.loaded, bench.tabs], **WRITER)
    ctx.pulse.piece(CLAIMS, _news(ctx, known))
    _wire_claims(ctx, bench, library)


def _known(ctx: Context) -> Callable[[Iterable[str]], Known]:
    """How to look up what is on record of claims: here, and on our machine."""

    @lru_cache(maxsize=256)
    def read(run: str) -> tuple[list[Table], list[Noted]]:  # of a run that is finished, which does not change
        return ctx.store.tables(run), ctx.store.notes(run)

    def known(names: Iterable[str]) -> Known:
        runs, live, all_claims = ctx.store.runs("claim"), ctx.runner.live(), claims()
        wanted = {name: all_claims[name] for name in names if name in all_claims}
        return {name: (claiming.record_of(name, runs, live, read), outcome_of(name, claim)) for name, claim in wanted.items()}

    return known


def _news(ctx: Context, known: Callable[[Iterable[str]], Known]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What is new of the claims on the cards that are drawn; the page tells of each what it has."""

    def news(asked: dict[str, Any]) -> dict[str, Any]:
        keys, pace, told = dict(asked.get("keys") or {}), claiming.pace_of(ctx.store.runs("claim")), {}
        for name, (record, ours) in known(keys).items():
            drawn = claiming.section(name, claims()[name], record, pace, ours)
            now = f"{zlib.crc32(drawn.encode()):08x}"
            told |= {name: {"key": now, "html": drawn, "word": claiming.word(record, ours)}} if now != keys[name] else {}
        return {"boxes": told}

    return news


def _wire_claims(ctx: Context, bench: Bench, library: gr.HTML) -> None:
    def check(event: gr.EventData) -> None:
        try:
            ctx.runner.resume(str(event.run)) if event.run else ctx.runner.submit(ClaimSpec.of(str(event.claim)))
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
        tables = ctx.store.tables(event.run)
        if spec := claiming.spec_of(tables, event.what):
            return spec, loaded + 1, gr.skip(), gr.Tabs(selected="train")
        try:
            recipe = claiming.recipe_of(tables, event.what, ctx.store.runs("train"))
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            return (gr.skip(),) * 4
        return gr.skip(), gr.skip(), {"recipe": recipe, "asked": time.time()}, gr.Tabs(selected="merge")

    library.check(check, None, None, **WRITER)
    library.stop(stop, None, None, **WRITER)
    library.open(opened, None, [bench.opened, bench.tabs], **WRITER)
    library.take(take, bench.loaded, [bench.spec, bench.loaded, bench.merge, bench.tabs], **WRITER)


def cards_of(search: str, shelf: str, verdicts: Mapping[str, str] | None = None) -> str:
    """The cards that hold every word of `search`, of a shelf or of the methods whose claim can be checked; `verdicts`: by claim."""
    words, claimed = search.lower().split(), _claimed(verdicts or {})
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
    told = [verdict for name, method in found for verdict in claimed.get((name, method.name), {}).values()]
    says = f"{len(found)} of {count(total, 'method')}" + (f". Of {count(len(told), 'claim')} {tally(told)}." if shelf == CLAIMS else "")
    shown = "".join(_card(name, method, claimed.get((name, method.name), {})) for name, method in found)
    return f'<p class="quiet">{says}</p><div class="paper-cards">{shown}</div>'


def _searched(method: type[Method]) -> str:
    knobs = " ".join(f"{knob.label} {knob.help}" for knob in knobs_of(method))
    return f"{method.title()} {method.name} {method.paper} {method.doc()} {knobs}".lower()


def _card(shelf: str, method: type[Method], verdicts: Mapping[str, str]) -> str:
    """`verdicts`: of the method's own claims, by name; the pulse puts what is known of each into its place."""
    link = method.link()
    paper = f'<a href="{escaped(link)}" target="_blank" rel="noopener noreferrer">{escaped(method.paper)}</a>' if link else ""
    where = f"Go to {APART[shelf].capitalize()}, where it is chosen" if shelf in APART else "Put it into the piece in work"
    use_it = attributes(type="button", data_event="use", data_shelf=shelf, data_name=method.name, title=where)
    words = "".join(_word(name, verdict) for name, verdict in verdicts.items())
    places = "".join(f'<section class="claim" {attributes(data_claim=name)}></section>' for name in verdicts)
    return (
        f'<article class="paper-card" {attributes(data_method=method.name)}><header><span class="shelf">{escaped(CHANGES[shelf])}</span>'
        f'<h3>{escaped(method.title())}</h3><span class="source">{paper}</span>{words}</header>'
        f'<div class="doc">{doc(method.doc())}</div>{places}{_knobs(method)}'
        f'<button class="quiet-button" {use_it}>Use it</button></article>'
    )


def _claimed(verdicts: Mapping[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """By shelf and method, the claims that stand on its card and their verdicts."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, claim in claims().items():
        found.setdefault((claim.shelf, claim.method), {})[name] = verdicts.get(name, NOT_CHECKED)
    return found


def _word(name: str, verdict: str) -> str:
    """The verdict in a word at the head of the card, where one sees it without reading on."""
    return f'<small class="claim-word">claim: <span {attributes(data_word=name)}>{escaped(verdict)}</span></small>'


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
