"""An inspection as a job: which base, which rows, what is kept of what it found; and its mistakes in words."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Finished, Noted, Progress, Started, Table
from workbench.core.picture import Finding
from workbench.core.spec import InspectSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.inspect import NUMBERS, base_of, inspect, laid_out, pictures_of, told
from workbench.jobs.scoring import held_back, of_runs
from workbench.materials.rows import Example
from workbench.materials.world.skills import World


def of_kind(events: list[object], kind: type) -> Iterator[object]:
    return (event for event in events if isinstance(event, kind))


@pytest.fixture
def trained(workspace: Workspace, lora_run: Callable, lora_base: Path, rows: Path) -> Callable[[int], str]:
    """A function that makes a run with an adapter whose spec says which rows it held back."""

    def build(number: int) -> str:
        reference = lora_run(number)
        told = {"model": str(lora_base), "data": {"path": str(rows), "validation_share": 0.5}}
        (workspace.run(f"{number:04}") / "spec.yaml").write_text(yaml.safe_dump(told))
        return reference

    return build


def held(workspace: Workspace, reference: str) -> list[Example]:
    """The rows that the run held back."""
    return [example for _, examples in held_back(of_runs([reference], workspace), workspace) for example in examples]


def test_tables_sentences_and_numbers_are_told_in_that_order(workspace: Workspace, trained: Callable, tmp_path: Path) -> None:
    spec = InspectSpec(models=[trained(1), trained(2)], inspection="weight_change")
    events = list(inspect(spec, tmp_path, workspace))
    kinds = [type(event) for event in events if not isinstance(event, Progress)]
    assert kinds[0] is Started and kinds[-1] is Finished and kinds.index(Table) < kinds.index(Noted)
    tables = {table.name: table for table in of_kind(events, Table)}
    assert {row[0] for row in tables[NUMBERS].rows} == {"run 0001 · tale", "run 0002 · tale"} == set(events[0].about["models"])
    assert next(note.text for note in of_kind(events, Noted)) == events[-1].message
    assert any(isinstance(event, Progress) for event in events)


def test_numbers_that_cannot_be_had_make_no_table() -> None:
    assert not list(of_kind(list(told(Finding(["Nothing moved."], []))), Table))


def test_the_rows_are_what_the_runs_held_back_drawn_by_the_seed(workspace: Workspace, trained: Callable) -> None:
    knobs = {"method": "kl_from_base", "most_rows": 5}
    spec = InspectSpec(models=[trained(1)], inspection=knobs)
    laid, again = laid_out(spec, workspace), laid_out(spec, workspace)
    assert len(laid.rows[""]) == len(laid.examples[""]) == 5 and laid.rows == again.rows
    other = laid_out(spec.model_copy(update={"seed": 1}), workspace)
    assert other.rows != laid.rows
    every = laid_out(InspectSpec(models=["run:0001"], inspection={**knobs, "most_rows": 1000}), workspace)
    assert every.examples[""] == held(workspace, "run:0001")
    assert all(row in every.rows[""] for row in laid.rows[""])


def test_a_data_set_that_is_named_is_read(workspace: Workspace, lora_run: Callable, tmp_path: Path) -> None:
    found = World().rows("facts", 7, seed=0, held_out=False)
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in found))
    spec = InspectSpec(models=[lora_run(1)], inspection={"method": "kl_from_base", "rows": str(tmp_path / "own.jsonl")})
    assert len(next(iter(laid_out(spec, workspace).rows.values()))) == 7


def test_rows_that_are_not_there_are_a_sentence_that_names_the_setting(
    workspace: Workspace, trained: Callable, lora_base: Path, tmp_path: Path
) -> None:
    spec = InspectSpec(models=[trained(1)], inspection="kl_from_base")
    told = {"model": str(lora_base), "data": {"path": "known", "validation_share": 0}}
    (workspace.run("0001") / "spec.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(WorkbenchError, match=r"none of these models is a run here that held some back. Name a data set"):
        laid_out(spec, workspace)
    question = [{"role": "user", "content": "Where?" * 20}, {"role": "assistant", "content": "There."}]
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": question}) + "\n")
    cut = InspectSpec(models=["run:0001"], inspection={"method": "kl_from_base", "rows": str(tmp_path / "long.jsonl")}, max_length=8)
    with pytest.raises(WorkbenchError, match=r"has none with an answer\. Name another data set"):
        laid_out(cut, workspace)


def test_a_model_says_what_it_was_tuned_or_merged_from(
    workspace: Workspace, lora_run: Callable, lora_base: Path, pico_folder: Path
) -> None:
    assert base_of(lora_run(1), workspace) == str(lora_base)
    config = workspace.run("0001") / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(lora_base)}))
    assert base_of(str(config.parent), workspace) == str(lora_base)
    merged = workspace.model("both")
    merged.mkdir(parents=True)
    (merged / "merge.yaml").write_text(yaml.safe_dump({"base": "pocket", "models": [{"model": "run:0001"}]}))
    assert base_of("model:both", workspace) == "pocket"
    with pytest.raises(WorkbenchError, match="Name that model as the base"):
        base_of(str(pico_folder), workspace)


def test_a_merge_is_read_with_what_its_models_held_back(workspace: Workspace, trained: Callable, lora_base: Path, make: Callable) -> None:
    reference, merged = trained(1), workspace.model("both")
    Path(make("whole")).rename(merged)
    (merged / "merge.yaml").write_text(yaml.safe_dump({"base": str(lora_base), "models": [{"model": reference}]}))
    spec = InspectSpec(models=["model:both"], inspection={"method": "kl_from_base", "most_rows": 1000})
    assert laid_out(spec, workspace).examples[""] == held(workspace, reference)


def test_mistakes_of_the_spec_are_told_together() -> None:
    with pytest.raises(SpecError) as error:
        parse_spec({"kind": "inspect", "models": ["pocket", "pocket"], "inspection": {"method": "weight_change"}})
    assert "names 'pocket' twice" in str(error.value)
    with pytest.raises(SpecError, match="there is no inspection called 'none'"):
        parse_spec({"kind": "inspect", "models": ["pocket"], "inspection": "none"})


def test_pictures_are_known_by_name_and_none_of_what_is_not_known() -> None:
    assert pictures_of("weight_change") and pictures_of("gone") == ()


def test_no_recipe_is_read_from_outside_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("model: stolen\n")
    workspace.run("0001").mkdir(parents=True, exist_ok=True)
    for reference in (f"run:{'../' * 3}", "model:../..", "run:0001/../../.."):
        with pytest.raises(WorkbenchError):
            base_of(reference, workspace)


def test_a_folded_model_names_its_base_a_plain_recipe_means_the_demo_model_and_a_damaged_one_nothing(
    workspace: Workspace, lora_run: Callable, make: Callable
) -> None:
    folded = workspace.model("folded")
    Path(make("whole")).rename(folded)
    (folded / "fold.yaml").write_text("model: hub/base\n")
    assert base_of("model:folded", workspace) == "hub/base"
    for damaged in (b"base: [", b"\xff\xfe", b"- base", b""):
        (folded / "fold.yaml").write_bytes(damaged)
        with pytest.raises(WorkbenchError, match="Name that model as the base"):
            base_of("model:folded", workspace)
    lora_run(1)
    (workspace.run("0001") / "spec.yaml").write_text("name: with all settings as usual\n")
    assert base_of("run:0001", workspace) == "pocket"
    with pytest.raises(WorkbenchError, match="no run 0099"):
        base_of("run:0099", workspace)


def test_the_base_and_the_seed_are_those_of_the_spec_and_of_rows_the_answers_are_learnt(
    workspace: Workspace, trained: Callable, make: Callable, tmp_path: Path
) -> None:
    other = make("other")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (Path(other) / name).write_text((tmp_path / "base" / name).read_text())
    laid = laid_out(InspectSpec(models=[trained(1)], base=other, inspection="kl_from_base", seed=3), workspace)
    assert laid.refs[0].path == other and laid.seed == 3
    assert all(not row.trained[1] and row.trained[-1] for row in laid.rows[""]), "not what is asked"


def test_what_any_of_the_runs_held_back_is_read(workspace: Workspace, trained: Callable, lora_base: Path, tmp_path: Path) -> None:
    references = [trained(1), trained(2)]
    rows = World().rows("facts", 10, seed=0, held_out=False)
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in rows))
    told = {"model": str(lora_base), "data": {"path": str(tmp_path / "own.jsonl"), "validation_share": 0.5}}
    (workspace.run("0002") / "spec.yaml").write_text(yaml.safe_dump(told))
    spec = InspectSpec(models=references, inspection={"method": "kl_from_base", "most_rows": 1000})
    own = [held(workspace, reference) for reference in references]
    assert all(own) and laid_out(spec, workspace).examples[""] == [*own[0], *own[1]]
