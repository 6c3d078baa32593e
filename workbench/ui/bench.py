"""The bench: what tabs share within one page. The piece in work, the way to another tab, and what Compare should ask.

Who writes what: a control a person touches writes its part of `spec` (on `input`, never on `change`). Whoever puts a
*whole* other spec on the bench (an old run, the browser's draft) also counts `loaded` up, and forms redraw on
`loaded.change`. So a form is never redrawn under the hand that types in it. This module knows no tab.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.core.spec import TrainSpec

TABS = ("data", "adapter", "train", "merge", "compare", "runs", "papers")
"""The tabs' ids, in the order in which they are shown; a tab's file carries the same name."""


@dataclass(frozen=True)
class Bench:
    """Components that any tab may read or put out to."""

    spec: gr.State  # a TrainSpec as plain values (`model_dump(mode="json")`), possibly with mistakes in it
    recipe: gr.State  # its part of data as the Data tab drafts it, before it is put on the bench
    tabs: gr.Tabs  # put out `gr.Tabs(selected="compare")` to go there
    compare: gr.State  # {"models": [reference, …], "prompt": str}: what the Compare tab opens with
    merge: gr.State  # {"recipe": a merge as plain values, "asked": when}: what the Merge tab takes up; empty before anything is asked
    loaded: gr.State  # counts how often a whole spec was put on the bench
    opened: gr.State  # the id of the run that the Runs tab shows, or ""


def first_spec() -> dict[str, Any]:
    """The demo job, which the page opens with."""
    return TrainSpec().model_dump(mode="json")


def make_bench(tabs: gr.Tabs) -> Bench:
    """The bench of one page, to be called inside its `gr.Blocks`."""
    return Bench(
        spec=gr.State(first_spec()),
        recipe=gr.State(first_spec()["data"]),
        tabs=tabs,
        compare=gr.State({"models": [], "prompt": ""}),
        merge=gr.State({}),
        loaded=gr.State(0),
        opened=gr.State(""),
    )
