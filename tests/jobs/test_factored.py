"""A merge that is asked with factors, as a job: the same change as an adapter and as a model, tried in memory, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merged import read, refused, run
from pico import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Made, Noted, Progress, Started, Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge, preview
from workbench.jobs.tasted import MERGED
from workbench.jobs.tasting import Tasting
from workbench.materials import tensors
from workbench.materials.lora import Factors, read_lora
from workbench.methods.contracts import Slot
from workbench.methods.merges.clair import Clair

CLAIR = {"method": "clair"}


def spec_of(base: object, *models: str, name: str = "out", method: dict = CLAIR, **more: object) -> MergeSpec:
    given = [{"model": model, "weight": 1 + number} for number, model in enumerate(models)]
    return MergeSpec.parse({"name": name, "base": str(base), "models": given, "merge": method, **more})  # type: ignore[return-value]


@pytest.fixture
def group(lora_run: Callable, workspace: Workspace) -> list[str]:
    """Four adapters that share a subspace in q_proj, a stranger to it, and one of another rank that changes up_proj beside."""
    models = [lora_run(number, r=2) for number in range(1, 6)]
    models.append(lora_run(6, r=3, target_modules=["q_proj", "down_proj", "up_proj"]))
    for number in (1, 2, 3, 4, 6):
        rewrite(workspace, number, lambda name, held, number=number: common(name, held, number))
    return models


def common(name: str, held: Tensor, number: int) -> Tensor:
    """The left factor of q_proj in the group's subspace, others as they are."""
    if not name.endswith("q_proj.lora_B.weight"):
        return held
    shared = torch.randn(len(held), 2, generator=torch.Generator().manual_seed(0))
    return 0.1 * shared @ torch.randn(2, held.shape[1], generator=torch.Generator().manual_seed(number))


def rewrite(workspace: Workspace, number: int, change: Callable[[str, Tensor], Tensor]) -> None:
    path = workspace.run(f"{number:04}") / "adapter" / "adapter_model.safetensors"
    save_file({name: change(name, held).contiguous() for name, held in load_file(path).items()}, path)


def expected(workspace: Workspace, models: list[str], base: Path, **knobs: object) -> dict[str, Tensor]:
    """Each matrix's change, asked of the method by hand; an adapter that leaves it alone has rank 0."""
    adapters = [read_lora(workspace.run(model.removeprefix("run:")) / "adapter", "it").factors for model in models]
    shapes = {name: tensor.shape for name, tensor in read(base).items()}
    shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    found = {}
    for name in {name for factors in adapters for name in factors}:
        out, into = shapes[name]
        nothing = Factors(torch.zeros(out, 0).double(), torch.zeros(0, into).double())
        tuned = [factors.get(name, nothing) for factors in adapters]
        change, _ = Clair(**knobs).factors(Slot(name, None, None, 3), tuned, [1.0 + number for number in range(len(models))])
        found[name] = change.left @ change.right
    return found


def written(folder: Path) -> dict[str, Tensor]:
    return {name: pair.left @ pair.right for name, pair in read_lora(folder, "it").factors.items()}


@pytest.mark.parametrize("knobs", [{}, {"refine": False}, {"threshold": 0.9}])
def test_an_adapter_and_a_model_hold_the_same_change(knobs: dict, group: list[str], lora_base: Path, workspace: Workspace) -> None:
    method = {**CLAIR, **knobs}
    run(workspace, spec_of(lora_base, *group, method=method, save="adapter"))
    model = run(workspace, spec_of(lora_base, *group, method=method, name="whole"))
    wanted, adapter, base = expected(workspace, group, lora_base, **knobs), written(workspace.model("out")), read(lora_base)
    assert set(adapter) == set(wanted) and set(model) == set(base) and len(wanted) == 9
    for name, tensor in model.items():
        if name in wanted:
            assert torch.allclose(adapter[name], wanted[name], atol=1e-7)
            assert torch.equal(tensor, (base[name].double() + wanted[name]).float())
        else:
            assert torch.equal(tensor, base[name]), "what no adapter changes is the base's own, byte for byte"


