"""`python -m workbench train`, as a person or a cluster ends it: Ctrl-C and `kill` keep a checkpoint of that step and leave with 130."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from reliability.kills import SOON, checkpoint_step

from workbench.core.workspace import Workspace
from workbench.runs.store import Store

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHECKPOINT = "runs/0001/checkpoint/state.safetensors"
Child = tuple[subprocess.Popen[str], Path]


def begun(home: Path, spec: dict[str, Any]) -> subprocess.Popen[str]:
    """The command at work on a run that would take hours."""
    home.mkdir()
    (home / "spec.yaml").write_text(yaml.safe_dump({**spec, "steps": 1_000_000, "checkpoint_every": 5}))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "kernels"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "workbench", "train", str(home / "spec.yaml"), "--home", str(home)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=hears_interrupts, **pipes)


def hears_interrupts() -> None:
    """Tests that run in a shell's background inherit that Ctrl-C is ignored; a person's command does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def children(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[signal.Signals, Child]]:
    """Two commands that begin at the same time; each gets its signal as soon as it has kept its first checkpoint."""
    homes = {number: tmp_path_factory.mktemp("signals") / "home" for number in SIGNALS}
    found = {number: (begun(home, spec), home) for number, home in homes.items()}
    waiting, tired = set(SIGNALS), time.monotonic() + SOON
    while waiting and time.monotonic() < tired and all(found[number][0].poll() is None for number in waiting):
        for number in {number for number in waiting if (homes[number] / CHECKPOINT).exists()}:
            found[number][0].send_signal(number)
            waiting.remove(number)
        time.sleep(0.05)
    yield found
    for child, _ in found.values():
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_keeps_a_checkpoint_of_the_step_it_came_in(children: dict[signal.Signals, Child], number: signal.Signals) -> None:
    child, home = children[number]
    folder = home / "runs" / "0001"
    out, err = child.communicate(timeout=SOON)
    assert child.returncode == 130, err
    assert "Stopping after the step at work" in err and "Traceback" not in err
    assert str(folder / "checkpoint") in out and str(folder / "adapter") in out
    with Store(Workspace(home).database) as store:
        run = store.run("0001")
        assert run.status == "stopped" and run.step == checkpoint_step(folder) >= 5
        assert store.series("0001", "loss", points=10**6)[0] == list(range(1, run.step + 1))
        assert {made.what for made in store.made("0001")} == {"checkpoint", "adapter"}
