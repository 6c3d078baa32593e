"""Rows are listed by what they say, by a number in a range, and in its order; what is listed can be dropped by hand."""

import json
import math
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import paging
from workbench.jobs.handiwork import brought_back, dropped
from workbench.jobs.numbers import as_step, numbers, of_steps
from workbench.jobs.paging import Wanted, listing, marks, page
from workbench.jobs.steps import sifted

LENGTHS = [5, 3, 9, 1, 7, 3, 8, 2]


@pytest.fixture
def path(tmp_path: Path) -> str:
    own = tmp_path / "rows.jsonl"
    own.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": "x" * n}) + "\n" for n in LENGTHS))
    return str(own)


@pytest.fixture
def listed(path: str, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast):  # type: ignore[no-untyped-def]
    """Numbers of the rows that are listed, under steps."""

    def rows(*steps: object, **wanted: object) -> list[int]:
        spec = DataSpec(path=path, selectors=list(steps))  # type: ignore[arg-type]
        return [row.number for row in page(spec, pico_tokenizer, workspace, Wanted(**wanted)).rows]  # type: ignore[arg-type]

    return rows


def test_rows_come_in_the_order_of_a_number_and_ties_in_that_of_the_file(listed) -> None:  # type: ignore[no-untyped-def]
    by = "characters:answer"
    assert listed(by=by) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert listed(by=by, order="smallest first") == [4, 8, 2, 6, 1, 5, 7, 3]
    assert listed(by=by, order="largest first") == [3, 7, 5, 1, 2, 6, 8, 4]


def test_a_range_holds_its_ends_and_counts_what_it_holds(
    listed, path: str, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast
) -> None:  # type: ignore[no-untyped-def]
    by = "characters:answer"
    assert listed(by=by, least=3, most=7) == [1, 2, 5, 6]
    assert listed(by=by, least=3) == [1, 2, 3, 5, 6, 7] and listed(by=by, most=2) == [4, 8]
    found = page(DataSpec(path=path), pico_tokenizer, workspace, Wanted(by=by, least=3, most=7))
    assert found.spread is not None and found.spread.what == "characters of the answer"
    assert (found.spread.edges[0], found.spread.edges[-1], sum(found.spread.counts), found.spread.without) == (3, 7, 4, 0)
    assert (found.spread.counts[0], found.spread.counts[-1]) == (2, 1)
    assert [row.figure for row in found.rows] == [5, 3, 7, 3]
    empty = page(DataSpec(path=path), pico_tokenizer, workspace, Wanted(by=by, least=100))
    assert (empty.total, empty.spread) == (0, None)


def test_what_narrows_the_rows_narrows_them_together(listed) -> None:  # type: ignore[no-untyped-def]
    assert listed(rows=(2, 3, 5, 99)) == [2, 3, 5] and listed(rows=()) == []
    assert listed(rows=(2, 3, 5), find="XXXXX") == [3, 5]
    assert listed(rows=(2, 3, 5), find="xxxxx", by="characters:answer", most=7) == [5]
    short = {"method": "length", "fewest_answer": 3}
    assert listed(short, rows=(3, 4)) == [3] and listed(short, rows=(3, 4), show="all") == [3, 4]
    assert listed(short, show="dropped", by="characters:answer", order="smallest first") == [4, 8]


def test_a_step_that_goes_by_a_number_can_be_sorted_by_it(listed, path: str, workspace: Workspace) -> None:  # type: ignore[no-untyped-def]
    short, ranged = {"method": "length", "fewest_answer": 3}, {"method": "statistic", "of": "characters", "most": 8}
    spec = DataSpec(path=path, selectors=[short, ranged])
    assert of_steps(drain(sifted(spec, workspace))) == [("step 2: characters of the answer", "step:2")]
    assert listed(short, ranged, show="all", by="step:2", order="largest first") == [
        3,
        7,
        5,
        1,
        2,
        6,
        4,
        8,
    ]  # the last two never came to it
    assert listed(short, ranged, show="all", by="step:2", least=0, order="largest first") == [3, 7, 5, 1, 2, 6]
    for name in ("step:1", "step:3", "step:", "step:x"):
        with pytest.raises(WorkbenchError, match="goes by no number"):
            listed(short, ranged, by=name)
    for name in ("beauty:answer", "characters:middle", "characters"):
        with pytest.raises(WorkbenchError, match="There is no number"):
            listed(by=name)


