"""Every picture that stands still: pure functions from values to Plotly figures. The only file that imports Plotly.

What it is not: it reads no store and no spec, and draws nothing live (`livechart` does; a `gr.Plot` on a timer loses the
zoom and leaks, gui.md 3.3). Each figure has a title that says what it shows, axes with units, and a sentence where it is
empty. The look stands in assets/figure.json: transparent, the Okabe–Ito palette, grey text that is read on light and dark.
"""

import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.core import words
from workbench.core.events import Table
from workbench.core.picture import Picture
from workbench.core.workspace import ASSETS

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C")  # Okabe–Ito, safe for colour-blind eyes
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = PALETTE
DASHES = ("solid", "dash", "dot", "dashdot")
PLANE = "Learning against forgetting"
Series = tuple[Sequence[float], Sequence[float]]
"""(steps, values) of one line."""


@cache
def template() -> go.layout.Template:
    """The common look of all figures, read once."""
    return go.layout.Template(json.loads((ASSETS / "figure.json").read_text(encoding="utf-8")))


def run_colour(run_id: str) -> str:
    """A run has one colour everywhere, on every tab and in every session."""
    return PALETTE[int(run_id) % len(PALETTE)] if run_id.isdigit() else PALETTE[sum(run_id.encode()) % len(PALETTE)]


