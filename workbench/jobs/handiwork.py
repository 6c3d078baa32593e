"""What a person does to single rows, written into a recipe: a row dropped or brought back, an answer rewritten.

Pure functions of a recipe as plain values. The step that keeps the two lists says so itself (`core/sifting.py`); it stands first, because
rows are known by what they say in the file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.method import shelf

Recipe = Mapping[str, Any]


def toggled(recipe: Recipe, mark: str) -> dict[str, Any]:
    """The recipe with the marked row dropped, or brought back where it was."""
    return brought_back(recipe, [mark]) if is_gone(recipe, mark) else dropped(recipe, [mark])


def dropped(recipe: Recipe, marks: Sequence[str]) -> dict[str, Any]:
    """The recipe with the marked rows dropped."""
    lists = _lists(recipe)
    return _with(recipe, {**lists, "drop": " ".join(dict.fromkeys([*lists["drop"].split(), *marks]))})


def brought_back(recipe: Recipe, marks: Sequence[str]) -> dict[str, Any]:
    """The recipe without the marked rows among those that a person dropped."""
    lists, back = _lists(recipe), set(marks)
    return _with(recipe, {**lists, "drop": " ".join(own for own in lists["drop"].split() if own not in back)})


def rewritten(recipe: Recipe, mark: str, answer: str, before: str) -> dict[str, Any]:
    """The recipe with the marked row's last answer rewritten; with the one it had `before`, it is as it was."""
    lists = _lists(recipe)
    edits = {own: text for own, text in _edits(lists).items() if own != mark}
    edits |= {mark: answer} if answer != before else {}
    return _with(recipe, {**lists, "edits": json.dumps(edits, ensure_ascii=False) if edits else ""})


def keeping_hands(before: Recipe, typed: Recipe) -> dict[str, Any]:
    """A step as it was typed; the lists of a person's hand are as the recipe has them, which is newer than a form."""
    return {**typed, "drop": before["drop"], "edits": before["edits"]} if typed["method"] == _step() else dict(typed)


def answer_of(recipe: Recipe, mark: str, before: str) -> str:
    """What the marked row was rewritten to, else what it says in the file."""
    return _edits(_lists(recipe)).get(mark, before)


def is_gone(recipe: Recipe, mark: str) -> bool:
    """Whether a person dropped the marked row."""
    return mark in _lists(recipe)["drop"].split()


def _step() -> str:
    return next(name for name, step in shelf("selectors").items() if step.by_hand)


def _lists(recipe: Recipe) -> dict[str, Any]:
    """The step as it stands in the recipe, or as it would; of two of them, one with both their lists."""
    name = _step()
    found = [step for step in recipe.get("selectors", []) if step["method"] == name]
    if len(found) < 2:
        return dict(found[0]) if found else shelf("selectors")[name]().chosen()
    edits = {mark: text for step in found for mark, text in _edits(step).items()}
    return {**found[0], "drop": " ".join(step["drop"] for step in found), "edits": json.dumps(edits, ensure_ascii=False) if edits else ""}


def _edits(lists: Recipe) -> dict[str, str]:
    """The rewritten answers by mark; none where a hand wrote something else into the recipe, which the step itself complains of."""
    try:
        found = json.loads(lists["edits"] or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _with(recipe: Recipe, lists: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the step as it is now, first; without it where it has nothing to do."""
    rest = [step for step in recipe.get("selectors", []) if step["method"] != lists["method"]]
    return {**recipe, "selectors": [lists, *rest] if lists["drop"] or lists["edits"] else rest}
