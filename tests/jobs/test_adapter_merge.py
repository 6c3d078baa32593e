"""LoRA adapters merged into one adapter: the laws of a sum, peft's own combinations as an oracle, the folder, and every refusal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from workbench.core.additive import Additive
from workbench.core.events import Made, Noted, Progress, Started, Table
from workbench.core.method import shelf
from workbench.core.spec import MergeSpec, read_spec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge
from workbench.materials import tensors
from workbench.materials.lora import read_lora
from workbench.materials.models import available, load, resolve

SUM = {"method": "task_arithmetic"}
PRUNE = {"method": "breadcrumbs", "density": 0.5, "outliers": 0}
Changes = dict[str, Tensor]


def spec_of(base: object, models: dict[str, float], method: dict = SUM, **more: object) -> MergeSpec:
    given = [{"model": model, "weight": weight} for model, weight in models.items()]
    return MergeSpec.parse({"name": "out", "base": str(base), "models": given, "merge": method, "save": "adapter", **more})


def run(workspace: Workspace, spec: MergeSpec) -> list:
    return list(merge(spec, workspace.run("0099"), workspace))


def changes(folder: Path) -> Changes:
    """ΔW by tensor."""
    return {name: pair.left @ pair.right for name, pair in read_lora(folder, "it").factors.items()}


def merged(workspace: Workspace, spec: MergeSpec) -> Changes:
    run(workspace, spec)
    return changes(workspace.model(spec.name))


def ranks(folder: Path) -> set[int]:
    return {pair.right.shape[0] for pair in read_lora(folder, "it").factors.values()}


def of_run(workspace: Workspace, reference: str) -> Changes:
    return changes(workspace.run(reference.removeprefix("run:")) / "adapter")


def close(one: Changes, other: Changes, within: float = 1e-6) -> bool:
    """Equal up to a share of the largest number; a tensor that is missing is zero."""
    largest = max(float(tensor.abs().max()) for tensor in (*one.values(), *other.values()))
    zero = torch.zeros(())
    return all(float((one.get(name, zero) - other.get(name, zero)).abs().max()) <= within * largest for name in {*one, *other})


def summed(*parts: tuple[float, Changes]) -> Changes:
    total: Changes = {}
    for share, part in parts:
        for name, change in part.items():
            total[name] = total.get(name, torch.zeros_like(change)) + share * change
    return total


# The laws of a sum.


@pytest.mark.parametrize("knobs", [
    {}, {"r": 2, "target_modules": ["q_proj"]}, {"use_rslora": True},
    {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 9}}, {"target_modules": ["lm_head", "up_proj"]},
])  # fmt: skip
def test_without_a_rank_it_is_the_sum_whatever_the_adapters_are_like(
    knobs: dict, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    one, two = lora_run(1), lora_run(2, **knobs)
    found = merged(workspace, spec_of(lora_base, {one: 0.7, two: -0.4}))
    expected = summed((0.7, of_run(workspace, one)), (-0.4, of_run(workspace, two)))
    assert close(found, expected) and set(found) == set(expected)


def test_a_weight_of_zero_leaves_the_other_adapter_and_takes_no_room(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, two = lora_run(1), lora_run(2, r=3)
    assert close(merged(workspace, spec_of(lora_base, {one: 1, two: 0})), of_run(workspace, one), 2e-7)
    assert ranks(workspace.model("out")) == {4}


@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapter_less_itself_is_nothing(rank: int, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1)
    shutil.copytree(workspace.run("0001"), workspace.home / "runs" / "0003")
    found = merged(workspace, spec_of(lora_base, {one: 1, "run:0003": -1}, rank=rank))
    assert max(float(change.abs().max()) for change in found.values()) <= 1e-8 and found


def test_a_rank_that_holds_all_is_the_sum_and_a_smaller_one_its_nearest(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, two = lora_run(1), lora_run(2, r=3)
    expected = summed((1.0, of_run(workspace, one)), (1.0, of_run(workspace, two)))
    assert close(merged(workspace, spec_of(lora_base, {one: 1, two: 1}, rank=7)), expected)
    events = run(workspace, spec_of(lora_base, {one: 1, two: 1}, rank=2, name="small"))
    (table,) = [event for event in events if isinstance(event, Table)]
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    for name, change in changes(workspace.model("small")).items():
        u, sizes, v = torch.linalg.svd(expected[name])
        assert close({name: change}, {name: (u[:, :2] * sizes[:2]) @ v[:2]}, 2e-6)
        assert rows[name]["rank"] == 2
        assert rows[name]["lost"] == pytest.approx(float(sizes[2:].square().sum() / sizes.square().sum()), rel=1e-4)
    (note,) = [event for event in events if isinstance(event, Noted)]
    total = sum(float(change.square().sum()) for change in expected.values())
    kept = sum(float(change.square().sum()) for change in changes(workspace.model("small")).values()) / total
    assert f"With rank 2 the adapter keeps {kept:.2%} of the merged change's energy" in note.text and note.level == "watch"


@pytest.mark.parametrize("name", [name for name, kind in shelf("merges").items() if issubclass(kind, Additive)])
def test_methods_that_add_give_the_adapter_of_their_merged_model(
    name: str, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = {lora_run(1): 1.0} if name == "wise_ft" else {lora_run(1): 1.0, lora_run(2): 1.0}
    found = merged(workspace, spec_of(lora_base, models, {"method": name}))
    run(workspace, spec_of(lora_base, models, {"method": name}, save="model", name="whole"))
    before, after = (load_file(folder / "model.safetensors") for folder in (lora_base, workspace.model("whole")))
    assert close(found, {tensor: after[tensor].double() - before[tensor].double() for tensor in after}, 5e-6)
    assert max(float(change.abs().max()) for change in found.values()) > 1e-3


# Methods that do more than add.


@pytest.mark.parametrize("method", [{"method": "ties", "density": 0.3}, {"method": "ties", "trim": "model"}])
def test_what_is_trimmed_is_the_change_of_the_merged_model_as_far_as_the_rank_goes(
    method: dict, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = {lora_run(1): 1.0, lora_run(2, r=2): 0.5}
    run(workspace, spec_of(lora_base, models, method, save="model", name="whole"))
    before, after = (load_file(folder / "model.safetensors") for folder in (lora_base, workspace.model("whole")))
    expected = {name: after[name].double() - before[name].double() for name in after if "q_proj" in name or "down_proj" in name}
    assert close(merged(workspace, spec_of(lora_base, models, method, rank=32)), expected, 1e-5)
    events = run(workspace, spec_of(lora_base, models, method, rank=6, name="small"))
    small, (table,) = changes(workspace.model("small")), [event for event in events if isinstance(event, Table)]
    assert table.columns[-3:] == ["agree", "rank", "lost"] and {row[0] for row in table.rows} == set(expected)
    for row in table.rows:
        gone = (expected[row[0]] - small[row[0]]).square().sum() / expected[row[0]].square().sum()
        best = torch.linalg.svdvals(expected[row[0]]).square()
        assert row[-2] == 6 and row[-1] == pytest.approx(float(gone), rel=1e-3)
        assert row[-1] <= 1.02 * float(best[6:].sum() / best.sum())


@pytest.mark.parametrize("method", [SUM, {"method": "ties", "density": 0.3}, {"method": "ties", "trim": "model"}])
def test_blocks_change_nothing_but_rounding(
    method: dict, lora_run: Callable, lora_base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {lora_run(1): 1.0, lora_run(2): 0.5}
    whole = merged(workspace, spec_of(lora_base, models, method, rank=4))
    monkeypatch.setattr(tensors, "BLOCK", 300)
    assert close(merged(workspace, spec_of(lora_base, models, method, rank=4, name="blocks")), whole, 3e-7)


# peft itself.


def of_peft(lora_base: Path, workspace: Workspace, weights: list[float], how: str, **more: object) -> Changes:
    """ΔW of peft's own combination of run 1 and run 2."""
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(lora_base), workspace.run("0001") / "adapter", adapter_name="one")
    peft.load_adapter(workspace.run("0002") / "adapter", adapter_name="two")
    peft.add_weighted_adapter(["one", "two"], weights, "out", combination_type=how, **more)
    layers = {name: module for name, module in peft.named_modules() if "out" in getattr(module, "lora_A", {})}
    return {f"{name.removeprefix('base_model.model.')}.weight": module.get_delta_weight("out").detach() for name, module in layers.items()}


