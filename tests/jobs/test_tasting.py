"""A merge tried in memory: the scores of what it would write, nothing written, and the geometry of its picture."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from merged import keep_run
from peft import LoraConfig, get_peft_model
from pico import make_model
from safetensors.torch import load_file

from workbench.core.errors import SpecError
from workbench.core.spec import MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import layers, tasting
from workbench.jobs.ingredients import stacked
from workbench.jobs.layers import in_memory
from workbench.jobs.merge import merge, preview
from workbench.jobs.scoring import losses
from workbench.jobs.tasted import BASE, MERGED, WIDTHS, Tasted, placed
from workbench.jobs.tasting import SHARES, NoPreview, Tasting
from workbench.jobs.tastings import Tastings
from workbench.materials.models import load, resolve
from workbench.materials.tensors import task_gram


@pytest.fixture
def runs(workspace: Workspace, spec: TrainSpec) -> list[str]:
    """Two runs that made LoRA adapters on the pico model, each moved at random."""
    made = []
    for number, change in ((1, 0.02), (2, 0.05)):
        torch.manual_seed(number)
        model = get_peft_model(make_model(), LoraConfig(r=3, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(change / parameter.std())
        made.append(keep_run(workspace, number, spec, model))
    return made


@pytest.fixture
def recipe(spec: TrainSpec, runs: list[str]) -> Callable[..., MergeSpec]:
    def build(*weights: float, method: str = "task_arithmetic", **knobs: object) -> MergeSpec:
        models = [{"model": run, "weight": weight} for run, weight in zip(runs, weights, strict=True)]
        return MergeSpec.parse({"name": "out", "base": spec.model, "models": models, "merge": {"method": method, **knobs}})

    return build


def last(tasting: Tasting, spec: MergeSpec) -> Tasted:
    return list(tasting.taste(spec))[-1]


def test_it_scores_what_a_merge_would_write(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    spec = recipe(0.7, 0.4)
    here = Tasting(spec, [], workspace)
    found = last(here, spec)
    assert not list(workspace.model().iterdir()), "nothing is written"
    assert found.table == preview(spec, workspace)
    list(merge(spec, workspace.run("0009"), workspace))
    written = load(resolve("model:out", workspace), torch.device("cpu"), torch.float32)
    assert [score.loss for score in found.scores[MERGED]] == pytest.approx(losses(written, here.tasks), rel=1e-5)


def test_the_base_and_the_tuned_models_have_their_own_scores(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str]
) -> None:
    spec = recipe(1.0, 1.0)
    here = Tasting(spec, [], workspace)
    found = last(here, spec)
    assert list(found.scores) == [BASE, *here.labels, MERGED] and [task.name for task in found.tasks] == ["tale.jsonl"]
    for reference, label in zip([spec.base, *runs], [BASE, *here.labels], strict=True):
        alone = load(resolve(reference, workspace), torch.device("cpu"), torch.float32)
        assert [score.loss for score in found.scores[label]] == pytest.approx(losses(alone, here.tasks), rel=1e-4)
    assert len(found.said[MERGED][0]) == len(found.tasks[0].questions)


def test_one_model_alone_is_tasted_as_itself_whatever_was_tasted_before(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    here = Tasting(recipe(1.0, 1.0), [], workspace)
    last(here, recipe(-3.0, 2.0))
    found = last(here, recipe(1.0, 0.0))
    first = here.labels[0]
    assert [score.loss for score in found.scores[MERGED]] == pytest.approx([score.loss for score in found.scores[first]], rel=1e-5)
    assert found.said[MERGED] == found.said[first]


def test_the_path_goes_from_the_base_through_the_merge(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    here = Tasting(recipe(1.0, 1.0), [], workspace)
    path, nothing = dict(last(here, recipe(1.0, 1.0)).path), dict(last(here, recipe(0.0, 0.0)).path)
    assert tuple(path) == SHARES
    assert path[0.0] == pytest.approx(nothing[1.0]), "it begins at the base"
    assert path[0.5] == pytest.approx(dict(last(here, recipe(0.5, 0.5)).path)[1.0], rel=1e-5)


def test_the_first_news_come_without_answers(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    spec = recipe(1.0, 1.0)
    first, then = Tasting(spec, [], workspace).taste(spec)
    assert MERGED not in first.said and first.scores[MERGED][0].right is None
    assert then.said[MERGED] and then.scores[MERGED][0].loss == first.scores[MERGED][0].loss


def test_who_waits_is_told_what_is_known_by_then(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    """With no patience at all: rows more and more, then answers word by word, then the way point by point; the last news are all."""
    spec = recipe(1.0, 0.5)
    here = Tasting(spec, [], workspace)
    news, whole = list(here.taste(spec, patience=0.0)), last(Tasting(spec, [], workspace), spec)
    seen = [found.rows for found in news]
    (task,) = here.tasks
    most = len(task.rows["labels"])
    assert seen == sorted(seen) and seen[0] == (1, most) and seen[-1] == (most, most)
    few = next(found for found in news if found.rows[0] == 1)
    first = replace(task, rows={name: tensor[:1] for name, tensor in task.rows.items()})
    for place, label in enumerate([BASE, *here.labels]):
        base, tuned = zip(*here.recipe.in_memory.values(), strict=True)
        own = base if label == BASE else [of[place - 1] for of in tuned]
        model = load(resolve(spec.base, workspace), torch.device("cpu"), torch.float32)
        model.load_state_dict(dict(zip(here.recipe.in_memory, own, strict=True)), strict=False)
        assert few.scores[label][0].loss == pytest.approx(losses(model, [first])[0], rel=1e-5), "all models are held against the same rows"
        assert few.scores[label][0].right is None
    halfway = [found for found in news if MERGED in found.growing]
    assert len(halfway) > 2 and all(found.said[MERGED] and found.scores[MERGED][0].right is None for found in halfway)
    ways = [tuple(share for share, _ in found.path) for found in news]
    assert ways[0] == (0.0, 1.0) and ways[-1] == SHARES and len(set(ways)) == len(SHARES) - 1
    assert [score.loss for score in news[-1].scores[MERGED]] == pytest.approx([score.loss for score in whole.scores[MERGED]], rel=1e-5)
    again = next(here.taste(recipe(0.3, 0.3), patience=0.0))
    assert again.rows == few.rows and again.scores[BASE][0].loss == few.scores[BASE][0].loss, "of models that have read them all, too"
    assert (news[-1].said, news[-1].places, news[-1].table, news[-1].growing) == (whole.said, whole.places, whole.table, frozenset())


def test_models_are_read_and_asked_once(recipe: Callable[..., MergeSpec], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moved slider costs the merged model's rows and answers, and no inner products of weights that have not moved."""
    spec, asked, products = recipe(1.0, 0.5), list[str](), list[int]()
    here = Tasting(spec, [], workspace)
    for label, known in here.known.items():
        speaking = known.model
        known.model = lambda label=label, speaking=speaking: asked.append(label) or speaking()
    monkeypatch.setattr(layers, "task_gram", lambda *given, **how: products.append(1) or task_gram(*given, **how))
    monkeypatch.setattr(tasting, "task_gram", lambda *given, **how: products.append(1) or task_gram(*given, **how))
    last(here, spec)
    assert set(asked) == {BASE, *here.labels} and products
    asked.clear()
    products.clear()
    found = last(here, recipe(0.2, 0.9))
    assert not asked and not products and found.table == preview(recipe(0.2, 0.9), workspace)
    merged, _ = in_memory(stacked(here.recipe, recipe(0.2, 0.9)))
    held = here.recipe.in_memory.items()
    whole = placed(sum(task_gram(base, [*tuned, merged[name]]) for name, (base, tuned) in held), [*here.labels, MERGED])
    assert all(found.places[name] == pytest.approx(place, abs=1e-6) for name, place in whole.items()), "known from the others"


