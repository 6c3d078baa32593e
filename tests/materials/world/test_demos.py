"""The shipped demo data sets are what the generator makes, byte for byte, and each shows what it promises."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from workbench.materials.world import demos
from workbench.materials.world.row import Row
from workbench.materials.world.skills import World

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "assets" / "demos"
SETS = (
    "quickstart.jsonl",
    "skill_a.json",
    "skill_b.json",
    "known.csv",
    "new_facts.csv",
    "imbalanced.jsonl",
    "messy.jsonl",
    "truth/messy.csv",
)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demos")
    subprocess.run([sys.executable, "scripts/make_demos.py", "--out", str(out)], cwd=ROOT, check=True)
    return out


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_file_is_the_made_one(made: Path, name: str) -> None:
    assert (SHIPPED / name).read_bytes() == (made / name).read_bytes(), "run `make pocket` after a change of the world"


def test_the_shipped_parquet_has_the_made_rows(made: Path) -> None:
    """Its bytes also carry the version of the library that wrote it."""
    assert pq.read_table(SHIPPED / "entangled.parquet").equals(pq.read_table(made / "entangled.parquet"))


def test_every_set_that_is_made_is_shipped_and_no_other(made: Path) -> None:
    shipped = {str(path.relative_to(SHIPPED)) for path in SHIPPED.rglob("*") if path.is_file() and path.suffix not in (".yaml", ".md")}
    assert shipped == {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}


def test_the_grades_of_new_facts_are_even_and_the_unknown_are_never_spoken_of(world: World) -> None:
    graded = demos.new_facts(world)
    assert Counter(grade for _, grade in graded) == dict.fromkeys(demos.GRADES.values(), 24 * 4)
    never = {person.name for person in world.group("never")}
    for row, grade in graded:
        assert (row.key.split("/")[0] in never) == (grade == "unknown")
    asked, otherwise = ({row.prompt for row, _ in rows} for rows in (graded, demos.new_facts_asked_otherwise(world)))
    assert len(asked) == len(otherwise) and not asked & otherwise


def test_one_task_has_fifty_times_the_rows_of_the_other(world: World) -> None:
    sizes = Counter(row.skill for row in demos.imbalanced(world))
    assert sizes["doubles"] == 50 * sizes["ends"]


def test_nothing_that_is_taught_is_tested(world: World) -> None:
    tests = {row.prompt for row in demos.known(world)}
    taught: list[Row] = [*demos.quickstart(world), *demos.skill_a(world), *demos.skill_b(world), *demos.entangled(world)]
    assert not tests & {row.prompt for row in taught}
    assert all(not row.held_out for row in taught)


def test_the_truth_of_messy_names_every_flaw_by_its_line() -> None:
    rows = [json.loads(line) for line in (SHIPPED / "messy.jsonl").read_text().splitlines()]
    truth = list(csv.DictReader((SHIPPED / "truth" / "messy.csv").open()))
    assert [int(entry["line"]) for entry in truth] == list(range(1, len(rows) + 1))
    tests = {row["prompt"] for row in csv.DictReader((SHIPPED / "known.csv").open())}
    by_flaw = Counter(entry["flaw"] for entry in truth)
    assert by_flaw == {
        "good": 400, "duplicate": 30, "near duplicate": 30, "wrong answer": 30, "empty answer": 15, "other language": 20,
        "private data": 15, "too long": 10, "leaked test row": 15,
    }  # fmt: skip
    for entry, row in zip(truth, rows, strict=True):
        flaw, said = entry["flaw"], row["output"]
        assert (flaw == "empty answer") == (not said.strip())
        assert (flaw == "leaked test row") == (row["instruction"] in tests)
        assert (flaw == "too long") == (len(said.split()) > 300)
        assert (flaw == "private data") == ("@example.org" in said or "+49" in said)
        if flaw == "duplicate":
            assert rows[int(entry["copy_of_line"]) - 1] == row
        if flaw == "near duplicate":
            original = rows[int(entry["copy_of_line"]) - 1]
            assert original != row and original["output"] == said