def test_what_it_says(group: list[str], lora_base: Path, workspace: Workspace) -> None:
    for more, last in (({"save": "adapter"}, ["rank", "lost"]), ({}, [])):
        spec = spec_of(lora_base, *group, name=f"out{len(more)}", **more)
        events = list(merge(spec, workspace.run("0099"), workspace))
        assert isinstance(events[0], Started) and events[0].about["method"] == "CLAIR"
        (table,) = [event for event in events if isinstance(event, Table)]
        names = [*(f"outside {number}" for number in range(1, 7)), "flagged"]
        assert table.columns == ["tensor", "layer", "depth", "module", *names, *last]
        rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
        query = rows["model.layers.1.self_attn.q_proj.weight"]
        assert len(rows) == 9 and (query["layer"], query["depth"], query["module"]) == (1, 0.5, "q_proj")
        assert query["outside 5"] > 0.9 and query["flagged"] == 1 and max(query[f"outside {n}"] for n in (1, 2, 3, 4, 6)) < 1e-4
        alone = rows["model.layers.1.mlp.up_proj.weight"]
        assert {alone[name] for name in names} == {0.0}, "one adapter alone changes it"
        done = [event.done for event in events if isinstance(event, Progress)]
        assert done == sorted(done) and done[-1] == events[0].total and isinstance(events[-1], Made)
        assert not [event for event in events if isinstance(event, Noted)] and json.dumps(table.rows)
        if not more:
            assert preview(spec, workspace) == table


def test_a_rank_cuts_it_and_without_one_it_is_exact(group: list[str], lora_base: Path, workspace: Workspace) -> None:
    run(workspace, spec_of(lora_base, *group, save="adapter", rank=2))
    wanted = expected(workspace, group, lora_base)
    for name, change in written(workspace.model("out")).items():
        u, sizes, v = torch.linalg.svd(wanted[name])
        assert torch.allclose(change, (u[:, :2] * sizes[:2]) @ v[:2], atol=1e-6)


