"""What a merge does, as HTML: its picture, the scores of every task, the loss on the way, where the models lie, and answers.

Pure functions from `jobs.tasting.Tasted` to markup; all text is escaped. Moving and saving are the tab's (`ui/tabs/merge.py`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.events import Table
from workbench.core.words import number
from workbench.jobs.scoring import Score, right
from workbench.jobs.searching import Search
from workbench.jobs.tasted import BASE, MERGED, WAY, Tasted
from workbench.ui import sketch
from workbench.ui.cards import escaped
from workbench.ui.forms import sentence_case

FLOOR = 1e-4  # nats a token; what is less is drawn as this
ANSWERED = 1  # questions of each task whose answers are shown
HINT = '<p class="quiet">Choose the tuned models first. Two finished runs of one base are enough.</p>'


def picture(table: Table, ends: tuple[str, str] | None = None) -> str:
    """What explains the method, layer by layer, by the numbers its table holds.

    `ends`: the widgets that hold the factor of the first block, and what the last one gets on top; the curve's ends then move them.
    """
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    inside = [row for row in rows if row["layer"] is not None]
    layers = sorted({row["layer"] for row in inside})
    names = [name for name in table.columns[4:] if name != "norm"]
    if not inside or not names:
        return '<p class="quiet">This method has nothing to show layer by layer; see what it does to the scores below.</p>'
    drawn = [name for name in ("scale", "ratio", "kept", "agree", "angle") if name in names] or names
    parts = []
    for group in _together(drawn):
        series = {_word(name): [(layer, _mean(inside, layer, name)) for layer in layers] for name in group}
        marks = _handles(series[WORDS["scale"]], *ends) if ends and "scale" in group else []
        unit, ticks = _unit(group[0]), {layer: str(layer) for layer in layers}
        said = f"<h4>{escaped(sentence_case(_word(group[0])))}</h4>" if len(group) == 1 else ""  # several have a legend
        parts.append(said + sketch.lines(series, "layer", unit, marks=marks, ticks=ticks))
    return "".join(parts)


def _handles(line: sketch.Points, first: str, more: str) -> list[sketch.Mark]:
    """A handle on each end of the curve."""
    start, end = line[0], line[-1]
    return [sketch.Mark(*start, first, "Drag: the first block"), sketch.Mark(*end, more, "Drag: the last block", less=first)]


_FAR = {"near": "a tenth is nearer", "mean": "mean", "far": "a tenth is farther", "cut": "the farthest that are averaged"}
_UNITS = ("neurons", "heads")
WORDS = {
    "scale": "factor on what was learnt",
    "ratio": "ratio: 1 is the mean of the models, 0 the base",
    "angle": "angle between the models",
    "relative": "change over the base's norm",
    "cosine": "cosine between the models",
    "kept": "numbers that are changed",
    "agree": "numbers without a vote against",
    **{f"{kind} {name}": words for kind in _UNITS for name, words in _FAR.items()},
}
OUTSIDE = "share of the change outside the group"
UNITS = {
    "scale": "factor", "angle": "degrees", "relative": "share of the norm", "cosine": "cosine", "flagged": "models outside",
    **{f"{kind} {name}": f"distance of {kind} over their norm" for kind in _UNITS for name in _FAR},
}  # fmt: skip


def _together(names: Sequence[str]) -> list[list[str]]:
    """Names that share an axis: those of one unit."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_unit(name), []).append(name)
    return list(groups.values())


def _word(name: str) -> str:
    """What a line is called; `outside 2` is about the second of the models, however many there are."""
    return WORDS.get(name) or name.replace("outside ", "model ")


def _unit(name: str) -> str:
    return OUTSIDE if name.startswith("outside ") else UNITS.get(name, "share")


def _mean(rows: Sequence[Mapping[str, Any]], layer: int, name: str) -> float:
    found = [row[name] for row in rows if row["layer"] == layer]
    return sum(found) / len(found)


def scores(tasted: Tasted) -> str:
    """Tasks by models: the share of right answers and the loss; a cell is tinted by how much is right."""
    if not tasted.tasks:
        return '<p class="quiet">There are no rows to score on: the models are no runs of this workspace. Choose a data set above.</p>'
    head = "".join(f'<th{_strong(name)} title="{escaped(name)}">{escaped(name)}</th>' for name in tasted.scores)
    rows = "".join(
        f"<tr><th>{escaped(task.name)}</th>{''.join(_cell(of[place], name) for name, of in tasted.scores.items())}</tr>"
        for place, task in enumerate(tasted.tasks)
    )
    means = "".join(_cell(_mean_score(of), name) for name, of in tasted.scores.items())
    read, of_all = tasted.rows
    waiting = f'<p class="quiet" role="status">{read} of {of_all} rows so far</p>' if read < of_all else ""
    return (
        f'<div class="table-box" tabindex="0"><table class="plain scores"><thead><tr><th>task</th>{head}</tr></thead>'
        f'<tbody>{rows}</tbody><tfoot><tr><th>mean</th>{means}</tr></tfoot></table></div>{waiting}<p class="quiet">Right answers to '
        "a few questions each, and below them the loss in nats a token; rows that no run has trained on.</p>"
    )


