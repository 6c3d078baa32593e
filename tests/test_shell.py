"""Work without a run from a shell: `fold` writes a model, says the way there on stderr, and leaves nothing when it is interrupted."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
import typer
from pico import make_model
from typer.testing import CliRunner, Result

from workbench.__main__ import app
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.methods.adapters.lora import LoRA
from workbench.shell import drained


@pytest.fixture
def run(workspace: Workspace, pico_folder: Path) -> str:
    folder = workspace.run("0001")
    (folder / "spec.yaml").write_text(TrainSpec(model=str(pico_folder)).to_yaml())
    (folder / "adapter").mkdir()
    LoRA(rank=2).attach(make_model(), seed=0).save(folder / "adapter")
    return "run:0001"


def cli(workspace: Workspace, *words: str) -> Result:
    return CliRunner().invoke(app, ["fold", *words, "--home", str(workspace.home)])


def test_fold_prints_the_model_and_the_way_there(workspace: Workspace, run: str) -> None:
    result = cli(workspace, run, "--name", "whole")
    assert result.exit_code == 0 and result.stdout == f"model: {workspace.model('whole')}\n"
    assert "fold" in result.stderr and "100%  writing whole" in result.stderr
    assert (workspace.model("whole") / "model.safetensors").exists()


@pytest.mark.parametrize(("words", "told"), [
    (["run:0001", "--name", "no name"], "cannot be a name here"), (["run:0009", "--name", "whole"], "There is no run 0009"),
    (["pocket", "--name", "whole"], "is a model already"),
])  # fmt: skip
def test_mistakes_are_sentences(words: list[str], told: str, workspace: Workspace, run: str) -> None:
    result = cli(workspace, *words)
    assert result.exit_code == 1 and result.stdout == "" and told in result.stderr and "Traceback" not in result.stderr
    assert list(workspace.model().iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_work_in_order(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def work() -> Generator[Progress, None, int]:
        try:
            yield Progress(1, 2)
            os.kill(os.getpid(), number)
            yield Progress(2, 2)
        finally:
            closed.append(True)
        return 1

    with pytest.raises(typer.Exit) as caught:
        drained(work(), "toy")
    assert caught.value.exit_code == 130 and closed == [True] and "Stopped. Nothing of it was kept." in capsys.readouterr().err


def test_a_full_disk_is_a_sentence() -> None:
    def work() -> Generator[Progress, None, int]:
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(WorkbenchError, match="The disk is full"):
        drained(work(), "toy")
