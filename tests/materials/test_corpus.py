"""Data sets by name, and a split in which the same row is never on both sides."""

import json
import random
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.jobs.ingest import ingest
from workbench.materials import corpus
from workbench.materials.corpus import available, load, sides, split
from workbench.materials.rows import Example


def pairs(number: int) -> list[Example]:
    return [Example(({"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."})) for n in range(number)]


@pytest.fixture
def demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "demos"
    folder.mkdir()
    (folder / "first.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"text": "c"}\n{"text": "d"}\nbroken\n')
    (folder / "second.csv").write_text("prompt,completion\na,b\n")
    (folder / "notes.md").write_text("not a data set")
    monkeypatch.setattr(corpus, "DEMOS", folder)
    return folder


def test_a_demo_and_a_file_are_loaded(demos: Path, workspace: Workspace) -> None:
    for name in ("first", str(demos / "first.jsonl")):
        found = load(name, workspace)
        assert (found.name, found.format, len(found.examples), len(found.rejects)) == (name, "text", 3, 1)
    assert load("second", workspace, {"prompt": "completion", "answer": "prompt"}).examples[0].answer() == "a"


def test_a_data_set_of_the_workspace_comes_first_and_is_read_anew_with_columns(demos: Path, workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,completion,other\nyes,no,maybe\n")
    list(ingest(path, "second", workspace))
    assert load("second", workspace).examples[0].answer() == "no"
    assert load("second", workspace, {"answer": "other"}).examples[0].answer() == "maybe"
    assert [(choice.name, choice.where, choice.rows, choice.format) for choice in available(workspace)] == [
        ("second", "yours", 1, "prompt_completion"),
        ("first", "demo", 3, "text"),
    ]


def test_an_unknown_name_lists_the_known_ones(demos: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match=r"There is no data set 'nothing'\. There are: first, second\. Or give the path of a file\."):
        load("nothing", workspace)
    with pytest.raises(WorkbenchError, match=r"There is no file nowhere/x\.jsonl"):
        load("nowhere/x.jsonl", workspace)


def test_a_file_without_one_good_row_is_a_sentence(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"colour": "red"}\n{"colour": "blue"}\nbroken\n')
    with pytest.raises(
        WorkbenchError, match=r"No row of .* can be learnt from\. No known format has the columns colour \(2 of 3 rows\)\. Say"
    ):
        load(str(path), workspace)


@pytest.mark.parametrize("damaged", ["rows.parquet", "about.yaml"])
def test_a_damaged_data_set_says_what_to_do(damaged: str, workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,b\n")
    list(ingest(path, "mine", workspace))
    (workspace.data("mine") / damaged).write_bytes(b"rows: [")
    with pytest.raises(WorkbenchError, match=f"The data set mine in the workspace is damaged: {damaged} cannot be read. Delete"):
        load("mine", workspace, {} if damaged == "rows.parquet" else {"prompt": "a"})
    assert ("mine" in [choice.name for choice in available(workspace)]) == (damaged == "rows.parquet")


def test_the_same_row_never_falls_on_both_sides() -> None:
    rows = pairs(300)
    shouted = [Example(tuple({**turn, "content": f"  {turn['content'].upper()} "} for turn in row.messages)) for row in rows]
    train, validation = split([*rows, *shouted], 0.2, 0)
    asked = [{corpus.normalised(row.as_text()) for row in side} for side in (train, validation)]
    assert not asked[0] & asked[1] and len(train) + len(validation) == 600
    assert abs(len(validation) / 600 - 0.2) <= 3 * (0.2 * 0.8 / 300) ** 0.5


def test_rows_that_ask_the_same_fall_on_one_side_whatever_they_answer() -> None:
    asked = [
        Example(({"role": "user", "content": f"{n} ?"}, {"role": "assistant", "content": a})) for n in range(100) for a in ("x", "y", "z")
    ]
    train, validation = split(asked, 0.2, 0)
    assert not {row.question() for row in train} & {row.question() for row in validation} and 30 < len(validation) < 105
    story = [Example(({"role": "user", "content": "Go on."}, {"role": "assistant", "content": f"{n}"})) for n in range(1000)]
    for seed in range(8):  # an instruction is no question: it does not move as one
        assert 50 < len(split([*story, asked[0]], 0.1, seed)[1]) < 150
    same = [Example(({"role": "user", "content": "Say it."}, {"role": "assistant", "content": f"{n}"})) for n in range(300)]
    assert 30 < len(split(same, 0.2, 0)[1]) < 100  # all ask the same: then what they say decides


def test_the_split_depends_on_the_row_and_the_seed_alone() -> None:
    rows = pairs(200)
    shuffled = random.Random(0).sample(rows, 120)
    validation = {row.as_text() for row in split(rows, 0.3, 5)[1]}
    assert {row.as_text() for row in split(shuffled, 0.3, 5)[1]} == validation & {row.as_text() for row in shuffled}
    assert {row.as_text() for row in split(rows, 0.3, 6)[1]} != validation
    assert [row.as_text() for row in split(rows, 0.3, 5)[0]] == [row.as_text() for row in rows if row.as_text() not in validation]


def test_a_group_never_falls_on_both_sides_and_neither_does_what_asks_the_same_as_one_of_it() -> None:
    draw = random.Random(0)
    rows = [*pairs(600), *pairs(50)]
    groups = [draw.randrange(300) for _ in rows]
    for seed in range(5):
        train, validation = drain(sides(rows, 0.2, seed, groups))
        assert sorted(train + validation) == list(range(650)) and train == sorted(train) and validation
        for name in (lambda row: groups[row], lambda row: rows[row].question()):
            assert not {name(row) for row in train} & {name(row) for row in validation}


def test_groups_of_one_change_nothing_and_the_share_holds_for_groups() -> None:
    rows = pairs(2000)
    plain = drain(sides(rows, 0.2, 3))
    assert drain(sides(rows, 0.2, 3, list(range(2000)))) == plain == drain(sides(rows, 0.2, 3, [7 * row for row in range(2000)]))
    _, validation = drain(sides(rows, 0.2, 3, [row // 4 for row in range(2000)]))
    assert abs(len(validation) / 2000 - 0.2) <= 3 * (0.2 * 0.8 / 500) ** 0.5, "a group goes by its first row, not by its lowest"


def test_rows_that_come_behind_move_no_group() -> None:
    rows, groups = pairs(300), [row // 3 for row in range(300)]
    _, before = drain(sides(rows[:200], 0.3, 5, groups[:200]))
    _, after = drain(sides(rows, 0.3, 5, groups))
    assert [row for row in after if row < 200] == before


def test_what_is_all_one_group_is_trained_on() -> None:
    assert drain(sides(pairs(9), 0.5, 0, [4] * 9)) == (list(range(9)), [])


@pytest.mark.parametrize(
    ("number", "share", "expected"), [(2, 0.1, (1, 1)), (2, 0.5, (1, 1)), (1, 0.5, (1, 0)), (9, 0.0, (9, 0)), (0, 0.1, (0, 0))]
)
def test_no_side_is_empty_where_it_need_not_be(number: int, share: float, expected: tuple[int, int]) -> None:
    for seed in range(20):
        train, validation = split(pairs(number), share, seed)
        assert (len(train), len(validation)) == expected


def test_every_demo_of_the_program_loads_without_a_reject_but_the_messy_one(workspace: Workspace) -> None:
    choices = available(workspace)
    names = "entangled imbalanced known messy new_facts quickstart skill_a skill_b".split()
    assert [choice.name for choice in choices] == names, "each set, and nothing else that lies beside them"
    for choice in choices:
        found = load(choice.name, workspace)
        assert len(found.examples) == choice.rows
        assert len(found.rejects) == (15 if choice.name == "messy" else 0), json.dumps(vars(choice))
