"""Libraries are told before they are imported: nothing is reported to anyone, no code is fetched, what a person has set otherwise stays."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from workbench.core import environment

ROOT = Path(__file__).parents[2]


def test_what_a_person_has_set_stays_but_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # so that it is put back in the end
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    for name in environment.QUIET:
        monkeypatch.setenv(name, "")
    environment.tell()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert {name: os.environ[name] for name in environment.QUIET} == environment.QUIET


def test_no_library_can_fetch_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, environment.FETCHES, ModuleType(environment.FETCHES))
    environment.tell()
    with pytest.raises(ImportError):
        importlib.import_module(environment.FETCHES)


@pytest.mark.parametrize(
    "begin",
    [
        "import app, types; app.flags = lambda: types.SimpleNamespace(host='', port=0, home='.'); app.start = see; app.main()",
        "from workbench import __main__ as shell; shell.registry = see; shell.app(['methods'])",
    ],
    ids=["page", "shell"],
)
def test_they_are_told_before_anything_heavy_is_imported(begin: str) -> None:
    """`see` stands where the page's or the shell's work begins."""
    see = (
        "import os, sys\n"
        "def see(*given, **more):\n"
        "    print('torch' in sys.modules, 'gradio' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))\n"
        "    sys.exit()\n"
    )
    alone = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", see + begin], capture_output=True, text=True, env=alone, cwd=ROOT)
    assert done.stdout.split() == ["False", "False", "PASSIVE"], done.stderr
