"""A run that is at work answers as its newest checkpoint, whatever it learns with; one that is over, as what it saved."""

from pathlib import Path

import pytest

from tests.jobs.story import stopped
from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Measured, Noted, Progress, Said
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.compare import compare
from workbench.jobs.train import train


def asked(models: list[str], workspace: Workspace) -> list[Event]:
    return list(compare(CompareSpec(models=models, prompt="Where is Kori?", max_tokens=8), workspace.run("0009"), workspace))


def answers(models: list[str], workspace: Workspace) -> list[Said]:
    return [event for event in asked(models, workspace) if isinstance(event, Said) and event.done]


@pytest.mark.parametrize("adapter", ["lora", "full", "lift", {"method": "mixlora", "experts": 4, "rank": 4}], ids=str)
def test_a_run_at_work_answers_as_its_newest_checkpoint(adapter: object, spec: TrainSpec, workspace: Workspace) -> None:
    update = {"method": "adamw", "lr": 1e-2, "average": 0.5 if adapter == "lora" else 0.0}
    own = TrainSpec.parse({**spec.model_dump(mode="json"), "name": "kori", "adapter": adapter, "update": update})
    folder, parted = workspace.run("0001"), workspace.run("0002")
    for place in (folder, parted):
        (place / "spec.yaml").write_text(own.to_yaml())
    live = train(own, folder, workspace)
    for event in live:
        if isinstance(event, Progress) and event.what == "step" and event.done == 3:
            break
    assert not (folder / "adapter").exists() and not (folder / "model").exists()
    stopped(own, parted, workspace, 2, Measured)
    events = asked(["run:0001"], workspace)
    noted = [event for event in events if isinstance(event, Noted)]
    assert [(event.text, event.step) for event in noted] == [("run 0001 · kori is not finished: it answers as it was after step 2.", 2)]
    said, saved = answers(["run:0001"], workspace)[0], answers(["run:0002"], workspace)[0]
    assert said.answer == saved.answer
    assert [token[1] for token in said.tokens] == pytest.approx([token[1] for token in saved.tokens], abs=2e-5)
    live.close()
    assert not any(isinstance(event, Noted) for event in asked(["run:0001"], workspace)), "it has saved what it learnt"


def test_without_a_checkpoint_it_says_what_to_do(spec: TrainSpec, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    (folder / "spec.yaml").write_text(spec.to_yaml())
    with pytest.raises(WorkbenchError, match="Let it finish, or stop it"):
        asked(["run:0001"], workspace)


def test_a_damaged_checkpoint_is_told(spec: TrainSpec, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    (folder / "spec.yaml").write_text(spec.to_yaml())
    path: Path = folder / checkpoint.FILE
    path.parent.mkdir()
    path.write_bytes(b"no tensors")
    with pytest.raises(WorkbenchError, match="damaged"):
        asked(["run:0001"], workspace)
