"""Steps in a row: each on what the one before kept, remembered while nothing changes, on the disk where it took long."""

import json
import random
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import steps
from workbench.jobs.steps import at_hand, estimate, parted, sifted
from workbench.materials.around import Around
from workbench.materials.rows import Example, Selection

LENGTH = {"method": "length", "most_answer": 9}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": "x" * n}) + "\n" for n in (3, 12, 3, 5)))
    return path


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_held", steps.Memory(steps.HELD))


def spec(rows: Path, *selectors: object) -> DataSpec:
    return DataSpec(path=str(rows), selectors=list(selectors))


def test_each_step_sees_what_the_one_before_kept(rows: Path, workspace: Workspace) -> None:
    found = drain(sifted(spec(rows, LENGTH, {"method": "exact_duplicates", "compare": "answer"}), workspace))
    assert found.kept == [0, 3] and [step.dropped for step in found.steps] == [1, 1]
    assert found.dropped[1][0] == "Length" and found.dropped[2][1].startswith("has the same answer as line 1 of")


def test_it_is_counted_once_until_the_file_or_a_knob_changes(rows: Path, workspace: Workspace) -> None:
    given = spec(rows, LENGTH)
    assert at_hand(given, workspace) is None
    found = drain(sifted(given, workspace))
    assert at_hand(given, workspace) is found is drain(sifted(given.model_copy(update={"max_length": 9}), workspace))
    assert at_hand(spec(rows, {**LENGTH, "most_answer": 4}), workspace) is None
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "new?", "completion": "new"}) + "\n")
    assert at_hand(given, workspace) is None and len(drain(sifted(given, workspace)).kept) == 4


def test_a_file_that_changes_during_a_count_is_counted_anew(rows: Path, workspace: Workspace) -> None:
    work = sifted(spec(rows, LENGTH), workspace)
    next(work)
    rows.write_text(json.dumps({"prompt": "new?", "completion": "new"}) + "\n")
    drain(work)
    assert at_hand(spec(rows, LENGTH), workspace) is None and len(drain(sifted(spec(rows, LENGTH), workspace)).examples) == 1


def test_what_took_long_is_kept_on_the_disk_and_counted_from_there(
    rows: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)
    given = spec(rows, LENGTH, {"method": "exact_duplicates"})
    first = drain(sifted(given, workspace))
    monkeypatch.setattr(steps, "_held", steps.Memory(steps.HELD))
    again = sifted(given, workspace)
    with pytest.raises(StopIteration) as end:  # no sign of life: nothing is counted
        next(again)
    assert (end.value.value.kept, end.value.value.dropped) == (first.kept, first.dropped)
    assert len(list(workspace.cache("steps").iterdir())) == 2


def test_another_model_and_another_state_of_a_second_set_are_counted_anew(
    rows: Path, workspace: Workspace, pico_folder: Path, tmp_path: Path
) -> None:
    tests = tmp_path / "tests.jsonl"
    tests.write_text(json.dumps({"prompt": "one two three four five six", "completion": "x"}) + "\n")
    against = spec(rows, {"method": "decontamination", "against": str(tests)})
    drain(sifted(against, workspace))
    assert at_hand(against, workspace) and at_hand(against, workspace, str(pico_folder))  # no model reads for it
    tests.write_text(json.dumps({"prompt": "six five four three two one", "completion": "x, y"}) + "\n")
    assert at_hand(against, workspace) is None
    read = spec(rows, {"method": "perplexity"})
    drain(sifted(read, workspace, str(pico_folder)))
    assert at_hand(read, workspace, str(pico_folder)) and at_hand(read, workspace) is None


