"""A list that is drawn anew takes nothing back: what a person has chosen since stays, in every tab."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.bench import first_spec
from workbench.ui.context import Context
from workbench.ui.page import build_page
from workbench.ui.refresh import relisted
from workbench.ui.sweeping import renewed


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        for status in ("finished", "stopped"):
            run = store.create("train", "", first_spec())
            workspace.run(run)
            store.mark(run, status)  # type: ignore[arg-type]
        store.flush()
        yield Context(store, runner, workspace)


@pytest.fixture(scope="module")
def page(ctx: Context) -> gr.Blocks:
    return build_page(ctx)


def says_a_value(update: Any) -> bool:
    return "value" in update.constructor_args


def test_a_value_is_said_only_where_the_one_that_was_asked_with_cannot_stay() -> None:
    assert not says_a_value(relisted(["a", "b"], "a", "a"))
    assert says_a_value(relisted(["a", "b"], "gone", "a")) and relisted(["a"], "gone", "a").value == "a"


def test_no_list_that_is_looked_at_says_what_is_chosen_in_it(page: gr.Blocks) -> None:
    """Asked with nothing but the look, such an answer knows of no choice at all."""
    looks = [act for act in page.fns.values() if {"focus"} == {event for _, event in act.targets}]
    assert len(looks) >= 5
    assert not [act.outputs[0].elem_id for act in looks if says_a_value(act.fn())]


def test_the_list_of_runs_leaves_the_run_in_view_and_what_follows_it_alone(page: gr.Blocks, ctx: Context) -> None:
    """Else a refresh that is answered late would bring back the run that was in view before."""
    (shown,) = [part for part in page.blocks.values() if part.elem_id == "train-run"]
    writes = [act for act in page.fns.values() if shown in act.outputs]
    (list_of_runs,) = writes
    assert list_of_runs.outputs == [shown]
    older = ctx.store.runs("train")[-1].id
    assert not says_a_value(list_of_runs.fn(older)) and list_of_runs.fn("gone").value == ctx.store.runs("train")[0].id


def test_one_handler_alone_says_what_follows_the_run_in_view(page: gr.Blocks) -> None:
    """Of two, the answer about the run chosen before could come last."""
    ids = {part.elem_id: part for part in page.blocks.values()}
    for name in ("train-chart", "ask", "pause", "notes"):
        (act,) = [act for act in page.fns.values() if ids[name] in act.outputs]
        assert act.trigger_mode == "always_last" and (ids["train-run"]._id, "change") in act.targets


def test_a_setting_that_is_to_vary_and_its_values_stay_under_another_spec() -> None:
    spec = first_spec()
    drawn, value = renewed(spec, "adapter.rank")
    assert not says_a_value(drawn) and value == gr.skip()
    drawn, value = renewed(spec, "adapter.gone")
    assert drawn.value == "update.lr" and value == "0.002"


def test_what_narrows_the_list_of_runs_stands_in_a_state_for_which_handlers_take_turns(page: gr.Blocks) -> None:
    (table,) = [part for part in page.blocks.values() if part.elem_id == "runs-table"]
    writes = [act for act in page.fns.values() if table in act.outputs]
    assert len(writes) >= 6
    for act in writes:
        assert table not in act.inputs and [part for part in act.outputs if part.stateful] and act.queue
