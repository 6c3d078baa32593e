"""What is found in a data set under its recipe, as markup: the figures, the findings, the pictures of steps, what is kept.

Pure functions of `jobs.curate.Look`; every text is escaped. Not here: where it stands (`tabs/data.py`), or the rows (`rows.py`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.method import find
from workbench.core.words import count, number
from workbench.jobs.curate import Look
from workbench.jobs.issues import Issue
from workbench.jobs.steps import Near, Scores
from workbench.ui import cards, forms, plots, sketch


def found(seen: Look) -> str:
    mixed = ", ".join(f"{name} {rows_:,}" for name, rows_ in seen.formats.items()) if len(seen.formats) > 1 else seen.format
    figures = [
        (f"{seen.rows:,}", "rows read", ""),
        (f"{seen.rejected:,}", "could not be read", "watch" if seen.rejected else ""),
        (f"{seen.rows - seen.kept:,}", "dropped by steps", ""),
        (f"{len(seen.nothing):,}", "with nothing to learn", "act" if seen.nothing else ""),
    ]
    return f'<h3 class="set-name">{cards.escaped(seen.name)}<span>{cards.escaped(forms.in_words(mixed))}</span></h3>' + cards.tiles(figures)


def issues(seen: Look) -> str:
    """The findings, each with a button for its rows, one for the step that is for it and one to read the file otherwise, where there are
    such."""
    return f'<ul class="issues">{"".join(map(_issue, seen.issues))}</ul>'


def _issue(issue: Issue) -> str:
    buttons = [("show", issue.kind, "Show them")] if issue.rows else []
    buttons += [("step", _pick(issue), f"Add the step: {find('selectors', issue.remedy).title()}")] if issue.remedy else []
    buttons += [("columns", json.dumps(dict(issue.columns)), issue.offer)] if issue.offer else []
    drawn = "".join(
        f'<button type="button" data-pick="{does}:{cards.escaped(what)}">{cards.escaped(label)}</button>' for does, what, label in buttons
    )
    return f'<li class="{issue.level}">{cards.escaped(issue.text)}{f"<div>{drawn}</div>" if drawn else ""}</li>'


def _pick(issue: Issue) -> str:
    """The remedy as `taken` reads it: its name, and behind it the knobs that are not at their defaults."""
    return f"{issue.remedy}:{json.dumps(dict(issue.knobs))}" if issue.knobs else issue.remedy


def taken(what: str, steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps of a recipe with the remedy that was picked; without knobs of its own it is there once, else once with these knobs."""
    name, _, knobs = what.partition(":")
    step = find("selectors", name)(**json.loads(knobs or "{}")).chosen()
    there = step in steps if knobs else name in [other["method"] for other in steps]
    return [*steps] if there else [*steps, step]


def rejects(seen: Look) -> str:
    """The first rejects; the others are counted."""
    shown = seen.rejects.rows
    more = f'<p class="quiet">and {seen.rejected - len(shown):,} more</p>' if seen.rejected > len(shown) else ""
    return cards.table(seen.rejects.columns, shown, limit=len(shown)) + more


def scores(seen: Look) -> str:
    """The numbers that steps went by, a picture each, with the line between what stays and what goes, and the rows on its two sides."""
    drawn = []
    for place, step in enumerate(seen.steps, 1):
        title = f"Step {place} · {step.title} · {count(step.dropped, 'row')} dropped"
        if step.changed:
            title += f", {step.changed:,} changed"
        if step.scores:
            stacks = {"rows that stay": step.scores.kept, "rows that go": step.scores.dropped}
            picture = sketch.bars(step.scores.edges, stacks, step.scores.cuts, step.scores.what, "rows", title)
            drawn.append(f"<h4>{cards.escaped(title)}</h4>{picture}{_sides(step.scores)}")
        elif step.changed:
            drawn.append(f"<h4>{cards.escaped(title)}</h4>")
    return "".join(drawn)


def _sides(scores: Scores) -> str:
    """Rows that just stay beside rows that just go; folded, because a person asks for it."""
    if not scores.last or not scores.first:
        return ""
    columns = "".join(
        f"<div><b>{title}</b>{''.join(map(_near, rows))}</div>" for title, rows in (("Just stay", scores.last), ("Just go", scores.first))
    )
    return f'<details class="sides"><summary>Rows on both sides of the line</summary><div>{columns}</div></details>'


def _near(row: Near) -> str:
    return f"<p><span>{row.row:,} · {cards.escaped(number(row.score))}</span>{cards.escaped(row.text)}</p>"


def kept(seen: Look) -> str:
    of_first = f" in the first {seen.measured:,}" if seen.sampled else ""
    return (
        f'<p class="kept" role="status" aria-live="polite">kept <b>{seen.kept:,}</b> of {seen.rows:,} rows · '
        f"<b>{plots.short(seen.trained)}</b> learnt tokens{of_first}</p>"
    )
