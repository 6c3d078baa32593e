"""What a run was made of, taken up again from the Runs tab: a training run's spec goes onto the bench, a merge's recipe into the form of
the Merge tab, and the grafts that an inspection kept too, as tuned models on their base.

Pure functions; the buttons are the Runs tab's, the form is the Merge tab's (`ui/mergeform.py`).
"""

from typing import Any

from workbench.core.workspace import Workspace
from workbench.jobs.grafts import kept_in
from workbench.jobs.inspect import base_of
from workbench.runs.records import Run

LABELS = {"train": "Use this spec again", "merge": "Use this recipe again", "inspect": "Merge with its graft"}


def label(run: Run | None, workspace: Workspace) -> str:
    """What stands on the button; empty where there is nothing to take up."""
    if run is None or (run.kind == "inspect" and not kept_in(workspace.home / "runs" / run.id)):
        return ""
    return LABELS.get(run.kind, "")


def recipe_of(run: Run, workspace: Workspace) -> dict[str, Any]:
    """The merge that a run was, or that its grafts can be, as plain values.

    Raises:
        WorkbenchError: the inspected model does not say what it was tuned from.
    """
    if run.kind == "merge":
        return dict(run.spec)
    base = run.spec.get("base") or base_of(str(run.spec["models"][0]), workspace)
    return {"kind": "merge", "base": base, "models": [{"model": str(graft)} for graft in kept_in(workspace.home / "runs" / run.id)]}
