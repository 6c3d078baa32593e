"""What a person does to single rows, written into a recipe: a row dropped or brought back, an answer rewritten.

Pure functions of a recipe as plain values. The step that keeps the two lists says so itself (`core/sifting.py`); it stands first, because
rows are known by what they say in the file.
"""

import json
from collections.abc import Mapping
from typing import Any

from workbench.core.method import shelf

Recipe = Mapping[str, Any]


def toggled(recipe: Recipe, mark: str) -> dict[str, Any]:
    """The recipe with the marked row dropped, or brought back where it was."""
    lists = _lists(recipe)
    gone = lists["drop"].split()
    gone = [own for own in gone if own != mark] if mark in gone else [*gone, mark]
    return _with(recipe, {**lists, "drop": " ".join(gone)})


def rewritten(recipe: Recipe, mark: str, answer: str, before: str) -> dict[str, Any]:
    """The recipe with the marked row's last answer rewritten; with the one it had `before`, it is as it was."""
    lists = _lists(recipe)
    edits = {own: text for own, text in json.loads(lists["edits"] or "{}").items() if own != mark}
    edits |= {mark: answer} if answer != before else {}
    return _with(recipe, {**lists, "edits": json.dumps(edits, ensure_ascii=False) if edits else ""})


def is_gone(recipe: Recipe, mark: str) -> bool:
    """Whether a person dropped the marked row."""
    return mark in _lists(recipe)["drop"].split()


def _step() -> str:
    return next(name for name, step in shelf("selectors").items() if step.by_hand)


def _lists(recipe: Recipe) -> dict[str, Any]:
    """The step as it stands in the recipe, or as it would."""
    name = _step()
    return next((dict(step) for step in recipe.get("selectors", []) if step["method"] == name), shelf("selectors")[name]().chosen())


def _with(recipe: Recipe, lists: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the step as it is now, first; without it where it has nothing to do."""
    rest = [step for step in recipe.get("selectors", []) if step["method"] != lists["method"]]
    return {**recipe, "selectors": [lists, *rest] if lists["drop"] or lists["edits"] else rest}