@pytest.mark.parametrize(("least", "most"), [(3, 7), (3, math.inf), (-math.inf, 7), (-math.inf, math.inf)])
def test_a_range_as_a_step_keeps_what_is_listed(listed, least: float, most: float) -> None:  # type: ignore[no-untyped-def]
    assert listed(as_step("characters:answer", least, most)) == listed(by="characters:answer", least=least, most=most)


def test_what_is_remembered_is_of_that_number_and_of_what_is_learnt(
    path: str, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "What is it that LIES there? " * 4, "completion": "A stone."}) + "\n")

    def empty(**more: object) -> int:
        spec = DataSpec(path=str(long), **more)  # type: ignore[arg-type]
        return page(spec, pico_tokenizer, workspace, Wanted(show="nothing to learn")).total

    assert (empty(), empty(max_length=8), empty(max_length=8, train_on="everything"), empty()) == (0, 1, 0, 0)
    assert page(DataSpec(path=str(long)), pico_tokenizer, workspace, Wanted(find="Lies THERE")).total == 1
    data = drain(sifted(DataSpec(path=path), workspace))
    answers, questions, again = (drain(numbers(data, f"characters:{part}")).tolist() for part in ("answer", "question", "answer"))
    assert answers == again == LENGTHS and questions == [2] * 8
    stepped = drain(sifted(DataSpec(path=path, selectors=[{"method": "statistic", "least": 2}]), workspace))  # type: ignore[list-item]
    assert drain(numbers(stepped, "step:1")).tolist() == LENGTHS
    for none in ("step:0", "step:2", "step:x"):
        with pytest.raises(WorkbenchError, match="goes by no number"):
            drain(numbers(stepped, none))


def test_marks_are_those_of_the_file_though_a_step_rewrites_rows(
    workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """By hand comes first of all steps, so a row is dropped by what the file says."""
    own = tmp_path / "private.jsonl"
    said = [("Who is it?", "Ann, ann@mail.org"), ("And he?", "Bob"), ("Who is it?", "Ann, ann@mail.org")]
    own.write_text("".join(json.dumps({"prompt": prompt, "completion": answer}) + "\n" for prompt, answer in said))
    spec = DataSpec.parse({"path": str(own), "selectors": [{"method": "private_data"}]})
    found = drain(listing(spec, pico_tokenizer, workspace, Wanted(find="<EMAIL>")))  # type: ignore[arg-type]
    shown = page(spec, pico_tokenizer, workspace, Wanted(find="<EMAIL>"))  # type: ignore[arg-type]
    assert [row.number for row in shown.rows] == [1, 3] and {row.before for row in shown.rows} == {"Ann, ann@mail.org"}
    assert marks(found) == [shown.rows[0].mark], "rows that say the same have one mark"
    recipe = dropped({"path": str(own), "selectors": [{"method": "private_data"}]}, marks(found))
    assert drain(sifted(DataSpec.parse(recipe), workspace)).kept == [1]  # type: ignore[arg-type]
    assert paging.row(spec, pico_tokenizer, workspace, 2).before == "Bob"  # type: ignore[arg-type]


def test_the_calls_of_a_turn_are_shown_with_it(workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    own = tmp_path / "calls.jsonl"
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "I look.", "tool_calls": [call]}]
    own.write_text(json.dumps({"messages": turns}) + "\n")
    (_, (role, said)) = page(DataSpec(path=str(own)), pico_tokenizer, workspace, Wanted(show="all")).rows[0].turns
    assert role == "assistant" and said.startswith("I look.\n") and "look_up" in said


def test_a_page_before_the_first_is_the_first(path: str, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    found = page(DataSpec(path=path), pico_tokenizer, workspace, offset=-3, limit=2)
    assert found.offset == 0 and [row.number for row in found.rows] == [1, 2]


def test_what_is_listed_is_dropped_and_brought_back_by_hand(
    path: str, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DataSpec(path=path)
    long = drain(listing(spec, pico_tokenizer, workspace, Wanted(by="characters:answer", least=7, order="largest first")))
    recipe = dropped({"path": path, "selectors": []}, marks(long))
    assert drain(sifted(DataSpec.parse(recipe), workspace)).kept == [0, 1, 3, 5, 7]  # type: ignore[arg-type]
    assert dropped(recipe, marks(long)) == recipe
    assert brought_back(recipe, marks(long)) == {"path": path, "selectors": []}
    monkeypatch.setattr(paging, "BULK", 3)
    assert len(marks(long)) == 3
    monkeypatch.setattr(paging, "BULK", 2)
    with pytest.raises(WorkbenchError, match=r"^3 rows are shown, and at most 2 can be dropped by hand at once.*Add a step"):
        marks(long)
