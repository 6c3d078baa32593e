"""What cannot become one adapter is said in sentences, all at once, and a merge that ends early leaves nothing."""

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from merged import refused
from pico import make_model
from safetensors.torch import load_file, save_file

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge
from workbench.materials import tensors
from workbench.materials.models import available, resolve

SUM, TIES = {"method": "task_arithmetic"}, {"method": "ties"}


def spec_of(base: object, *models: str, method: dict = SUM, **more: object) -> MergeSpec:
    given = [{"model": model} for model in models]
    return MergeSpec.parse({"name": "out", "base": str(base), "models": given, "merge": method, "save": "adapter", **more})


def test_models_that_are_no_adapters_of_the_base_are_refused_together(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, other = lora_run(1), lora_run(2)
    make_model(seed=3).save_pretrained(lora_base.parent / "elsewhere")
    (workspace.run("0002") / "spec.yaml").write_text(f"model: {lora_base.parent / 'elsewhere'}")
    saving = lora_run(3, modules_to_save=["input_layernorm"])
    assert refused(workspace, spec_of(lora_base, one, str(lora_base), other, saving, method=TIES)) == [
        "models.1: base is a whole model, and only LoRA adapters become one adapter. Set save to model, or leave it out.",
        f"models.2: run 0002 stands on {lora_base.parent / 'elsewhere'}, and the base of this merge is {lora_base}. "
        "Merge only adapters of one base.",
        "models.3: run 0003 replaces whole tensors too (model.layers.0.input_layernorm.weight and 2 more; modules_to_save or biases), "
        "which no low-rank adapter can hold. Set save to model.",
        "rank: TIES does not only add the adapters' changes up, so what it makes of them has full rank and no adapter holds it exactly. "
        "Set rank to the directions that are to be kept; the largest of these adapters has 4.",
    ]


def test_the_base_is_a_plain_model(lora_run: Callable, workspace: Workspace) -> None:
    one, two = lora_run(1), lora_run(2)
    (mistake,) = refused(workspace, spec_of(one, two))
    assert mistake.startswith("base: run 0001 is an adapter itself, and an adapter is written for a plain model. Name the model that it")


def test_a_merge_of_whole_models_makes_no_adapter(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    (mistake,) = refused(workspace, spec_of(lora_base, lora_run(1), lora_run(2), method={"method": "partial_fusion"}))
    assert mistake.startswith("Partial fusion merges whole models and may change their widths, so no adapter on the base can hold")


def test_factors_apart_need_equal_ranks_and_a_method_that_sees_one_at_a_time(
    lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    one, two = lora_run(1), lora_run(2, r=3, target_modules=["q_proj"])
    assert refused(workspace, spec_of(lora_base, one, two, method={"method": "ties", "trim": "model"}, of="factors")) == [
        "TIES ranks the numbers of the whole model at once, and with of: factors it sees one A or B at a time. Let it rank those of each "
        "tensor, if it has a knob for that, or set of to changes.",
        "of: factors needs equal ranks, and 3 matrices have others, first model.layers.0.self_attn.q_proj.weight: 4 in run 0001, "
        "3 in run 0002. Set of to changes, which takes any ranks.",
    ]


def test_folders_of_one_name_are_told_apart(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    lora_run(1), lora_run(2, r=3)
    folders = [workspace.run(number) / "adapter" for number in ("0001", "0002")]
    for config in (folder / "adapter_config.json" for folder in folders):
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(lora_base)}))
    (mistake,) = refused(workspace, spec_of(lora_base, *map(str, folders), of="factors"))
    assert "and 6 matrices have others, first model.layers.0." in mistake and "4 in adapter, 3 in adapter" in mistake


@pytest.mark.parametrize("method", [{"method": "model_stock", "filter_wise": True}, {"method": "model_stock", "filter_wise": [
    {"filter": "q_proj", "value": True}, {"value": False},
]}])  # fmt: skip
def test_a_knob_that_makes_a_sum_something_else_needs_a_rank(
    method: dict, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    one, two = lora_run(1), lora_run(2)
    (mistake,) = refused(workspace, spec_of(lora_base, one, two, method=method))
    assert mistake.startswith("rank: Model Stock does not only add the adapters' changes up")
    list(merge(spec_of(lora_base, one, two, method=method, rank=5), workspace.run("0099"), workspace))
    assert resolve("model:out", workspace).adapter == workspace.model("out")


def test_adapters_that_change_nothing_are_refused(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1)
    save_file({}, workspace.run("0001") / "adapter" / "adapter_model.safetensors")
    assert "models: none of the adapters changes a matrix, so there is nothing to merge." in refused(workspace, spec_of(lora_base, one))


@pytest.mark.parametrize("of", ["changes", "factors"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(of: str, bad: float, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one, weights = lora_run(1), workspace.run("0001") / "adapter" / "adapter_model.safetensors"
    held = load_file(weights)
    held[next(iter(held))][1, 1] = bad
    save_file(held, weights)
    with pytest.raises(WorkbenchError, match="NaN or Inf"):
        list(merge(spec_of(lora_base, one, of=of, rank=2), workspace.run("0099"), workspace))
    assert list(workspace.model().iterdir()) == []


def test_numbers_too_large_for_the_format_are_refused(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    one = lora_run(1, lora_alpha=4e6)
    with pytest.raises(WorkbenchError, match=r"lora_B\.weight has numbers too large for F16: the largest is .* Use smaller weights"):
        list(merge(spec_of(lora_base, one, dtype="float16"), workspace.run("0099"), workspace))
    assert list(workspace.model().iterdir()) == []


@pytest.mark.parametrize("after", [1, 2, 9, None])
@pytest.mark.parametrize("more", [{}, {"of": "factors"}, {"rank": 3, "method": TIES}], ids=str)
def test_a_stopped_merge_leaves_nothing_and_can_be_started_again(
    after: int | None, more: dict, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    """After so many events, or when all but the last word is said; how many there are depends on the threads."""
    spec = spec_of(lora_base, lora_run(1), lora_run(2), **more)
    work: Iterator = merge(spec, workspace.run("0099"), workspace)
    for number, event in enumerate(work, 1):
        if number == after or isinstance(event, Table):
            break
    work.close()
    assert list(workspace.model().iterdir()) == []
    list(merge(spec, workspace.run("0099"), workspace))


def test_a_disk_that_fills_up_is_told_and_swept(
    lora_run: Callable, lora_base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensors.ModelWriter, "write", full)
    with pytest.raises(WorkbenchError, match="not enough room on the disk for 'out'"):
        list(merge(spec_of(lora_base, lora_run(1)), workspace.run("0099"), workspace))
    assert list(workspace.model().iterdir()) == []


# An adapter folder as a model.


def test_an_adapter_folder_that_cannot_be_opened_says_why(lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    list(merge(spec_of(lora_base, lora_run(1)), workspace.run("0099"), workspace))
    folder = workspace.model("out")
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    (folder / "merge.yaml").unlink()

    def stand_on(base: object) -> None:
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))

    for base, words in [
        (None, "does not say which model it stands on: base_model_name_or_path is missing in"),
        (str(folder), "stands on top of another adapter"),
        ("model:out", "stands on top of another adapter, model:out. Make a model of that one first .*fold model:out --name"),
        ("run:0001", "stands on top of another adapter"),
    ]:
        stand_on(base)
        with pytest.raises(WorkbenchError, match=rf"The model 'out' {words}"):
            resolve("model:out", workspace)
    stand_on(str(lora_base))
    assert resolve("model:out", workspace).path == str(lora_base)
    torch.save({}, folder / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(WorkbenchError, match=r"The model 'out' holds no model: config\.json is missing"):
        resolve("model:out", workspace)
    assert "model:out" not in [choice.reference for choice in available(workspace)]
