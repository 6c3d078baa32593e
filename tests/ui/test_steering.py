"""The wheel: it shows what may change as it is, asks what a shell would ask, and tells a mistake without asking."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.steering import Steering, Wish
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.context import Context
from workbench.ui.steering import ask, change_to, settings, values


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


@pytest.fixture
def run(ctx: Context) -> str:
    spec = TrainSpec(update={"method": "adamw", "lr": 3e-4})
    run = ctx.store.create("train", "", spec.model_dump(mode="json"))
    (ctx.workspace.run(run) / "spec.yaml").write_text(spec.to_yaml())
    return run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    for name in ("Info", "Warning"):
        monkeypatch.setattr(gr, name, lambda text, kind=name: said.append(f"{kind}: {text}"))
    return said


def test_settings_stand_there_as_they_are_the_updates_own_first(ctx: Context, run: str) -> None:
    names, value = settings(ctx, run, None)
    assert names.choices[0] == ("update: lr", "update.lr") and names.value == "update.lr" and value.placeholder == "now 0.0003"
    assert settings(ctx, run, "stop.patience")[1].placeholder == "now 0"
    assert values(ctx, None) == values(ctx, "0099") == {}


def test_an_answer_that_comes_late_takes_nothing_back_that_was_chosen_or_typed(ctx: Context, run: str) -> None:
    names, value = settings(ctx, run, "stop.patience")
    assert "value" not in names.constructor_args and "value" not in value.constructor_args


def test_a_change_is_asked_for_and_a_mistake_is_told(ctx: Context, run: str, told: list[str]) -> None:
    for typed in ("update.lr=1e-4", "update.lr=-1", "update.lr", "steps=3"):
        change_to(ctx, run, typed)
    assert told[0] == "Info: Asked. It is done after the step at work."
    assert "must be more than 0" in told[1] and "form name=value" in told[2] and "cannot change while a run works" in told[3]
    asked = list(Steering.of(ctx.workspace.run(run), TrainSpec()).wishes())
    assert [wish.set for wish in asked] == [{"update.lr": "1e-4"}]


def test_a_deed_for_a_run_that_is_not_there_is_a_warning(ctx: Context, told: list[str]) -> None:
    ask(ctx, "", Wish(do="save"))
    ask(ctx, "0042", Wish(do="save"))
    assert all(said.startswith("Warning: ") for said in told) and len(told) == 2