def test_blocks_make_no_difference(group: list[str], lora_base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(workspace, spec_of(lora_base, *group))
    monkeypatch.setattr(tensors, "BLOCK", 400)
    parts = run(workspace, spec_of(lora_base, *group, name="parts"))
    assert all(torch.allclose(whole[name], parts[name], rtol=0, atol=1e-7) for name in whole)


@torch.no_grad()
def test_tried_in_memory_it_is_what_would_be_written(group: list[str], lora_base: Path, workspace: Workspace) -> None:
    spec = spec_of(lora_base, *group)
    tasting = Tasting(spec, [], workspace)
    found = list(tasting.taste(spec))[-1]
    model = run(workspace, spec)
    assert all(torch.equal(tasting.parameters[name], tensor) for name, tensor in model.items())
    assert found.table == preview(spec, workspace) and MERGED in found.places
    base = read(lora_base)
    assert all(torch.equal(held, base[name]) for name, (held, _) in tasting.recipe.in_memory.items()), "the models of the start stay"


def test_copies_of_an_adapter_are_the_adapter(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1)
    merged = run(workspace, spec_of(lora_base, one, one, one))
    plain = run(workspace, spec_of(lora_base, one, name="plain", method={"method": "linear"}))
    assert all(torch.allclose(merged[name], plain[name], rtol=0, atol=1e-7) for name in plain)


def test_an_adapter_of_the_head_parts_it_from_the_embeddings(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(number, target_modules=["lm_head", "q_proj"]) for number in (1, 2, 3)]
    merged = run(workspace, spec_of(lora_base, *models))
    wanted, base = expected(workspace, models, lora_base), read(lora_base)
    embeddings = base["model.embed_tokens.weight"]
    assert torch.equal(merged["model.embed_tokens.weight"], embeddings)
    assert torch.equal(merged["lm_head.weight"], (embeddings.double() + wanted["lm_head.weight"]).float())
    assert json.loads((workspace.model("out") / "config.json").read_text())["tie_word_embeddings"] is False


def test_an_adapter_that_never_moved_is_pointed_out(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(number) for number in (1, 2, 3, 4)]
    rewrite(workspace, 4, lambda name, held: held * ("lora_A" in name))
    for save in ("model", "adapter"):
        events = list(merge(spec_of(lora_base, *models, save=save, name=save), workspace.run("0099"), workspace))
        notes = [event.text for event in events if isinstance(event, Noted)]
        assert notes == ["run 0004 does not differ from the base base, so it adds nothing to the merge."]


# What it refuses.


@pytest.mark.parametrize("save", ["model", "adapter"])
def test_models_that_are_no_adapters_of_the_base_are_refused_together(
    save: str, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    one, other = lora_run(1), lora_run(2)
    make_model(seed=3).save_pretrained(lora_base.parent / "elsewhere")
    (workspace.run("0002") / "spec.yaml").write_text(f"model: {lora_base.parent / 'elsewhere'}")
    saving = lora_run(3, modules_to_save=["input_layernorm"])
    assert refused(workspace, spec_of(lora_base, one, str(lora_base), other, saving, save=save)) == [
        "models.1: base is a whole model or changes nothing, and CLAIR merges LoRA adapters alone. Leave it out, or choose another method.",
        f"models.2: run 0002 stands on {lora_base.parent / 'elsewhere'}, and the base of this merge is {lora_base}. "
        "Merge only adapters of one base.",
        "models.3: run 0003 replaces whole tensors too (model.layers.0.input_layernorm.weight and 2 more), and CLAIR merges low-rank "
        "changes alone. Leave it out, or choose another method.",
    ]


def test_fewer_than_three_are_refused(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    assert refused(workspace, spec_of(lora_base, lora_run(1), lora_run(2))) == [
        "CLAIR needs at least 3 tuned models, and the spec names 2. Add models, or choose another method."
    ]


def test_the_base_is_a_plain_model(lora_run: Callable, workspace: Workspace) -> None:
    (mistake,) = refused(workspace, spec_of(lora_run(4), *(lora_run(number) for number in (1, 2, 3))))
    assert mistake.startswith("base: run 0004 is an adapter itself, and CLAIR merges the adapters of a plain model. Name the model that it")


def test_factors_apart_stacks_and_other_tokens_are_refused(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(number) for number in (1, 2, 3)]
    assert refused(workspace, spec_of(lora_base, *models, save="adapter", of="factors")) == [
        "of: factors gives A and B to a method apart, and CLAIR goes by the changes B·A. Set of to changes."
    ]
    for more in ({"stack": [{"layers": [0, 2]}]}, {"tokenizer": "union"}):
        assert refused(workspace, spec_of(lora_base, *models, **more)) == [
            "CLAIR merges adapters of one base, which have its layers and its tokens. Leave stack and tokenizer out."
        ]


def test_adapters_that_change_nothing_are_refused(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        save_file({}, workspace.run(f"000{number}") / "adapter" / "adapter_model.safetensors")
    found = refused(workspace, spec_of(lora_base, *models, save="adapter"))
    assert len(found) == 3 and all("is a whole model or changes nothing" in sentence for sentence in found)


def test_models_that_are_open_for_another_method_are_asked_again(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(1), lora_run(2), str(lora_base)]
    tasting = Tasting(spec_of(lora_base, *models, method={"method": "linear"}), [], workspace)
    with pytest.raises(SpecError, match=r"models\.2: base is a whole model or changes nothing, and CLAIR merges LoRA adapters alone"):
        next(tasting.taste(spec_of(lora_base, *models)))


@pytest.mark.parametrize("save", ["model", "adapter"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad: float, save: str, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = [lora_run(number) for number in (1, 2, 3)]
    spec = spec_of(lora_base, *models, save=save)
    if save == "model":
        held = load_file(lora_base / "model.safetensors")
        held["model.norm.weight"][3] = bad
        save_file(held, lora_base / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(WorkbenchError, match=r"^base holds NaN or Inf in model\.norm\.weight\. A merge would carry it"):
            list(merge(spec, workspace.run("0099"), workspace))
    rewrite(workspace, 2, lambda name, held: held * (bad if "lora_B" in name else 1))
    with pytest.raises(WorkbenchError, match=r"^run 0002 holds NaN or Inf in model\.layers\..*A merge would carry it"):
        list(merge(spec, workspace.run("0099"), workspace))
    with pytest.raises(WorkbenchError, match="NaN or Inf"):
        preview(spec, workspace)
    assert list(workspace.model().iterdir()) == []


@pytest.mark.parametrize("save", ["model", "adapter"])
@pytest.mark.parametrize("after", [1, 2, 9, None])
def test_a_stopped_merge_leaves_nothing(after: int | None, save: str, group: list[str], lora_base: Path, workspace: Workspace) -> None:
    """After so many events, or when all but the last word is said; how many there are depends on the threads."""
    work = merge(spec_of(lora_base, *group, save=save), workspace.run("0099"), workspace)
    for number, event in enumerate(work, 1):
        if number == after or isinstance(event, Table):
            break
    work.close()  # type: ignore[attr-defined]
    assert list(workspace.model().iterdir()) == []
