"""The forecast on the Runs tab: from the runs on record to sentences, tables and figures; what is written on the page is not markup."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from workbench.core.events import Finished, Measured
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.forecast import curves, rows_table, trained
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import forecast
from workbench.ui.context import Context


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


def keep(ctx: Context, times: int = 4, scale: float = 1.0, data: str = "quickstart", **spec: Any) -> None:
    """Finished runs on record, each with twice as many rows as the one before."""
    for place in range(times):
        rows = 100 * 2**place
        made = TrainSpec(data={"path": data, "most_rows": rows}, **spec).model_dump(mode="json")
        run = ctx.store.create("train", "", made)
        losses = [Measured(step, {"validation_loss": scale * (4 / rows**0.5 + 0.5) + step / 10}) for step in (2, 1, 0)]
        ctx.store.append(run, rows_table(rows, 9), *losses, Finished("finished"))
    ctx.store.flush()


def drawn(ctx: Context, wanted: int = 0) -> dict[str, Any]:
    """What the open section shows, by its id."""
    with gr.Blocks() as page:
        forecast.draw(ctx, gr.State(0), wanted)
    return {block.elem_id: block.value for block in page.blocks.values() if block.elem_id}


def test_without_enough_runs_it_says_what_is_missing(ctx: Context) -> None:
    keep(ctx, times=3)
    shown = drawn(ctx)
    assert list(shown) == ["runs-forecast-says-0"] and "are 3 runs of pocket on quickstart" in shown["runs-forecast-says-0"]


def test_it_tells_the_loss_with_the_rows_that_are_asked_for(ctx: Context) -> None:
    keep(ctx)
    assert drawn(ctx)["runs-forecast-rows"] == 3200, "four times the most there are"
    shown = drawn(ctx, 10_000)
    assert shown["runs-forecast-rows"] == 10_000 and "With 10,000 rows about" in shown["runs-forecast-says-0"]
    assert {"runs-forecast-figure-0"} == {name for name in shown if "figure" in name}


def test_models_of_a_task_share_a_figure_and_the_newest_task_is_first(ctx: Context) -> None:
    keep(ctx)
    keep(ctx, data="skill_a")
    keep(ctx, scale=0.8, model="<b>new</b>")
    found = curves(trained(ctx.store))
    both, other = forecast._tasks(found)
    assert [curve.model for curve in both] == ["pocket", "<b>new</b>"] and [curve.data for curve in other] == ["skill_a"]
    said = forecast.says(both, 5000)
    assert "<b>" not in said and said.index("&lt;b&gt;new") < said.index("pocket") and "share a tokenizer" in said
    assert "share a tokenizer" not in forecast.says(other, 5000)
    figure = forecast.figure(both, 5000)
    assert [list(line.x) for line in figure.data if line.mode == "markers"] == [[100, 200, 400, 800]] * 2
    assert all(line.x[-1] == pytest.approx(5000) and line.y[-1] < line.y[0] for line in figure.data if line.mode == "lines")
    assert figure.layout.shapes[0].x0 == 5000
    assert {line.name for line in figure.data if line.mode == "lines"} == {"pocket", "&lt;b&gt;new&lt;/b&gt;"}
    keep(ctx, data="skill_b")
    assert [own[0].data for own in forecast._tasks(curves(trained(ctx.store)))] == ["skill_b", "quickstart", "skill_a"]


def test_the_section_is_drawn_when_it_is_opened(ctx: Context) -> None:
    keep(ctx)
    with gr.Blocks() as page:
        forecast.build(ctx)
    assert {block.elem_id for block in page.blocks.values() if block.elem_id} == {"runs-forecast"}
