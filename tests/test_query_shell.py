"""All runs asked from a shell: the table, the file, what can be asked, and mistakes in sentences."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workbench.__main__ import app
from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Said
from workbench.core.workspace import Workspace
from workbench.query_shell import _write
from workbench.runs.store import Store
from workbench.runs.views import VIEWS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    with Store(Workspace(home).database) as store:
        for name in ("one", "two"):
            run = store.create("train", name, {"kind": "train", "update": {"lr": 0.001}})
            store.append(run, Measured(1, {"loss": 2.0}), Said(1, "m", "p", "\x1b[31mred\nline " + "long " * 40))
    return home


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["query", *map(str, words)])


def test_the_answer_is_a_table_and_the_count_is_told_apart(home: Path) -> None:
    result = cli("SELECT run, name, lr, loss FROM runs ORDER BY run")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines == [["run", "name", "lr", "loss"], ["0001", "one", "0.001", "2"], ["0002", "two", "0.001", "2"]]
    assert "2 rows" in result.stderr


def test_what_a_model_said_moves_no_cursor_and_keeps_to_its_line(home: Path) -> None:
    result = cli("SELECT answer, run FROM answers")
    assert "\x1b" not in result.stdout and len(result.stdout.splitlines()) == 3
    assert all(line.split()[-1].startswith("000") for line in result.stdout.splitlines()[1:])


def test_many_rows_are_cut_off_on_the_screen_and_whole_in_a_file(home: Path, tmp_path: Path) -> None:
    result = cli("FROM range(5000)")
    assert len(result.stdout.splitlines()) == 1001 and "--csv" in result.stderr
    target = tmp_path / "out.csv"
    result = cli("FROM range(5000)", "--csv", target)
    assert result.exit_code == 0 and "5,000 rows" in result.stderr and not result.stdout
    assert len(target.read_text().splitlines()) == 5001 and {path.name for path in tmp_path.iterdir()} == {"home", "out.csv"}


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield from ("a\n", "1\n")
        raise WorkbenchError("This took too long.")

    with pytest.raises(WorkbenchError):
        _write(lines(), str(tmp_path / "out.csv"))
    assert not list(tmp_path.iterdir())


def test_csv_on_stdout_reads_back(home: Path) -> None:
    found = list(csv.DictReader(io.StringIO(cli("FROM answers", "--csv", "-").stdout)))
    assert [row["run"] for row in found] == ["0001", "0002"] and found[0]["answer"].startswith("\x1b[31mred\nline")


def test_a_statement_comes_from_a_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.sql"
    path.write_text("-- how many\nSELECT count(*) AS many\nFROM runs;\n")
    assert cli("--file", path).stdout.split() == ["many", "2"]


def test_a_plan_is_shown_as_it_is_drawn(home: Path) -> None:
    assert len(cli("EXPLAIN SELECT * FROM runs").stdout.splitlines()) > 3


def test_without_a_statement_it_is_said_what_can_be_asked(home: Path) -> None:
    said = cli().stdout
    assert all(f"\n{name}: " in f"\n{said}" for name in VIEWS)
    assert all(f"  {column.name} " in said for view in VIEWS.values() for column in view.columns)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["SELECT lss FROM runs"], '"loss"'),
        (["DROP TABLE runs"], "begin with SELECT"),
        (["FROM '/etc/passwd'"], "does not exist"),
        (["FROM read_text('/etc/passwd')"], "only the runs' own tables"),
        (["FROM read_text('/etc/passwd')", "--csv", "-"], "only the runs' own tables"),
        (["SELECT 1", "--file", "nowhere.sql"], "not both"),
        (["--file", "nowhere.sql"], "Name a file"),
        (["SELECT 1", "--csv", "nowhere/x.csv"], "another file"),
    ],
)
def test_mistakes_are_sentences(home: Path, words: list[str], remedy: str) -> None:
    result = cli(*words)
    assert result.exit_code == 1 and remedy in result.stderr and "Traceback" not in result.output and not result.stdout


def test_a_mistake_shows_its_place(home: Path) -> None:
    said = cli("SELECT run,\nlss FROM runs").stderr.splitlines()
    assert said[-2].strip() == "lss FROM runs" and said[-1].strip() == "^^^"
    assert said[-1].index("^") == said[-2].index("lss")
