"""Deleting runs for good: what is written of them, their numbers and their folders, after a person was asked once more, in place.

Part of the Runs tab, for the run that is opened and for those that are ticked.
"""

import shutil
from collections.abc import Iterable

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.words import count
from workbench.ui.cards import escaped
from workbench.ui.context import Context


def deleted(ctx: Context, runs: Iterable[str]) -> list[str]:
    """Delete these runs; returns those that are gone. One that is still at work, or that another page has deleted, is told of and left."""
    gone = []
    for run in runs:
        try:
            ctx.store.delete(run)
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            continue
        shutil.rmtree(ctx.workspace.run(run))
        gone.append(run)
    return gone


def question(runs: int) -> str:
    """What is asked before."""
    these = "this run, its numbers and its folder" if runs == 1 else f"these {count(runs, 'run')}, their numbers and their folders"
    return f"Delete {these} for good? Models merged from {'it' if runs == 1 else 'them'} and votes on answers stay."