@pytest.mark.parametrize(("how", "peft", "ours"), [
    ("cat", {}, {}), ("svd", {"svd_rank": 3}, {"rank": 3}), ("svd", {}, {"rank": 4}), ("linear", {}, {"of": "factors"}),
    ("magnitude_prune", {"density": 0.5}, {"of": "factors", "merge": PRUNE}),
    ("magnitude_prune_svd", {"density": 0.5, "svd_rank": 20}, {"rank": 20, "merge": PRUNE}),
])  # fmt: skip
@pytest.mark.parametrize("weights", [(0.7, 0.4), (1.0, -0.5)])
def test_pefts_combinations(
    how: str, peft: dict, ours: dict, weights: tuple[float, float], lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    one, two = lora_run(1), lora_run(2, lora_alpha=8, target_modules=["q_proj", "up_proj"] if how != "magnitude_prune_svd" else ["q_proj"])
    expected = of_peft(lora_base, workspace, list(weights), how, **peft)
    given = {"merge": SUM, **ours}
    found = merged(workspace, spec_of(lora_base, {one: weights[0], two: weights[1]}, given.pop("merge"), **given))
    assert set(found) == set(expected) and close(found, expected, 5e-6)


def test_ties_of_factors_is_pefts_where_the_weights_are_one(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, two = lora_run(1, lora_alpha=4), lora_run(2, lora_alpha=4)
    found = merged(workspace, spec_of(lora_base, {one: 1, two: 1}, {"method": "ties", "density": 0.5}, of="factors"))
    assert close(found, of_peft(lora_base, workspace, [1.0, 1.0], "ties", density=0.5), 5e-6)


# What comes out.


@torch.no_grad()
def test_the_folder_loads_with_plain_peft_and_speaks_like_the_merged_model(
    lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = {lora_run(1): 0.7, lora_run(2, r=3, target_modules=["q_proj", "up_proj"]): 0.4}
    events = run(workspace, spec_of(lora_base, models))
    run(workspace, spec_of(lora_base, models, save="model", name="whole"))
    folder, ids = workspace.model("out"), torch.arange(5, 25)[None]
    whole = AutoModelForCausalLM.from_pretrained(workspace.model("whole"))(ids).logits
    assert torch.allclose(PeftModel.from_pretrained(make_model(), folder)(ids).logits, whole, atol=1e-5)
    assert not torch.allclose(make_model()(ids).logits, whole, atol=1e-2)
    assert torch.allclose(load(resolve("model:out", workspace), torch.device("cpu"), torch.float32)(ids).logits, whole, atol=1e-5)
    assert "model:out" in [choice.reference for choice in available(workspace)]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) in [(4, 4, config["alpha_pattern"]), (3, 3, config["alpha_pattern"])]
    assert set(config["target_modules"]) == {name.removesuffix(".weight") for name in changes(folder)} and ranks(folder) == {3, 4, 7}
    assert read_spec(folder / "merge.yaml") == spec_of(lora_base, models) and (folder / "tokenizer.json").exists()
    assert "| run 0001 | 0.7 |" in (folder / "README.md").read_text() and not (folder / "config.json").exists()
    assert isinstance(events[0], Started) and isinstance(events[-2], Table) and events[-1] == Made("adapter", str(folder))
    assert events[-2].columns == ["tensor", "layer", "depth", "module", "scale", "norm", "relative", "rank", "lost"]
    assert {tuple(row[-2:]) for row in events[-2].rows} == {(3, 0.0), (4, 0.0), (7, 0.0)} and len(events[-2].rows) == 9
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done == sorted(done) and done[-1] == events[0].total == 9
    json.dumps([events[-2].rows, events[0].about])


def test_what_was_merged_can_be_merged_again_and_its_base_may_move(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, two = lora_run(1), lora_run(2)
    run(workspace, spec_of(lora_base, {one: 1, two: 1}, rank=5))
    again = merged(workspace, spec_of(lora_base, {"model:out": 0.5, one: 0.5}, name="again"))
    assert close(again, summed((0.5, changes(workspace.model("out"))), (0.5, of_run(workspace, one))))
    config = workspace.model("out") / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "/gone"}))
    assert resolve("model:out", workspace).path == str(lora_base), "the recipe beside it still says what it stands on"
    assert resolve(str(workspace.model("out")), workspace).adapter == workspace.model("out")


def test_factors_apart_have_a_row_each_and_a_scale_that_counts_twice(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1)
    events = run(workspace, spec_of(lora_base, {one: 1}, {"method": "task_arithmetic", "scale": 0.5}, of="factors"))
    assert close(changes(workspace.model("out")), summed((0.25, of_run(workspace, one))))
    (table,) = [event for event in events if isinstance(event, Table)]
    assert [row[0] for row in table.rows[:2]] == [f"model.layers.0.mlp.down_proj.lora_{side}.weight" for side in "AB"]
    assert len(table.rows) == 12 and table.rows[1][3] == "down_proj.B" and not [event for event in events if isinstance(event, Noted)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_number_format_can_be_chosen(dtype: str, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1)
    found = merged(workspace, spec_of(lora_base, {one: 1}, dtype=dtype))
    assert {tensor.dtype for tensor in load_file(workspace.model("out") / "adapter_model.safetensors").values()} == {getattr(torch, dtype)}
    assert close(found, of_run(workspace, one), 2e-2)
