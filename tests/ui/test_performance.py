"""The panel of a run's speed: bars as wide as their shares, and no figure where the steps train nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.core.events import Finished, Measured
from workbench.core.performance import Performance
from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.context import Context
from workbench.ui.performance import panel, performance_of
from workbench.ui.words import metric

LOOKED = {"step_ms/forward": 60.0, "step_ms/backward": 120.0, "step_ms/rest": 20.0, "tensors_moved": 1.0}


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


def run(ctx: Context, norm: float = 1.0, steps: int = 150) -> str:
    """A run of which the first half goes at 10 tokens/s, the second at 4,000 to 4,002, and every second step is looked at."""
    made = ctx.store.create("train", "first", {})
    for step in range(1, steps + 1):
        values = {"tokens_per_s": 10.0 if step <= 50 else 4000.0 + step % 3, "grad_norm": norm}
        ctx.store.append(made, Measured(step, values | (LOOKED if step % 2 == 0 else {})))
    ctx.store.flush()
    return made


def widths(markup: str) -> list[float]:
    return [float(width) for width in re.findall(r'<i style="flex:([\d.]+) 0 0', markup)]


def test_a_run_is_drawn_from_its_newest_steps(ctx: Context) -> None:
    drawn = performance_of(ctx, run(ctx))
    assert "<b>4,000</b> tokens/s" in drawn and "median of steps 51 to 150" in drawn
    assert widths(drawn) == [0.3, 0.6, 0.1] and "A step: 200 ms" in drawn
    assert "forward pass <b>60 ms · 30 %</b>" in drawn and "Memory" not in drawn and "Arithmetic" not in drawn


def test_a_speed_without_a_gradient_stands_nowhere(ctx: Context) -> None:
    drawn = performance_of(ctx, run(ctx, norm=0.0))
    assert 'class="card act"' in drawn and "The gradient was zero in 100 of the last 100 steps" in drawn
    assert "tokens/s" not in drawn and "4,00" not in drawn
    assert "A step: 200 ms" in drawn, "where the time goes may be what one looks for"


def test_what_is_not_known_yet_is_no_alarm(ctx: Context) -> None:
    drawn = performance_of(ctx, run(ctx, steps=1))
    assert "No speed is shown" in drawn and "second step" in drawn and "act" not in drawn


def test_before_the_first_step_and_without_a_run(ctx: Context) -> None:
    empty = ctx.store.create("train", "queued", {})
    assert "no step was taken" in performance_of(ctx, empty)
    ctx.store.append(empty, Finished("failed", "broke"))
    ctx.store.flush()
    assert "measured no speed" in performance_of(ctx, empty)
    assert performance_of(ctx, None) == performance_of(ctx, "0099") == performance_of(ctx, "../etc") == ""


def test_every_part_of_a_bar_is_in_words_and_in_a_colour_of_its_own() -> None:
    parts = [(what, 10.0) for what in "abcdef"]
    drawn = panel(Performance((2, 9), tokens_per_s=5.0, time=parts))
    assert widths(drawn) == pytest.approx([1 / 6] * 6, abs=1e-4)
    colours = re.findall(r"<li><i style=\"background:(var\(--[a-z0-9-]+\))", drawn)
    assert len(set(colours)) == 6 and colours[-1] == "var(--line-strong)", "what is left is grey"
    assert all(f"{what} <b>10 ms · 17 %</b>" in drawn for what in "abcdef")


def test_the_arithmetic_is_as_wide_as_its_share_of_what_the_machine_reaches() -> None:
    drawn = panel(Performance((2, 9), tokens_per_s=5.0, work=2e12, ceiling=8e12))
    assert "width:25.0%" in drawn and "25 % of what this machine" in drawn and "2 TFLOP/s of 8 TFLOP/s" in drawn
    assert "Arithmetic" not in panel(Performance((2, 9), tokens_per_s=5.0, work=2e12))


def test_a_warning_stands_beside_the_speed_and_nothing_becomes_markup() -> None:
    drawn = panel(Performance((2, 9), tokens_per_s=5.0, warns="<b>${x}", time=[("<i>", 1.0)]))
    assert "&lt;b&gt;&#36;&#123;x}" in drawn and "<i>" not in drawn and drawn.count("&lt;i&gt;") == 2


def test_the_parts_have_words_where_curves_are_chosen() -> None:
    assert metric("step_ms/backward") == "backward pass (ms a step)" and metric("memory_gb/optimizer") == "optimizer’s state (GB)"
