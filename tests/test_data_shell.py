"""Data sets from a shell: look, clean, select, export; recipes from files and from the command line; mistakes are sentences."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workbench.__main__ import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    answers = ["It is by the old river.", "It is by the old river.", "Call 555-0100 or a@b.org.", "No.", "A boat is on the lake."]
    path.write_text("".join(json.dumps({"prompt": "Where is it?", "completion": answer}) + "\n" for answer in answers))
    return path


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_inspect_says_what_is_found_and_what_is_for_it(home: Path, file: Path) -> None:
    result = cli("inspect", file, "--step", "length:fewest_answer=9,most=500")
    assert result.exit_code == 0, result.stderr
    assert "rows: 5\n" in result.stdout and "kept: 4\n" in result.stdout and "step 1: Length drops 1" in result.stdout
    assert "1 row says the same as an earlier row" in result.stdout and "Remedy: --step exact_duplicates" in result.stdout
    values = json.loads(cli("inspect", file, "--json").stdout)
    assert values["rows"] == values["kept"] == 5 and {issue["remedy"] for issue in values["issues"]} >= {"exact_duplicates", "private_data"}


def test_clean_does_what_is_for_the_findings_and_keeps_a_new_set(home: Path, file: Path) -> None:
    result = cli("clean", file, "--as", "tidy")
    assert result.exit_code == 0 and f"data: {home / 'data' / 'tidy'}" in result.stdout, result.stderr
    assert json.loads(cli("inspect", "tidy", "--json").stdout)["rows"] == 4
    again = cli("clean", "tidy", "--as", "tidier")
    assert again.exit_code == 1 and "Nothing was found in 'tidy' that a step is for" in again.stderr


def test_a_recipe_replays_on_another_file_and_takes_more_steps(home: Path, file: Path, tmp_path: Path) -> None:
    assert cli("select", file, "--step", "exact_duplicates", "--as", "one").exit_code == 0
    recipe = home / "data" / "one" / "original" / "recipe.yaml"
    other = tmp_path / "other.jsonl"
    other.write_text(file.read_text() + json.dumps({"prompt": "Where is it?", "completion": "No."}) + "\n")
    result = cli("select", other, "--recipe", recipe, "--step", "length:fewest_answer=9", "--as", "two")
    assert result.exit_code == 0, result.stderr
    assert json.loads(cli("inspect", "two", "--json").stdout)["rows"] == 3
    (tmp_path / "spec.yaml").write_text("kind: train\ndata:\n  path: quickstart\n  selectors: [exact_duplicates]\n")
    assert cli("select", other, "--recipe", tmp_path / "spec.yaml", "--as", "three").exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["select", "quickstart", "--step", "lenth", "--as", "x"], "there is no selector called 'lenth'"),
        (["select", "quickstart", "--step", "length:most", "--as", "x"], "'most' is not of the form name=value"),
        (["select", "nowhere", "--as", "x"], "There is no data set 'nowhere'"),
        (["select", "quickstart", "--as", "../x"], "cannot be a name here"),
        (["inspect", "quickstart", "--recipe", "five.yaml"], "Write `selectors:` with a list of steps"),
        (["inspect", "quickstart", "--recipe", "nowhere.yaml"], "The recipe nowhere.yaml cannot be read"),
        (["inspect", "quickstart", "--step", "decontamination"], "needs a second data set to go by"),
        (["relate", "quickstart"], "Name two or more"),
        (["export", "quickstart", "--to", "x.jsonl", "--format", "opnai"], "opnai"),
    ],
)
def test_mistakes_are_sentences(home: Path, words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("five.yaml").write_text("selectors: 5\n")
    result = cli(*words)
    assert result.exit_code == 1 and told in result.stderr and "Traceback" not in result.stderr


def test_two_recipes_are_compared(home: Path, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("selectors: [{method: statistic, of: characters, least: 1000000}]\n")
    result = cli("compare", file, "--step", "exact_duplicates", "--beside", other)
    assert result.stdout.splitlines()[:3] == ["both: 0", "only the first: 4 (rows 1, 3, 4, 5)", "only the other: 0"], result.stderr
    other.write_text("selectors: []\n")
    found = json.loads(cli("compare", file, "--step", "exact_duplicates", "--beside", other, "--json").stdout)
    assert (len(found["both"]), found["only_one"], len(found["only_other"]), found["overlap"]) == (4, [], 1, 0.8)


def test_an_export_of_a_recipe_with_a_skipped_step(home: Path, file: Path, tmp_path: Path) -> None:
    cli("inspect", file, "--step", "exact_duplicates")
    words = ["--step", "exact_duplicates", "--step", "length:skip=true,most=9"]
    assert cli("export", file, *words, "--to", tmp_path / "out").exit_code == 0
    assert "Length (skip True, most 9): 0 rows dropped" in (tmp_path / "out" / "README.md").read_text()


def test_export_writes_what_the_steps_keep_with_a_card(home: Path, file: Path, tmp_path: Path) -> None:
    result = cli("export", file, "--step", "exact_duplicates", "--to", tmp_path / "out", "--format", "sharegpt")
    assert result.exit_code == 0 and f"data: {tmp_path / 'out'}" in result.stdout, result.stderr
    assert len((tmp_path / "out" / "data.jsonl").read_text().splitlines()) == 4
    assert "Exact duplicates: 1 row dropped" in (tmp_path / "out" / "README.md").read_text()
    assert cli("ingest", tmp_path / "out" / "data.jsonl", "--name", "back").exit_code == 0
    assert json.loads(cli("inspect", "back", "--json").stdout)["rows"] == 4


def test_a_guess_of_columns_is_told_with_how_to_say_them(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('frage nach;antwort\n"Wer ist das?";"Das ist Anna."\n', encoding="utf-8")
    said = cli("ingest", path, "--name", "mine")
    assert said.exit_code == 0 and "guess" in said.output
    assert "--column prompt=antwort --column 'answer=frage nach'" in cli("inspect", "mine").stdout
