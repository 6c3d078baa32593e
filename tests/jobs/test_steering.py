"""Steering a run: wishes are heard between two steps, other settings hold from the next one, and a resumed run takes the same turns."""

from pathlib import Path

import pytest

from tests.jobs.story import run, series
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Event, Made, Measured, Noted, Said
from workbench.core.settings import setting
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.steering import Steering, Wish, present, wish
from workbench.jobs.train import train


def begun(spec: TrainSpec, folder: Path) -> Path:
    (folder / "spec.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    return folder


def steered(spec: TrainSpec, folder: Path, workspace: Workspace, wishes: dict[int, Wish], until: int = 10**9) -> list[Event]:
    """A run that is asked for something after some of its steps, and stopped after `until`."""
    events: list[Event] = []
    job = train(spec, begun(spec, folder), workspace)
    for event in job:
        events.append(event)
        if isinstance(event, Measured) and "loss" in event.values:
            if event.step in wishes:
                wish(folder, wishes[event.step])
            if event.step == until:
                job.close()
                break
    return events


def test_what_is_asked_for_is_done_once_after_the_step_at_work(spec: TrainSpec, workspace: Workspace) -> None:
    quiet = spec.model_copy(update={"evaluate_every": 6, "checkpoint_every": 6})
    wishes = {2: Wish("evaluate"), 3: Wish("sample"), 4: Wish("save")}
    events = steered(quiet, workspace.run("0001"), workspace, wishes)
    assert list(series(events, "validation_loss")) == [0, 2, 6]
    assert {event.step for event in events if isinstance(event, Said)} == {0, 3, 6}
    assert [event.step for event in events if isinstance(event, Made) and event.what == "checkpoint"] == [4, 6]
    plain = run(quiet, workspace.run("0002"), workspace)
    assert series(events, "loss") == series(plain, "loss"), "looking changes nothing"


def test_another_rate_holds_from_the_next_step_and_is_marked_on_the_curve(spec: TrainSpec, workspace: Workspace) -> None:
    flat = spec.model_copy(update={"schedule": "constant", "warmup": 0.0})
    events = steered(flat, workspace.run("0001"), workspace, {3: Wish(set={"update.lr": 1e-3, "evaluate_every": 1})})
    assert list(series(events, "lr").values()) == [1e-2] * 3 + [1e-3] * 3
    assert list(series(events, "validation_loss")) == [0, 3, 4, 5, 6]
    noted = [event for event in events if isinstance(event, Noted)]
    assert [(note.step, note.text) for note in noted] == [(4, "From step 4: update.lr = 0.001, evaluate_every = 1.")]


def test_a_turn_keeps_what_the_optimizer_remembers(spec: TrainSpec, workspace: Workspace) -> None:
    """A setting that moves nothing changes no loss, though the optimizer is made anew with it."""
    turned = steered(spec, workspace.run("0001"), workspace, {3: Wish(set={"evaluate_every": 2, "update.kl_bound": 0.1})})
    assert series(turned, "loss") == series(run(spec, workspace.run("0002"), workspace), "loss")


def test_a_change_that_was_asked_for_is_the_change_that_a_spec_would_have_made(spec: TrainSpec, workspace: Workspace) -> None:
    asked = steered(spec, workspace.run("0001"), workspace, {2: Wish(set={"update.lr": 0.05, "update.clip": 0.1})})
    written = TrainSpec(**{**spec.model_dump(), "changes": [{"at": 3, "set": {"update.lr": 0.05, "update.clip": 0.1}}]})
    assert series(asked, "loss") == series(run(written, workspace.run("0002"), workspace), "loss")
    assert series(asked, "loss") != series(run(spec, workspace.run("0003"), workspace), "loss")


def test_a_resumed_run_takes_the_same_turns(spec: TrainSpec, workspace: Workspace) -> None:
    turn = {2: Wish(set={"update.lr": 0.05})}
    whole = steered(spec, workspace.run("0001"), workspace, turn)
    first = steered(spec, workspace.run("0002"), workspace, turn, until=4)
    second = run(spec, workspace.run("0002"), workspace)
    assert series(first, "loss") | series(second, "loss") == series(whole, "loss")


def test_a_turn_after_the_last_checkpoint_is_taken_again(spec: TrainSpec, workspace: Workspace) -> None:
    """Killed after the turn at step 4 and before the checkpoint at 6: the resumed run goes back to 2 and turns at 4 once more."""
    folder = begun(spec, workspace.run("0001"))
    wish(folder, Wish(set={"update.lr": 0.05}))
    steering = Steering.of(folder, spec)
    for wanted in steering.wishes():
        assert steering.take(wanted, 4) == ""
    again = Steering.of(folder, spec)
    assert [again.spec_at(step).update.lr for step in (3, 4, 6)] == [1e-2, 0.05, 0.05]
    assert list(again.wishes()) == []


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"steps": 9}, "steps cannot change while a run works"),
        ({"update.method": "muon"}, "update.method cannot change"),
        ({"update.b_pace": 16}, "update.b_pace cannot change"),
        ({"update.lr": -1}, "must be more than 0"),
        ({"update.lrr": 1}, "did you mean 'lr'"),
        ({"stop.patience": "soon"}, "stop.patience"),
    ],
)
def test_a_wish_that_cannot_be_granted_says_why_and_is_not_left(
    spec: TrainSpec,
    workspace: Workspace,
    settings: dict,
    sentence: str,
) -> None:
    folder = begun(spec, workspace.run("0001"))
    with pytest.raises(SpecError, match=sentence):
        wish(folder, Wish(set=settings))
    assert not (folder / "wishes").exists()


def test_a_run_that_has_not_begun_cannot_be_asked(workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match="No run has begun"):
        wish(workspace.run("0001"), Wish("save"))


def test_the_settings_that_may_change_are_shown_as_they_are(spec: TrainSpec, workspace: Workspace) -> None:
    changed = TrainSpec(**{**spec.model_dump(), "changes": [{"at": 3, "set": {"update.lr": 0.05}}]})
    folder = begun(changed, workspace.run("0001"))
    assert present(folder, 2)["update.lr"] == 1e-2 and present(folder, 3)["update.lr"] == 0.05
    assert {"evaluate_every", "stop.patience", "update.clip"} <= set(present(folder, 1))
    assert not {"steps", "seed", "update.method", "update.layer_decay"} & set(present(folder, 1))


def test_a_setting_is_read_as_in_a_spec() -> None:
    assert setting("update.clip=0.5") == ("update.clip", 0.5)
    with pytest.raises(SpecError, match="form name=value"):
        setting("update.lr")
