"""An adapter that looks at rows: which rows, what is kept of it, and that a resumed run does not look again."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.story import run, same, series, stopped
from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Noted
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import begin
from workbench.materials.evidence import Evidence
from workbench.methods.adapters.smt import SMT


@pytest.fixture
def looking(spec: TrainSpec) -> TrainSpec:
    more = {"adapter": {"method": "smt", "block": 8, "share": 0.1, "rows": 6}, "steps": 6, "evaluate_every": 2, "prompts": []}
    return TrainSpec.parse({**spec.model_dump(mode="json"), **more})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Evidence]:
    """What the adapter was shown, each time that it looked."""
    found, study = list[Evidence](), SMT.study

    def spy(self: SMT, model: torch.nn.Module, evidence: Evidence) -> object:
        found.append(evidence)
        return study(self, model, evidence)

    monkeypatch.setattr(SMT, "study", spy)
    return found


def test_it_looks_at_as_many_training_rows_as_it_says_drawn_by_the_seed(
    looking: TrainSpec, workspace: Workspace, seen: list[Evidence]
) -> None:
    made = drain(begin(looking, workspace.run("0001"), workspace))
    again = drain(begin(looking, workspace.run("0002"), workspace))
    drain(begin(looking.model_copy(update={"seed": 9}), workspace.run("0003"), workspace))
    rows = [[tuple(row.ids) for row in evidence.rows[""]] for evidence in seen]
    assert len(rows[0]) == 6 and set(rows[0]) <= {tuple(row.ids) for row in made.prepared.train}
    assert rows[0] == rows[1] != rows[2]
    assert [name for name, _ in made.attachment.trained()] == [name for name, _ in again.attachment.trained()]


def test_more_rows_than_there_are_is_all_of_them(looking: TrainSpec, workspace: Workspace, seen: list[Evidence]) -> None:
    made = drain(begin(looking.model_copy(update={"adapter": SMT(rows=100_000)}), workspace.run("0001"), workspace))
    assert [row.ids for row in seen[0].rows[""]] == [row.ids for row in made.prepared.train]


def test_a_run_that_was_stopped_goes_on_bit_for_bit_without_looking_again(
    looking: TrainSpec, workspace: Workspace, seen: list[Evidence]
) -> None:
    whole = run(looking, workspace.run("0001"), workspace)
    first = stopped(looking, workspace.run("0002"), workspace, 3, Measured)
    second = run(looking, workspace.run("0002"), workspace)
    assert len(seen) == 2
    assert series(first, "loss") | series(second, "loss") == series(whole, "loss")
    assert same(workspace.run("0001") / "adapter", workspace.run("0002") / "adapter")
    assert load_file(workspace.run("0001") / "study.safetensors").keys() == load_file(workspace.run("0002") / "study.safetensors").keys()


def test_what_is_damaged_on_the_disk_is_said_and_not_found_anew(looking: TrainSpec, workspace: Workspace, seen: list[Evidence]) -> None:
    drain(begin(looking, workspace.run("0001"), workspace))
    (workspace.run("0001") / "study.safetensors").write_bytes(b"half")
    with pytest.raises(WorkbenchError, match=r"Remove .*study\.safetensors"):
        drain(begin(looking, workspace.run("0001"), workspace))
    assert len(seen) == 1


def test_another_data_set_is_read_by_its_name(
    looking: TrainSpec, workspace: Workspace, seen: list[Evidence], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(SMT, "looks_at", lambda self: ["", "skill_a"])
    drain(begin(looking, workspace.run("0001"), workspace))
    assert set(seen[0].rows) == {"", "skill_a"} and len(seen[0].rows["skill_a"]) == 6
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"prompt": "What?", "completion": ""}\n')
    monkeypatch.setattr(SMT, "looks_at", lambda self: [str(empty)])
    with pytest.raises(WorkbenchError):
        drain(begin(looking, workspace.run("0002"), workspace))


def test_words_are_looked_up_in_the_models_own_vocabulary_and_what_is_no_token_is_said_once(spec: TrainSpec, workspace: Workspace) -> None:
    adapter = {"method": "trainable_tokens", "tokens": "<|user|>, xylophone"}
    spec = TrainSpec.parse({**spec.model_dump(mode="json"), "adapter": adapter, "prompts": [], "steps": 4, "checkpoint_every": 2})
    first = stopped(spec, workspace.run("0001"), workspace, 2, Measured)
    second = run(spec, workspace.run("0001"), workspace)
    said = [event.text for event in first if isinstance(event, Noted)]
    assert len(said) == 1 and said[0].startswith("'xylophone'")
    assert not any("xylophone" in event.text for event in second if isinstance(event, Noted))
    found = load_file(workspace.run("0001") / "study.safetensors")
    assert found["<|user|>"].shape == (1,) and found.keys() == {"<|user|>", "xylophone"}, "the space before it is a token of its own"
