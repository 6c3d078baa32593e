"""Imports and ends without the garbage collector: it works again behind the ones, and the others are as they would have been."""

import gc
import subprocess
import sys

import pytest

from workbench.core.imports import that_stay


def test_it_rests_only_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)  # the tests' own objects shall be collected
    with that_stay():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), that_stay():
        raise ImportError
    assert gc.isenabled()


def test_a_command_collects_again_when_it_begins() -> None:
    asks = "from workbench.shell import registry; registry('merges'); import gc; print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    said = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]


@pytest.mark.parametrize(
    "run, status, told",
    [
        ("print('done')", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no"),
        ("sys.exit()", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_program_that_ends_at_once_ends_as_it_would_have(run: str, status: int, told: str) -> None:
    asks = (
        "import atexit, sys, threading, time\n"
        "from workbench.core.imports import ending_at_once\n"
        "def late(): time.sleep(0.2); print('thread')\n"
        f"def run():\n    atexit.register(print, 'last')\n    threading.Thread(target=late).start()\n    {run}\n"
        "class Kept:\n    def __del__(self): print('looked through')\n"
        "kept = Kept(); kept.itself = kept\n"
        "ending_at_once(run)"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True)
    assert done.returncode == status and told in done.stderr
    assert done.stdout.split()[-2:] == ["thread", "last"], "threads are waited for, and what wants to be done at the end is done"
