"""What models are heard saying before they are fused: which tokens, whose rows, and a fusion by it from the first event to the last."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merged import keep_run
from peft import LoraConfig, get_peft_model
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Made, Progress, Table
from workbench.core.job import drain
from workbench.core.spec import MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import listening, tasting
from workbench.jobs.ingredients import open_recipe
from workbench.jobs.listening import heard, picked, said
from workbench.jobs.merge import merge
from workbench.jobs.scoring import Task, losses
from workbench.jobs.tasted import MERGED
from workbench.jobs.tasting import Tasting
from workbench.materials.models import load, resolve


@pytest.fixture
def runs(workspace: Workspace, spec: TrainSpec) -> list[str]:
    """Two runs on the pico model, each moved at random, that held back two in five rows."""
    made = []
    for number in (1, 2):
        base = make_model()
        torch.manual_seed(number)
        model = get_peft_model(base, LoraConfig(r=3, target_modules=["v_proj", "up_proj"], init_lora_weights=False))
        made.append(keep_run(workspace, number, spec, model))
    return made


@pytest.fixture
def recipe(spec: TrainSpec) -> Callable[..., MergeSpec]:
    def build(*models: str, match: str = "activations", apart: float = 0.25, **more: object) -> MergeSpec:
        method = {"method": "partial_fusion", "match": match, "apart": apart}
        return MergeSpec.parse(
            {"name": "out", "base": spec.model, "models": [{"model": model} for model in models], "merge": method, **more}
        )

    return build


def listened(spec: MergeSpec, workspace: Workspace) -> list[dict[str, Tensor]]:
    return drain(heard(open_recipe(spec, workspace).held(), workspace))


def task(*lengths: int, seed: int = 0) -> Task:
    """Rows of drawn tokens; padding is token 0, and no row has one."""
    ids = torch.randint(1, 400, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return Task("drawn", {"input_ids": ids * mask, "attention_mask": mask, "labels": ids}, [])


# Which tokens.


@pytest.mark.parametrize("most", [1, 7, 30, 64, 10_000])
def test_no_more_tokens_are_heard_than_the_limit_as_many_of_each_task_and_no_padding(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEARD", most)
    tasks = [task(9, 3, 20, 5), task(30, 30, seed=1), task(2, seed=2)]
    found = list(picked(tasks))
    counts = [len(places) for _, places in found]
    assert sum(counts) <= most and counts == [min(max(1, most // 3), real) for real in (37, 60, 2)][:most]
    for rows, places in found:
        assert rows["attention_mask"].flatten()[places].all() and len(places.unique()) == len(places)


def test_they_lie_evenly_in_as_many_rows_as_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEARD", 6)
    ((rows, places),) = picked([task(4, 8, 9)])
    assert rows["input_ids"].shape == (2, 9), "the third row is not read"
    assert places.tolist() == [0, 2, 9, 11, 13, 15]  # each second of 4 and 8 tokens, whose rows are 9 long


@torch.no_grad()
def test_heard_is_what_makes_the_blocks_say_what_they_say() -> None:
    """Through the matrix that writes it is what the attention and the MLP add to the stream at those tokens."""
    model, tasks, wrote = make_model(), [task(9, 3), task(5, seed=1)], dict[str, list[Tensor]]()
    says = said(model, tasks)
    for layer, block in enumerate(model.model.layers):
        for part, name in ((block.self_attn, "self_attn.o_proj"), (block.mlp, "mlp.down_proj")):
            given = wrote.setdefault(f"model.layers.{layer}.{name}", [])
            part.register_forward_hook(lambda _, __, out, given=given: given.append(out[0] if isinstance(out, tuple) else out))
    for rows in (own.rows for own in tasks):
        for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True):
            model(input_ids=ids[mask.bool()][None])  # each row alone, without padding
    assert says.keys() == wrote.keys()
    for name, own in says.items():
        assert own.dtype == torch.float32 and len(own) == 17
        torch.testing.assert_close(own @ model.get_submodule(name).weight.T, torch.cat(wrote[name], 1)[0], rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = make_model()
    first, again = said(model, [task(9, 3)]), said(model, [task(9, 3)])
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(module._forward_pre_hooks for module in model.modules())


# Whose rows.


def test_all_models_hear_the_same_rows_that_their_runs_held_back(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str]
) -> None:
    one, other = listened(recipe(*runs), workspace)
    same, again = listened(recipe(runs[0], runs[0]), workspace)
    assert {name: own.shape for name, own in one.items()} == {name: own.shape for name, own in other.items()}
    assert all(torch.equal(one[name], same[name]) and torch.equal(same[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert 0 < len(one["model.layers.0.mlp.down_proj"]) <= listening.HEARD


def test_rows_that_are_named_are_taken_instead(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str], rows: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first.jsonl"
    first.write_text(rows.read_text().splitlines()[0])
    own, named = (listened(recipe(*runs, **more), workspace)[0] for more in ({}, {"rows": str(first)}))
    assert len(named["model.layers.0.mlp.down_proj"]) < len(own["model.layers.0.mlp.down_proj"])


def test_a_method_that_does_not_listen_asks_for_no_rows(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    folder = recipe("x").base
    (Path(folder) / "tokenizer.json").unlink()
    for match in ("place", "weights"):
        given = recipe(folder, folder, match=match)
        assert listened(given, workspace) == [] == listening.unheard(given, workspace)


def test_without_rows_the_spec_is_refused_with_all_that_is_wrong(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    folder = recipe("x").base
    for given, words in (
        ({}, "rows: Partial fusion is to go by what the models say to some rows, and none of them is a run of this workspace that held"),
        ({"rows": "nowhere"}, "rows: There is no data set 'nowhere'"),
    ):
        with pytest.raises(SpecError) as caught:
            list(merge(recipe(folder, "run:0077", **given), workspace.run("0001"), workspace))
        assert caught.value.mistakes[0].startswith(words) and "models.1: There is no run 0077" in caught.value.mistakes[1]
    assert not list(workspace.model().iterdir())


def test_runs_that_held_nothing_back_have_no_rows(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str], spec: TrainSpec
) -> None:
    for run in ("0001", "0002"):
        data = {**spec.data.model_dump(), "validation_share": 0.0}
        (workspace.run(run) / "spec.yaml").write_text(TrainSpec(**{**spec.model_dump(), "data": data}).to_yaml())
    assert "Name a data set in rows" in listening.unheard(recipe(*runs), workspace)[0]
    assert listening.unheard(recipe(*runs, rows="skill_a"), workspace) == []


def test_rows_that_the_models_cannot_read_are_said(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "tasks_of", lambda *given: [])
    with pytest.raises(WorkbenchError, match=r"None of the rows to listen to can be read .* Name another data set in rows"):
        listened(recipe(*runs), workspace)


def test_a_model_that_says_no_numbers_is_named(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str], make: Callable[..., str]
) -> None:
    loud = make("loud")
    model = LlamaForCausalLM.from_pretrained(loud)
    for name in ("gate_proj", "up_proj"):
        model.model.layers[1].mlp.get_submodule(name).weight.data *= 1e30
    model.save_pretrained(loud)
    with pytest.raises(WorkbenchError, match=r"^loud says NaN or Inf inside\."):
        listened(recipe(runs[0], loud), workspace)


# A fusion by it.


def test_a_shuffled_copy_is_fused_into_the_model(recipe: Callable[..., MergeSpec], workspace: Workspace, make: Callable[..., str]) -> None:
    whole, other = make("whole", 0.05), make("other", 0.05)
    model = LlamaForCausalLM.from_pretrained(other)
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj"):
            layer.mlp.get_submodule(name).weight.data = layer.mlp.get_submodule(name).weight.data.roll(5, 0)
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data.roll(5, 1)
    model.save_pretrained(other)
    events = list(merge(recipe(whole, other, rows="skill_a", apart=0.0), workspace.run("0001"), workspace))
    shown = [(event.done, event.total, event.what) for event in events if isinstance(event, Progress) and event.what != "bytes"]
    assert shown == [
        (0, 1, "reading the models"), *((done, 2, "models heard") for done in (0, 1)), *((done, 3, "blocks fused") for done in (1, 2, 3))
    ]  # fmt: skip
    (table,) = (event for event in events if isinstance(event, Table))
    assert "neurons anew" in table.columns and all(row[table.columns.index("neurons anew")] == 1 for row in table.rows)
    assert isinstance(events[-1], Made)
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        fused, own = (LlamaForCausalLM.from_pretrained(folder)(ids).logits for folder in (workspace.model("out"), whole))
    torch.testing.assert_close(fused, own, rtol=1e-4, atol=1e-4)
    assert "rows: skill_a" in (workspace.model("out") / "merge.yaml").read_text()


@pytest.mark.parametrize("what", ["reading the models", "models heard", "blocks fused", "bytes"])
def test_a_fusion_that_is_stopped_leaves_nothing(
    what: str, recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str]
) -> None:
    work = merge(recipe(*runs), workspace.run("0009"), workspace)
    next(event for event in work if isinstance(event, Progress) and event.what == what)
    work.close()
    assert not list(workspace.model().iterdir())


# In the preview.


def test_a_preview_listens_once_and_scores_what_would_be_written(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, sought = list[str](), list[str]()

    def counted(given: object, home: Workspace) -> object:
        asked.append(given.spec.rows)
        return heard(given, home)

    def looked(given: MergeSpec, home: Workspace) -> list[str]:
        sought.append(given.rows)
        return listening.unheard(given, home)

    monkeypatch.setattr(tasting, "heard", counted)
    monkeypatch.setattr(tasting, "unheard", looked)
    here = Tasting(recipe(*runs), [], workspace)
    next(here.taste(recipe(*runs, match="place")))
    assert not asked, "nobody listens before a method does"
    found = list(here.taste(recipe(*runs, apart=0.5)))[-1]
    list(here.taste(recipe(*runs, apart=0.25)))
    list(here.taste(recipe(*runs, match="place")))
    assert asked == [""]
    list(merge(recipe(*runs, apart=0.5), workspace.run("0009"), workspace))
    written = load(resolve("model:out", workspace), torch.device("cpu"), torch.float32)
    assert [score.loss for score in found.scores[MERGED]] == pytest.approx(losses(written, here.tasks), rel=1e-4)
    assert "neurons anew" in found.table.columns
    next(here.taste(recipe(*runs, rows="skill_a")))
    assert asked == ["", "skill_a"] == sought[1:], "nor are rows looked for again"


def test_a_preview_without_rows_says_so(recipe: Callable[..., MergeSpec], workspace: Workspace, make: Callable[..., str]) -> None:
    given = recipe(make("one", 0.05), make("two", 0.05))
    here = Tasting(given, [], workspace)
    with pytest.raises(SpecError, match="Name a data set in rows"):
        next(here.taste(given))
