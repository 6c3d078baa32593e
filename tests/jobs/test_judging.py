"""What is known of the rows before the first step reaches each of their tokens, padded, packed, and when a row comes twice."""

import json
from pathlib import Path

import pytest
import torch

from tests.jobs.story import run, series
from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.batches import Batches
from workbench.jobs.judging import Known, judged, known_of
from workbench.jobs.objective import learnt_at
from workbench.materials.templates import Encoded
from workbench.methods.losses.poft import PoFT


def rows(number: int) -> list[Encoded]:
    """Row i holds the tokens 100·i, 100·i + 1, …; all but the first two are learnt."""
    return [Encoded([100 * i + place for place in range(4 + i % 3)], [False] * 2 + [True] * (2 + i % 3), 0) for i in range(number)]


def scored(encoded: list[Encoded]) -> Known:
    """Each learnt token's score is the token itself."""
    learnt = [token for row in encoded for token, trained in zip(row.ids[1:], row.trained[1:], strict=True) if trained]
    return known_of(encoded, [f"task {index % 2}" for index in range(len(encoded))], torch.tensor(learnt, dtype=torch.float32))


@pytest.mark.parametrize("packing", [False, True])
def test_every_learnt_token_gets_its_own_score_and_task(packing: bool) -> None:
    encoded = rows(7)
    known = scored(encoded)
    batches = Batches.of(encoded, TrainSpec(batch_size=3, accumulate=2, packing=packing, data={"max_length": 14}), 0)
    for step in range(1, 9):  # 7 rows, 6 a step: at an epoch's end a row may follow itself
        for batch in batches.window(step):
            row = batch["rows"][:, 1:][learnt_at(batch)]
            labels = batch["labels"][:, 1:][learnt_at(batch)]
            assert torch.equal(known.scores_of(row), labels.float()) and torch.equal(row, labels // 100)
            assert [known.names[task] for task in known.tasks[row].tolist()] == [f"task {int(one) % 2}" for one in row]


def test_a_row_that_follows_itself_is_read_from_its_start_again() -> None:
    known = scored(rows(2))
    assert known.scores_of(torch.tensor([0, 0, 0, 0, 1, 1, 1])).tolist() == [2, 3, 2, 3, 102, 103, 104]


def test_without_judges_all_scores_are_zero() -> None:
    assert known_of(rows(2), ["", ""], torch.empty(0)).scores_of(torch.tensor([0, 1])).tolist() == [0, 0]


def test_the_task_of_each_token_is_that_of_its_row_and_of_other_batches_what_they_say() -> None:
    known = known_of(rows(2), ["b", "a"], torch.empty(0))
    batch = {"rows": torch.tensor([[0, 0, 1], [1, -1, -1]])}
    assert known.tasks_of(batch).tolist() == [[1, 1, 0], [0, -1, -1]] and known.tasks_of({}) is None
    assert known.tasks_of({"tasks": torch.tensor([[3]])}).tolist() == [[3]] and known.places(["a", "new", "b"]) == [0, -1, 1]


def test_a_judge_with_other_tokens_is_refused(pico_folder: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match="other tokens than the model"):
        drain(judged(PoFT(aligned=str(pico_folder)), "pocket", rows(2), {"a": 0}, workspace))


def test_the_loss_of_each_task_is_read_apart(spec: TrainSpec, rows: Path, workspace: Workspace, tmp_path: Path) -> None:
    two = tmp_path / "two.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    two.write_text("".join(json.dumps({**line, "kind": "even" if place % 2 == 0 else "odd"}) + "\n" for place, line in enumerate(lines)))
    data = {**spec.data.model_dump(), "path": str(two), "task": "kind", "validation_share": 0.4}
    both = TrainSpec(**{**spec.model_dump(), "data": data, "loss": "mftcoder", "steps": 3})
    events = run(both, workspace.run("0001"), workspace)
    whole, even, odd = (series(events, f"validation_loss{name}")[3] for name in ("", "/even", "/odd"))
    assert min(even, odd) <= whole <= max(even, odd) and even != odd


def test_a_loss_that_weighs_tasks_asks_for_the_column(spec: TrainSpec) -> None:
    with pytest.raises(ValueError, match=r"say in data\.task which column"):
        TrainSpec(**{**spec.model_dump(), "loss": "mftcoder"})
