"""Several runs at once from the Train tab: all of them or none."""

from types import SimpleNamespace

import gradio as gr
import pytest

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.ui.bench import make_bench
from workbench.ui.sweeping import listed, queue, sweeping


@pytest.fixture
def queued(workspace: Workspace) -> tuple[SimpleNamespace, list[TrainSpec]]:
    runs = list[TrainSpec]()
    return SimpleNamespace(workspace=workspace, runner=SimpleNamespace(submit=runs.append)), runs


def test_a_run_for_each_value_is_queued_in_order(queued: tuple[SimpleNamespace, list[TrainSpec]]) -> None:
    ctx, runs = queued
    said = queue(ctx, TrainSpec().model_dump(mode="json"), "adapter.rank", "4, 8")
    assert [run.adapter.rank for run in runs] == [4, 8] and "2 runs are queued" in said


def test_until_a_setting_is_chosen_it_is_the_learning_rate(queued: tuple[SimpleNamespace, list[TrainSpec]]) -> None:
    ctx, runs = queued
    queue(ctx, TrainSpec().model_dump(mode="json"), None, "0.001, 0.004")
    assert [run.update.lr for run in runs] == [0.001, 0.004]


@pytest.mark.parametrize(
    "name, values, says",
    [
        ("adapter.rank", "4, 0", "rank"),
        ("adapter.rank", "", "0 values"),
        ("update.lr", "1e-3, <b>", "lr"),
        ("data.path", "quickstart, gone", "gone"),
    ],
)
def test_a_mistake_in_one_queues_none(queued: tuple[SimpleNamespace, list[TrainSpec]], name: str, values: str, says: str) -> None:
    ctx, runs = queued
    said = queue(ctx, TrainSpec().model_dump(mode="json"), name, values)
    assert not runs and "card act" in said and says in said and "<b>" not in said


def test_the_settings_are_those_of_the_spec_on_the_bench() -> None:
    drawn, value = listed(TrainSpec.parse({"adapter": "lift"}).model_dump(mode="json"), "adapter.budget")
    assert ("adapter: budget", "adapter.budget") in drawn.choices and drawn.value == "adapter.budget" and value == "16"
    drawn, value = listed(TrainSpec().model_dump(mode="json"), "adapter.budget")
    assert drawn.value == "update.lr" and value == "0.002", "another adapter has no such knob"
    assert ("update: weight decay", "update.weight_decay") in drawn.choices


def test_a_spec_with_mistakes_leaves_the_list_as_it_is() -> None:
    drawn, value = listed({"steps": -1}, None)
    assert drawn == value == gr.skip()


def test_the_panel_queues_on_a_press_and_on_enter_and_shows_the_value_of_what_is_chosen(
    queued: tuple[SimpleNamespace, list[TrainSpec]],
) -> None:
    ctx, runs = queued
    with gr.Blocks() as page:
        bench = make_bench(gr.Tabs())
        sweeping(ctx, bench)  # type: ignore[arg-type]
    names = {number: block.elem_id or number for number, block in page.blocks.items()} | {bench.loaded._id: "loaded"}
    acts = {(names[number], event): wired for wired in page.fns.values() for number, event in wired.targets}
    assert acts["vary-go", "click"] is acts["vary-values", "submit"] and acts["vary", "expand"] is acts["loaded", "change"]
    plain = TrainSpec().model_dump(mode="json")
    assert "queued" in acts["vary-go", "click"].fn(plain, "steps", "9") and [run.steps for run in runs] == [9]
    assert acts["vary-name", "input"].fn(plain, "adapter.rank") == "16"