def test_a_taste_that_was_left_halfway_spoils_nothing(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    here, spec = Tasting(recipe(1.0, 1.0), [], workspace), recipe(0.7, 0.4)
    for stop in (1, 4, 8, 20):
        left = here.taste(recipe(1.0, 1.0), patience=0.0)
        for _ in range(stop):
            next(left, None)
        left.close()
    found, plain = last(here, spec), last(Tasting(spec, [], workspace), spec)
    assert found.said == plain.said and found.table == plain.table
    for label, scores in plain.scores.items():
        assert [score.loss for score in found.scores[label]] == pytest.approx([score.loss for score in scores], rel=1e-5)


def test_a_set_of_ones_own_is_scored_too(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    spec = recipe(1.0, 1.0)
    assert [task.name for task in Tasting(spec, ["skill_b"], workspace).tasks] == ["tale.jsonl", "skill_b"]


def test_a_stack_is_tasted_as_the_model_that_would_be_written(
    recipe: Callable[..., MergeSpec], workspace: Workspace, runs: list[str]
) -> None:
    spec = recipe(1.0, 1.0, method="passthrough")
    stack = [{"layers": [0, 2], "models": [runs[0]]}, {"layers": [1, 3], "models": [runs[1]]}]
    spec = MergeSpec.parse({**spec.model_dump(mode="json"), "stack": stack})
    here = Tasting(spec, [], workspace)
    first, then = here.taste(spec)
    assert not first.path and MERGED not in first.said and list(then.places) == [BASE, *here.labels] and then.said[MERGED]
    assert then.table == preview(spec, workspace) and {row[1] for row in then.table.rows} == {None, 0, 1, 2, 3}
    list(merge(spec, workspace.run("0009"), workspace))
    written = load(resolve("model:out", workspace), torch.device("cpu"), torch.float32)
    assert [score.loss for score in then.scores[MERGED]] == pytest.approx(losses(written, here.tasks), rel=1e-5)
    again = last(here, MergeSpec.parse({**spec.model_dump(mode="json"), "stack": [{"layers": [0, 3], "models": [runs[0]]}]}))
    assert [score.loss for score in again.scores[MERGED]] == pytest.approx([score.loss for score in again.scores[here.labels[0]]], rel=1e-5)


def test_weights_that_a_method_does_not_take_are_refused(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    here = Tasting(recipe(1.0, 1.0), [], workspace)
    with pytest.raises(SpecError, match="add up to zero"):
        last(here, recipe(1.0, -1.0, method="linear"))


def test_what_does_not_fit_into_memory_is_refused(
    recipe: Callable[..., MergeSpec], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasting, "memory_total", lambda: 100_000)
    with pytest.raises(NoPreview, match="too much for this machine"):
        Tasting(recipe(1.0, 1.0), [], workspace)


def test_a_head_that_only_an_adapter_parted_is_put_beside_the_embeddings(spec: TrainSpec, workspace: Workspace) -> None:
    torch.manual_seed(0)
    model = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    model.save_pretrained(workspace.run("0001") / "adapter")
    (workspace.run("0001") / "spec.yaml").write_text(spec.to_yaml())
    given = MergeSpec.parse({"base": spec.model, "models": [{"model": "run:0001"}], "merge": {"method": "task_arithmetic"}})
    here = Tasting(given, [], workspace)
    last(here, given)
    before = load_file(Path(spec.model) / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(here.parameters["model.embed_tokens.weight"].detach(), before)
    assert not torch.equal(here.parameters["lm_head.weight"].detach(), before)


# The picture.


def test_models_are_placed_as_far_apart_as_they_are() -> None:
    base, first, second = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    vectors = torch.stack([base, first, second]).double()
    where = placed(vectors @ vectors.T, ["one", "two"])
    assert where[BASE] == (0.0, 0.0)
    assert math.hypot(*where["one"]) == pytest.approx(2 / 5) and math.hypot(*where["two"]) == pytest.approx(math.sqrt(2) / 5)
    assert math.dist(where["one"], where["two"]) == pytest.approx(math.sqrt(2) / 5)
    assert placed(torch.zeros(2, 2, dtype=torch.float64), ["still"])["still"] == (0.0, 0.0)


def test_layers_have_cosines_only_between_models(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    found = last(Tasting(recipe(1.0, 1.0), [], workspace), recipe(1.0, 1.0))
    assert [layer for layer, _ in found.cosines] == [0, 1, 2] and all(-1 <= cosine <= 1 for _, cosine in found.cosines)


def test_models_stay_open_until_others_are_wanted(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    tastings, spec = Tastings(patience=math.inf), recipe(1.0, 1.0)
    assert [found is None for found in tastings.taste(spec, [], workspace)] == [True, False, False]
    assert [found is None for found in tastings.taste(recipe(0.5, 0.5, method="linear"), [], workspace)] == [False, False]
    assert next(tastings.taste(spec, ["skill_b"], workspace)) is None, "other rows are read"


def test_a_taste_that_is_left_lets_the_next_one_begin(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    tastings, spec = Tastings(patience=math.inf), recipe(1.0, 1.0)
    left = tastings.taste(spec, [], workspace)
    assert next(left) is None and next(left)
    left.close()
    assert len(list(tastings.taste(spec, [], workspace))) == 2


def test_a_merge_that_changes_widths_has_a_curve_of_what_they_are_worth(recipe: Callable[..., MergeSpec], workspace: Workspace) -> None:
    spec = recipe(1.0, 1.0, method="partial_fusion", apart=0.5)
    here = Tasting(spec, [], workspace)
    first, found = here.taste(spec)
    assert first.path == [] and first.said[MERGED] and MERGED not in first.places
    widths = [width for width, _ in found.path]
    assert widths == sorted(widths) and widths[0] == 1.0 and len(widths) == 5 and found.along == WIDTHS
    assert "neurons cut" in first.table.columns and [row[1] for row in found.table.rows] == [0, 1, 2]
    list(merge(spec, workspace.run("0009"), workspace))
    written = load(resolve("model:out", workspace), torch.device("cpu"), torch.float32)
    assert [score.loss for score in found.scores[MERGED]] == pytest.approx(losses(written, here.tasks), rel=1e-4)


def test_models_that_are_no_runs_can_be_tasted_without_rows(spec: TrainSpec, workspace: Workspace) -> None:
    given = MergeSpec.parse({"base": spec.model, "models": [{"model": spec.model}], "merge": {"method": "task_arithmetic"}})
    found = last(Tasting(given, [], workspace), given)
    assert found.tasks == [] and found.scores[MERGED] == [] and found.table.rows