def test_near_copies_that_stay_fall_on_one_side_of_the_split(tmp_path: Path, workspace: Workspace) -> None:
    """Also where the row that joins them is dropped by a later step."""
    draw = random.Random(0)
    path, tales = tmp_path / "rows.jsonl", [" ".join(f"w{draw.randrange(10**6)}" for _ in range(40)) for _ in range(120)]
    rows = [{"prompt": f"{copy} of {n}?", "completion": f"{tale}{' more' * copy}"} for copy in range(3) for n, tale in enumerate(tales)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    near = {"method": "near_duplicates", "compare": "answer", "keeps": "all"}
    first_go = {"method": "word_list", "words": "0 of", "text": "question"}

    def torn(*selectors: object) -> int:
        found = drain(sifted(spec(path, *selectors), workspace))
        train, validation = (
            {str(row.answer()).removesuffix(" more").removesuffix(" more") for row in side} for side in drain(parted(found, 0.3, 1))
        )
        assert len(train | validation) == 120 and validation
        return len(train & validation)

    assert torn() > 20 and torn(near) == 0 == torn(near, first_go)


class _Shout(BaseModel):
    """A step that changes every row and drops none."""

    model_config = {"frozen": True}
    skip: bool = False

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        yield Progress(0, len(examples), "rows")
        loud = {place: Example(text=row.as_text().upper()) for place, row in enumerate(examples)}
        return Selection([True] * len(examples), changed=loud)

    def title(self) -> str:
        return "Shout"


def test_rows_that_a_step_changed_are_what_the_next_one_sees(rows: Path, workspace: Workspace, tmp_path: Path) -> None:
    given = spec(rows, LENGTH)
    corpus = drain(sifted(given, workspace)).corpus
    chain = [given.selectors[0], _Shout(), given.selectors[0]]
    files = [tmp_path / str(place) for place in range(3)]
    found = drain(steps.select(corpus, chain, Around(workspace), files))  # type: ignore[arg-type]
    assert found.steps[1].changed == 3 and found.kept == [] and len(found.dropped) == 4  # "ASSISTANT: XXX" is longer than 9
    assert found.examples[0].text == "USER: 3?\nASSISTANT: XXX" and found.corpus.examples[0].messages


def test_a_step_that_is_skipped_keeps_its_place_and_does_nothing(rows: Path, workspace: Workspace) -> None:
    with_it = drain(sifted(spec(rows, {**LENGTH, "skip": True}, {"method": "exact_duplicates", "compare": "answer"}), workspace))
    assert with_it.kept == [0, 1, 3] and [step.title for step in with_it.steps] == ["Length", "Exact duplicates"]
    other = spec(rows, {"method": "exact_duplicates", "compare": "answer"}, {**LENGTH, "skip": True})
    assert at_hand(other, workspace) is None  # what is told of each step is another story
    assert [step.title for step in drain(sifted(other, workspace)).steps] == ["Exact duplicates", "Length"]


def test_the_rows_on_both_sides_of_a_line_are_shown_nearest_first(rows: Path, workspace: Workspace) -> None:
    found = drain(sifted(spec(rows, {"method": "statistic", "most": 4}), workspace)).steps[0].scores
    assert [(near.row, near.score) for near in found.last] == [(1, 3), (3, 3)]
    assert [(near.row, near.score) for near in found.first] == [(4, 5), (2, 12)] and found.first[0].text == "user: 5?\nassistant: xxxxx"


def test_an_estimate_is_for_what_is_not_at_hand(rows: Path, workspace: Workspace) -> None:
    given = spec(rows, LENGTH, LENGTH, {**LENGTH, "skip": True})
    assert estimate(given, workspace) == pytest.approx(2 * 4 * steps.PLAIN)
    drain(sifted(given, workspace))
    assert estimate(given, workspace) == 0


def test_an_estimate_knows_how_many_rows_a_step_before_leaves(rows: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_pace", lambda reader, examples, around: 10.0)
    for first, left in (({"rows": 3}, 3), ({"share": 0.5}, 2), ({"share": 0.5, "skip": True}, 4), ({"rows": 99}, 4)):
        given = spec(rows, {"method": "random_sample", **first}, {"method": "perplexity"})
        found = dict(steps.estimates(given, workspace))
        assert found["Perplexity"] == pytest.approx(10 * left) and estimate(given, workspace) == pytest.approx(sum(found.values()))
        assert steps.estimates(given, workspace)[0][0] == ("Perplexity" if "skip" in first else "Random sample")


def test_an_estimate_counts_the_rows_that_a_model_reads(rows: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of the other set, and of the own those that the step asks for; the rest are gone through without a model."""
    monkeypatch.setattr(steps, "_pace", lambda reader, examples, around: 10.0)
    for sample, read in ((2, 2), (0, 4), (1000, 4)):
        given = spec(rows, {"method": "information_gain", "target": str(rows), "sample": sample})
        assert estimate(given, workspace) == pytest.approx(3 * 10 * (read + 4) + (4 - read) * steps.PLAIN)


def test_a_step_that_cannot_be_done_says_which(rows: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match=r"The step 'Language' cannot be done\. languages names xx"):
        drain(sifted(spec(rows, {"method": "language", "languages": "xx"}), workspace))
