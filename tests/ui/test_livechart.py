"""What the live chart is sent: only what is new, fit for JSON, with a sentence where there is nothing."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from workbench.core.events import Finished, Measured, Progress
from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.context import Context
from workbench.ui.livechart import live_chart, news, part, reasons, split
from workbench.ui.performance import performance_of


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


@pytest.fixture
def run(ctx: Context) -> str:
    run = ctx.store.create("train", "first", {"probes": [{"method": "a", "every": 10}]})
    ctx.store.append(run, *(Measured(step, {"loss": 3.0 - step, "lr": 0.1}) for step in range(1, 4)), Progress(3, 9))
    ctx.store.flush()
    return run


def test_the_first_answer_is_the_whole_picture_and_the_next_only_what_is_new(ctx: Context, run: str) -> None:
    first = news(ctx, run, 0)
    assert first["reset"] and first["points"]["loss"] == [[1, 2, 3], [2.0, 1.0, 0.0], []]
    assert "lr" not in first["points"], "what the chart does not draw is not sent"
    ctx.store.append(run, Measured(4, {"loss": 0.5}))
    ctx.store.flush()
    then = news(ctx, run, first["cursor"])
    assert not then["reset"] and then["points"] == {"loss": [[4], [0.5], []]}
    assert news(ctx, run, then["cursor"])["points"] == {}


def test_who_has_chosen_no_run_is_shown_the_usual_one(ctx: Context, run: str) -> None:
    """A page that opens draws with its first question, before it knows the list of runs."""
    other = ctx.store.create("train", "second", {})
    with gr.Blocks():
        live_chart(ctx, "chart", lambda: run)
        live_chart(ctx, "bare")
    told = ctx.pulse.news({"chart": {"run": "", "cursor": 0}, "bare": {"run": "", "cursor": 0}})["pieces"]
    assert told["chart"]["run"] == run and told["chart"]["points"]["loss"]
    assert not told["bare"]["points"]
    assert ctx.pulse.news({"chart": {"run": other, "cursor": 0}})["pieces"]["chart"]["run"] == other


def test_what_is_no_number_travels_as_steps(ctx: Context, run: str) -> None:
    ctx.store.append(run, Measured(4, {"loss": math.nan}), Measured(5, {"loss": math.inf}), Measured(6, {"loss": 1.0}))
    ctx.store.flush()
    answer = news(ctx, run, 0)
    assert answer["points"]["loss"] == [[1, 2, 3, 6], [2.0, 1.0, 0.0, 1.0], [4, 5]]
    json.dumps(answer, allow_nan=False)  # a NaN would arrive as null and vanish


def test_zooming_in_brings_back_what_was_thinned(ctx: Context) -> None:
    run = ctx.store.create("train", "long", {})
    ctx.store.append(run, *(Measured(step, {"loss": float(step % 7)}) for step in range(20_000)))
    ctx.store.flush()
    assert len(news(ctx, run, 0)["points"]["loss"][0]) < 5_000
    assert part(ctx, run, 100, 199)["loss"][0] == list(range(100, 200))
    assert part(ctx, "../etc", 0, 1) == {}


def test_split_keeps_order() -> None:
    assert split([1, 2, 3], [0.5, math.nan, -1]) == [[1.0, 3.0], [0.5, -1.0], [2.0]]


def test_no_run_and_an_unknown_run_are_sentences(ctx: Context) -> None:
    assert "No run yet" in news(ctx, "", 0)["reasons"]["y"]
    assert all(words in news(ctx, "", 0)["status"] for words in ("Start", "Ask it", "Data tab")), "who has no run yet is told what to do"
    for unknown in ("0099", "../etc", "<b>"):
        answer = news(ctx, unknown, 0)
        assert "There is no run" in answer["status"] and "<b>" not in answer["status"]


def test_the_status_line_says_where_a_stored_run_stands(ctx: Context, run: str) -> None:
    ctx.store.append(run, Finished("failed", "broke"))
    ctx.store.flush()
    status = news(ctx, run, 0)["status"]
    assert "failed" in status and "step <b>3</b> of 9" in status and "loss <b>0</b>" in status


@pytest.mark.parametrize(
    ("norm", "moved", "told"),
    [(1.0, 1.0, True), (0.0, 1.0, False), (1.0, 0.0, False), (math.nan, 1.0, False)],
    ids=["trains", "no gradient", "nothing moved", "no number"],
)
def test_a_speed_is_read_out_only_of_steps_that_train(ctx: Context, norm: float, moved: float, told: bool) -> None:
    """As the panel below judges it, with the panel's own figure: the median, not the latest step's."""
    run = ctx.store.create("train", "first", {})
    speeds = [1.0, *[4000.0] * 20, 9000.0]
    values = ({"tokens_per_s": speed, "grad_norm": norm, "tensors_moved": moved, "memory_gb": 2.5} for speed in speeds)
    ctx.store.append(run, *(Measured(step, value) for step, value in enumerate(values, 1)), Progress(len(speeds), 30))
    ctx.store.flush()
    status = news(ctx, run, 0)["status"]
    assert ("<b>4,000</b> tokens/s" in status) == told == ("tokens/s" in status)
    assert ("<b>4,000</b> tokens/s" in performance_of(ctx, run)) == told
    assert "<b>2.5</b> GB" in status


def test_an_empty_panel_says_why() -> None:
    assert "every 10 steps" in reasons("running", {"probes": [{"method": "a", "every": 10}]})["y3"]
    assert "measured no ρ_a" in reasons("finished", {})["y3"]
    assert "waits its turn" in reasons("queued", {})["y"]
