"""What a page that is loaded anew finds again: the spec on the bench, the recipe of the Data tab and the draft of the Merge tab.

Each is kept in the browser, under a key that a restart of the program does not change, and as it last had no mistakes. What stands in
single fields while the server is away is put back by assets/line.js. What it is not: the state of a run, which lives in the runner and the
store.
"""

import json
import secrets
from typing import Any

import gradio as gr

from workbench.core.errors import SpecError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.ui.bench import TABS, Bench, first_spec
from workbench.ui.forms import READER, WRITER

Plain = dict[str, Any]
LONGEST = 500_000  # characters of a recipe that is kept: a browser has room for some millions
KEEPS: dict[str, Any] = {"trigger_mode": "always_last", **READER}


def draft_key(workspace: Workspace) -> str:
    """The key under which browsers keep the drafts of this workspace: made once, kept in HOME/page.key."""
    path = workspace.database.parent / "page.key"
    if not path.exists():
        path.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def kept(workspace: Workspace, what: str) -> gr.BrowserState:
    """Where the browser keeps `what`."""
    return gr.BrowserState(None, storage_key=f"workbench-{what}", secret=draft_key(workspace))


def wire(page: gr.Blocks, bench: Bench, workspace: Workspace) -> None:
    """Keep spec and recipe; bring tab, spec and recipe back when the page is loaded. The Merge tab does so with its own (`mergeform.py`).

    `loaded` is counted up in any case: it is the sign for all forms to draw themselves. The tab is chosen without asking the server, whose
    answer could come after a person has gone elsewhere.
    """
    draft, recipe = kept(workspace, "draft"), kept(workspace, "recipe")
    page.load(None, None, bench.tabs, js=f"() => Workbench.opened({json.dumps(list(TABS))})")
    before = "(...kept) => { Workbench.recallTheme(); return kept; }"
    page.load(found, [draft, recipe], [bench.spec, bench.recipe, bench.loaded], js=before, **WRITER)
    bench.spec.change(lambda spec: spec if readable(spec) else gr.skip(), bench.spec, draft, **KEEPS)
    bench.recipe.change(lambda held: held if keepable(held) else gr.skip(), bench.recipe, recipe, **KEEPS)


def found(spec: Any, recipe: Any) -> tuple[Any, Any, int]:
    """What was kept, where it can be read; a recipe that cannot is the one of the spec."""
    own = spec if readable(spec) else first_spec()
    return own, recipe if readable_recipe(recipe) else own["data"], 1


def readable(spec: Any) -> bool:
    """Whether a draft, perhaps from an earlier version, is a whole spec that could be started."""
    if not isinstance(spec, dict) or set(spec) != set(TrainSpec.model_fields):
        return False
    try:
        TrainSpec.parse(spec)
    except SpecError:
        return False
    return True


def readable_recipe(recipe: Any) -> bool:
    """Whether a recipe, perhaps from an earlier version, could be counted."""
    return isinstance(recipe, dict) and set(recipe) == set(first_spec()["data"]) and readable({**first_spec(), "data": recipe})


def keepable(recipe: Any) -> bool:
    """Whether a browser has room for it: thousands of rows that were rewritten by hand are too much."""
    return readable_recipe(recipe) and len(json.dumps(recipe)) <= LONGEST