def _cell(score: Score, name: str) -> str:
    tint = f' style="--right:{100 * score.right:.0f}%"' if score.right is not None else ""
    share = f"<b>{score.right:.0%}</b>" if score.right is not None else "<b>…</b>"
    return f"<td{_strong(name)}{tint}>{share}<small>{score.loss:.3g}</small></td>"


def _mean_score(of: Sequence[Score]) -> Score:
    known = [score.right for score in of if score.right is not None]
    return Score(sum(score.loss for score in of) / len(of), sum(known) / len(known) if known else None)


def _strong(name: str) -> str:
    return ' class="merged"' if name == MERGED else ""


def way(tasted: Tasted) -> str:
    """The loss of every task on the straight line from the base through the merge, or over the widths that the merge can have."""
    series = {task.name: [(share, of[place]) for share, of in tasted.path] for place, task in enumerate(tasted.tasks)}
    if tasted.along == WAY and not tasted.path:
        return '<h3>Loss on the way</h3><p class="quiet">No straight way leads from the base to layers that are stacked anew.</p>'
    ticks = {0.0: "base", 0.5: "half", 1.0: "merged", 1.25: "1.25×"} if tasted.along == WAY else None
    drawn = sketch.lines(series, tasted.along, "nats a token", log=True, ticks=ticks, says=f"Loss along the {tasted.along}")
    return f"<h3>Loss on the way</h3>{drawn}"


def where(tasted: Tasted) -> str:
    """Where the models lie, and how much alike the task vectors are in each layer."""
    drawn = sketch.beads(tasted.places, MERGED, "The models and the merge, as far apart as their weights are")
    drawn = f"<h3>Where the models lie</h3>{drawn}"
    if not tasted.cosines:
        return drawn
    layers = {layer: str(layer) for layer, _ in tasted.cosines}
    return f"{drawn}<h4>How alike their changes are, layer by layer</h4>" + sketch.lines(
        {"cosine": tasted.cosines}, "layer", "cosine between the models", ticks=layers
    )


def searched(found: Search, method: str) -> str:
    """Where a search stands: every try by what it keeps and what it learns, those that nothing beats, and the best with a button."""
    best = found.best
    words = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in best.knobs.items())
    fill = escaped(json.dumps({f"merge-{method}-{name}": value for name, value in best.knobs.items()}))
    use = f'<button type="button" class="quiet-button" data-fill="{fill}" id="merge-use">use these</button>'
    says = f"{len(found.tries)} of at most {found.most} tried. Lowest mean loss {number(best.loss)} nats a token at {escaped(words)}."
    sides = {"tried": found.tries, "best trade-offs": found.front()}
    points = {name: [(math.log10(max(one.learnt, FLOOR)), max(one.known, FLOOR)) for one in tries] for name, tries in sides.items()}
    ends = [10 ** end(x for x, _ in points["tried"]) for end in (min, max)]
    ticks = {math.log10(value): number(value) for value in sketch.even(*ends, 4) if value > 0}
    drawn = sketch.lines(points, "loss on what was learnt", "loss on what was known", log=True, ticks=ticks, dots=["tried"])
    return f'<p role="status">{says} {use}</p>{drawn}'


def answers(tasted: Tasted) -> str:
    """Of each task a question and what every model says to it; right ones carry a mark."""
    blocks = []
    for place, task in enumerate(tasted.tasks):
        for asked, question in enumerate(task.questions[:ANSWERED]):
            said = {name: of[place][asked] for name, of in tasted.said.items()}
            shown = {name: answer for name, answer in said.items() if name in (BASE, MERGED)}
            lines = "".join(
                _said(name, answer, None if name in tasted.growing else right(question, answer)) for name, answer in shown.items()
            )
            blocks.append(f'<section class="sample"><h4>{escaped(question.text)}</h4>{lines}</section>')
    there = MERGED in tasted.said and MERGED not in tasted.growing
    waiting = "" if there else '<p class="quiet" role="status">The merged model is answering …</p>'
    return f"<h3>Answers</h3>{waiting}{''.join(blocks)}"


def _said(name: str, answer: str, good: bool | None) -> str:
    """One model's answer; `good` is None while it grows."""
    mark = '<i class="mark safe" title="as it should be">✓</i>' if good else '<i class="mark" title="not what should be said">·</i>'
    mark = "…" if good is None else mark
    words = escaped(answer) or ('<span class="quiet">(nothing)</span>' if good is not None else "")
    return f'<div class="sampled{" newest" if name == MERGED else ""}"><span class="step">{escaped(name)}</span><p>{words} {mark}</p></div>'
