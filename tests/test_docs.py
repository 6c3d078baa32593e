"""What the README says is what the code does: its tree, its methods table, its commands, its files."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from workbench.__main__ import app
from workbench.core.method import discover
from workbench.core.spec import parse_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m workbench (.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)


def test_the_methods_table_comes_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    import write_docs

    assert write_docs.put(README, "methods", write_docs.methods_table()) == README, "run `make docs`"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_is_understood(line: str) -> None:
    command = get_command(app)
    name, *arguments = shlex.split(line)
    assert name in command.commands, f"there is no command {name}"
    inner = command.commands[name]
    if isinstance(inner, TyperGroup):  # a group of commands: the next word says which
        name, *arguments = arguments
        assert name in inner.commands, f"there is no command {name}"
        inner = inner.commands[name]
    context = inner.make_context(name, list(arguments), resilient_parsing=False)
    for argument in arguments:
        if argument.startswith("assets/"):
            assert (ROOT / argument).exists()
    assert context.params


def test_every_command_stands_in_the_readme() -> None:
    assert set(get_command(app).commands) == {shlex.split(line)[0] for line in COMMANDS}


def test_the_tree_is_the_tree() -> None:
    block = re.search(r"## How it is built\n\n```\n(.*?)```", README, flags=re.DOTALL)
    assert block
    inside = ""
    for line in block[1].splitlines():
        for name in re.findall(r"^(\s*)([\w/.]+)|\s{2}([a-z]+/)(?=\s|$)", line):
            entry = name[1] or name[2]
            folder = inside if line.startswith("  ") else ""
            assert (ROOT / folder / entry).exists(), f"the README's tree names {folder}{entry}, which is not there"
            if not line.startswith("  ") and entry.endswith("/"):
                inside = entry
    folders = {path.name for path in (ROOT / "workbench").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(re.findall(r"^  (\w+)/", block[1], flags=re.MULTILINE)), "the folders of workbench/"


def test_the_spec_in_the_readme_is_right() -> None:
    discover()
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert block and parse_spec(yaml.safe_load(block[1]))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_every_file_the_readme_links_is_there(link: str) -> None:
    assert (ROOT / link).exists()


def test_make_has_the_readmes_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