def strokes(labels: Sequence[str], colours: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Of each line its colour, and a dash where one before it has that colour too."""
    found, taken = dict[str, dict[str, str]](), Counter[str]()
    for place, label in enumerate(labels):
        colour = colours.get(label, PALETTE[place % len(PALETTE)])
        found[label] = {"color": colour, "dash": DASHES[taken[colour] % len(DASHES)]}
        taken[colour] += 1
    return found


def figure(title: str, x: str, y: str, height: int = 300) -> go.Figure:
    """An empty figure in the common look."""
    drawn = go.Figure()
    drawn.update_layout(template=template(), title_text=title, height=height, xaxis_title_text=x, yaxis_title_text=y, dragmode=False)
    return drawn


def empty(title: str, sentence: str, height: int = 300) -> go.Figure:
    """A figure that says in a sentence why it shows nothing."""
    drawn = figure(title, "", "", height)
    drawn.update_xaxes(visible=False).update_yaxes(visible=False)
    drawn.add_annotation(text=wrapped(sentence), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font_size=13)
    return drawn


def wrapped(sentence: str, width: int = 48) -> str:
    """Lines of at most `width` characters, for Plotly, which does not wrap."""
    lines = [""]
    for word in sentence.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def short(number: float) -> str:
    """Three significant digits with a thousand's letter: `812`, `41.3 k`, `1.24 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= size:
            return f"{number / (1e3 if letter == ' k' else size):.3g}{letter}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.3g}"


def curves(
    lines: Mapping[str, Series], title: str, x: str, y: str, log: bool = False, colours: Mapping[str, str] | None = None
) -> go.Figure:
    """One line a label over its steps; a log axis where the values span decades. Values that are not finite leave a gap."""
    drawn = figure(title, x, y)
    looks = strokes(list(lines), colours or {})
    for label, (steps, values) in lines.items():
        finite = [value if math.isfinite(value) else None for value in values]
        alone = "markers" if len(finite) == 1 else "lines"
        drawn.add_scatter(x=list(steps), y=finite, name=label, mode=alone, line={"width": 1.8, **looks[label]}, connectgaps=False)
    if not any(len(values) for _, values in lines.values()):
        return empty(title, "No values yet: the line begins with the first step.")
    drawn.update_layout(yaxis_type="log" if log else "linear", showlegend=len(lines) > 1, hovermode="x unified")
    return drawn


def length_histogram(lengths: Sequence[int], cut: int, height: int = 260) -> go.Figure:
    """How long the rows are in tokens, and where they are cut off; rows beyond the line lose their end."""
    title = "Row lengths"
    if not lengths:
        return empty(title, "No rows yet: choose a data set.", height)
    beyond = sum(length > cut for length in lengths)
    drawn = figure(title, "row length (tokens)", "rows", height)
    width = max(1, math.ceil((max(lengths) - min(lengths) + 1) / 40))
    counts = Counter((length > cut, length // width * width) for length in lengths)
    for late, label, colour in ((False, "whole", BLUE), (True, "cut off", VERMILION)):
        bars = sorted((start, rows) for (is_late, start), rows in counts.items() if is_late == late)
        if bars:
            middle = [start + (width - 1) / 2 for start, _ in bars]
            said = [f"{start:,} to {start + width - 1:,} tokens: {rows:,} rows, {label}" for start, rows in bars]
            drawn.add_bar(x=middle, y=[rows for _, rows in bars], width=width * 0.92, name=label, marker_color=colour, hovertext=said)
    says = f"{beyond:,} of {len(lengths):,} beyond the cut at {cut:,}" if beyond else f"none beyond the cut at {cut:,}"
    if cut <= max(lengths) * 1.6:
        drawn.add_vline(x=cut + 0.5, line={"color": GREY, "dash": "dash", "width": 1.5})
    drawn.update_traces(hoverinfo="text").update_layout(
        barmode="stack", showlegend=False, yaxis_dtick=1 if len(lengths) < 5 else None, title_text=f"{title} · {says}"
    )
    return drawn


def terrain(spots: Sequence[tuple[int, float, float, bool, str]], height: int = 360) -> go.Figure:
    """Rows on a map, those that go behind those that stay; a spot is (row, x, y, whether it stays, how it begins)."""
    title = "Rows by meaning: near ones say similar things"
    if not spots:
        return empty(title, "There is no row to draw.", height)
    drawn = figure(title, "first direction", "second direction", height)
    for name, colour, wanted in (("go", ORANGE, False), ("stay", BLUE, True)):
        own = [spot for spot in spots if spot[3] is wanted]
        drawn.add_scattergl(
            x=[spot[1] for spot in own],
            y=[spot[2] for spot in own],
            mode="markers",
            marker={"size": 5, "color": colour, "opacity": 0.75},
            name=f"{len(own):,} rows {name}",
            customdata=[spot[0] for spot in own],
            text=[f"row {spot[0]:,}<br>{'<br>'.join(map(wrapped, html.escape(spot[4]).splitlines()))}" for spot in own],
            hoverinfo="text",
        )
    return drawn.update_layout(dragmode="lasso", legend={"orientation": "h", "y": -0.2})


def forecast(models: Mapping[str, tuple[Series, Series]], title: str, rows: float) -> go.Figure:
    """Of each model its runs as points, (rows, losses), and the law through them as a line; and where `rows` lies, which is asked for."""
    if not models:
        return empty(title, "No curve yet: it needs four runs that differ only in how many rows they learn from.")
    drawn = figure(title, "rows learnt from", "validation loss (nats per token)", 340)
    for place, (label, (points, law)) in enumerate(models.items()):
        own = {"legendgroup": label, "line": {"color": PALETTE[place % len(PALETTE)], "width": 1.8}}
        drawn.add_scatter(x=list(law[0]), y=list(law[1]), name=label, mode="lines", hovertemplate="%{x:.3s} rows: about %{y:.3g}", **own)
        drawn.add_scatter(
            x=list(points[0]), y=list(points[1]), name=f"{label}, measured", mode="markers", showlegend=False,
            marker={"size": 7, "color": PALETTE[place % len(PALETTE)]}, hovertemplate="%{x:,} rows: %{y:.4g}", legendgroup=label,
        )  # fmt: skip
    drawn.add_vline(x=rows, line={"color": GREY, "dash": "dash", "width": 1.5})
    return drawn.update_layout(xaxis_type="log", yaxis_type="log", showlegend=len(models) > 1)


def plane(runs: Mapping[str, tuple[Series, Series]], colours: Mapping[str, str], height: int = 380) -> go.Figure:
    """Learning against forgetting: each run's way over its evaluations, from its lines of `base_loss` and `validation_loss`; to the right
    it forgets, downwards it learns, and the large dot is where it stands."""
    drawn, looks = figure(PLANE, "loss on what was known", "validation loss", height), strokes(list(runs), colours)
    for label, (known, new) in runs.items():
        way = paired(known, new)
        if not way:
            continue
        x, y = zip(*way, strict=True)
        sizes = [5] * (len(way) - 1) + [12]
        drawn.add_scatter(x=x, y=y, name=label, mode="lines+markers", marker={"size": sizes}, line={"width": 1.5, **looks[label]})
    drawn.update_xaxes(type="log", dtick=1)
    drawn.update_yaxes(type="log", dtick=1)
    return drawn.update_layout(showlegend=True)


def paired(one: Series, other: Series) -> list[tuple[float, float]]:
    """The values of two lines at the steps that both have, where both can stand on a logarithmic axis."""
    values = dict(zip(*other, strict=True))
    both = [(value, values[step]) for step, value in zip(*one, strict=True) if step in values]
    return [(x, y) for x, y in both if 0 < x < math.inf and 0 < y < math.inf]


def memory_bar(items: Sequence[tuple[str, float]], machine_bytes: float | None) -> go.Figure:
    """Estimated memory by item as one bar, and the line of what this machine has (None where that is unknown)."""
    title, below = "Memory it will need", 62 + 17 * len(items)  # for the axis, and a line of the legend for each item
    height = 102 + below
    needed = sum(size for _, size in items)
    if not needed:
        return empty(title, "No estimate yet: choose a model and a method.", height)
    unit, letter = (1e9, "GB") if needed >= 1e9 else (1e6, "MB")
    fits = machine_bytes is None or needed <= machine_bytes
    says = "unknown here" if machine_bytes is None else f"this machine has {words.size(machine_bytes)}"
    drawn = figure(f"{title} · {words.size(needed)}<br>{says}", f"memory ({letter})", "", height)
    for place, (item, size) in enumerate(items):
        bar = {"x": [size / unit], "y": [""], "name": f"{item} {words.size(size)}", "orientation": "h", "width": 0.5}
        drawn.add_bar(**bar, marker_color=PALETTE[place % len(PALETTE)], hovertemplate=f"{item}: %{{x:.3g}} {letter}<extra></extra>")
    if machine_bytes is not None and machine_bytes <= 20 * needed:
        drawn.add_vline(x=machine_bytes / unit, line={"color": GREY if fits else VERMILION, "width": 2})
    drawn.update_layout(
        barmode="stack", legend={"y": 0, "yref": "container", "yanchor": "bottom", "traceorder": "normal"}, margin={"l": 8, "b": below}
    ).update_yaxes(visible=False)
    return drawn


def heat_map(by_module: Sequence[tuple[str, int, int, int]], title: str = "What will move") -> go.Figure:
    """What will move, layer by module: `(module, layer, moved, of)`, counts of parameters; layer −1 is outside the blocks.

    The colour is the share of the module's numbers that moves, on a scale from none (grey) to all (blue).
    """
    if not by_module:
        return empty(title, "No estimate yet: choose a model and a method.")
    modules = list(dict.fromkeys(module for module, *_ in by_module))
    layers = sorted({layer for _, layer, _, _ in by_module})
    cell = {(layer, module): (moved, of) for module, layer, moved, of in by_module}
    share = [[_share(cell.get((layer, module))) for module in modules] for layer in layers]
    said = [[_cell_words(module, layer, cell.get((layer, module))) for module in modules] for layer in layers]
    drawn = figure(f"{title} · share of each module", "module", "layer", max(240, 130 + 24 * len(layers)))
    names = ["outside" if layer < 0 else str(layer) for layer in layers]
    top = max((value for row in share for value in row if value is not None), default=0) or 1
    drawn.add_heatmap(z=share, x=modules, y=names, text=said, hovertemplate="%{text}<extra></extra>", zmin=0, zmax=top, xgap=2, ygap=2)
    drawn.update_traces(
        colorscale=template().layout.colorscale.sequential, colorbar={"tickformat": ".2~%", "thickness": 10, "outlinewidth": 0}
    )
    drawn.update_xaxes(tickangle=-40, showgrid=False, automargin=True).update_yaxes(type="category", showgrid=False)
    return drawn


def _share(cell: tuple[int, int] | None) -> float | None:
    return None if cell is None or not cell[1] else cell[0] / cell[1]


def _cell_words(module: str, layer: int, cell: tuple[int, int] | None) -> str:
    where = f"{module}, " + ("outside the layers" if layer < 0 else f"layer {layer}")
    return f"{where}: not in this model" if cell is None else f"{where}: {short(cell[0])} move on {short(cell[1])}"


def pictured(table: Table, picture: Picture) -> go.Figure:
    """A table drawn as `core/picture.py` says; rows without a number are left out."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    number = picture.value if picture.kind == "heat" else picture.y
    there = [row for row in rows if row[number] is not None and (picture.kind == "heat" or row[picture.x] is not None)]
    if not there:
        return empty(picture.title, "There is nothing to draw: no row of the table has a number.")
    each = list(dict.fromkeys(row[picture.each] for row in there)) if picture.each else [""]
    parts = {html.escape(str(name)): [row for row in there if not picture.each or row[picture.each] == name] for name in each}
    return _heats(parts, picture) if picture.kind == "heat" else _marks(parts, picture)


def _heats(parts: Mapping[str, list[dict[str, Any]]], picture: Picture) -> go.Figure:
    """A panel for each part, all with the same axes and colours; what belongs to no layer lies below the first."""
    every = [row for rows in parts.values() for row in rows]
    across, along = (list(dict.fromkeys(row[axis] for row in every)) for axis in (picture.x, picture.y))
    along = sorted(along, key=lambda name: (name is not None, name if isinstance(name, int | float) else 0))
    values = [row[picture.value] for row in every]
    ends = (-max(map(abs, values)), max(map(abs, values))) if min(values) < 0 else (0, max(values) or 1)
    drawn = make_subplots(1, len(parts), shared_yaxes=True, subplot_titles=list(parts) if len(parts) > 1 else None, horizontal_spacing=0.03)
    for place, rows in enumerate(parts.values(), 1):
        cell = {(row[picture.y], row[picture.x]): row[picture.value] for row in rows}
        z = [[cell.get((y, x)) for x in across] for y in along]
        x, y = ([_axis_name(name) for name in axis] for axis in (across, along))
        said = f"%{{x}}, {html.escape(picture.y)} %{{y}}: %{{z:.3g}}<extra></extra>"
        drawn.add_heatmap(z=z, x=x, y=y, coloraxis="coloraxis", xgap=2, ygap=2, hovertemplate=said, row=1, col=place)
    scale = template().layout.colorscale.sequential if ends[0] == 0 else [[0, VERMILION], [0.5, "rgba(128,128,128,0.10)"], [1, BLUE]]
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": picture.value, "side": "right"}}
    drawn.update_layout(template=template(), title_text=picture.title, height=max(260, 150 + 22 * len(along)), dragmode=False)
    drawn.update_layout(coloraxis={"colorscale": scale, "cmin": ends[0], "cmax": ends[1], "colorbar": bar}, yaxis_title_text=picture.y)
    drawn.update_xaxes(tickangle=-40, showgrid=False, automargin=True, type="category")
    return drawn.update_yaxes(type="category", showgrid=False)


def _marks(parts: Mapping[str, list[dict[str, Any]]], picture: Picture) -> go.Figure:
    """Bars, lines or dots, a colour for each part."""
    drawn = figure(picture.title, picture.x, picture.y, 320)
    for place, (name, rows) in enumerate(parts.items()):
        x, y, colour = [row[picture.x] for row in rows], [row[picture.y] for row in rows], PALETTE[place % len(PALETTE)]
        x = [html.escape(value) if isinstance(value, str) else value for value in x]
        if picture.kind == "bars":
            drawn.add_bar(x=x, y=y, name=name, marker_color=colour)
        elif picture.kind == "lines":
            drawn.add_scatter(x=x, y=y, name=name, mode="lines+markers" if len(x) < 60 else "lines", line={"color": colour, "width": 1.8})
        else:
            beside = [html.escape(str(row[picture.value])) for row in rows] if picture.value else None
            mode = "markers+text" if beside else "markers"
            marker = {"color": colour, "size": 10}
            drawn.add_scatter(x=x, y=y, name=name, mode=mode, text=beside, textposition="top center", marker=marker)
    if picture.mark is not None:
        drawn.add_hline(y=picture.mark, line={"color": GREY, "dash": "dash", "width": 1.5})
    return drawn.update_layout(showlegend=len(parts) > 1, yaxis_type="log" if picture.log else "linear")


def _axis_name(name: Any) -> str:
    return "outside" if name is None else html.escape(str(name))
