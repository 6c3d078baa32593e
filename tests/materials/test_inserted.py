"""Modules beside a model: they rest and come back, their folder is opened by reference, and what does not fit or would merge is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pico import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.beside import BESIDE, foldable
from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.materials.attachment import resting
from workbench.materials.bottleneck import Bottleneck
from workbench.materials.family import open_member
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.lora import read_lora
from workbench.materials.models import available, load, resolve
from workbench.methods.adapters.lora import LoRA

IDS = torch.arange(5, 25).reshape(2, 10)
FIRST, LAST = "model.layers.0.mlp", "model.layers.2.mlp"
CPU = torch.device("cpu")


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(IDS).logits


def inserted(model: PreTrainedModel, units: int = 3, seed: int = 1) -> InsertedAttachment:
    """Beside two of three MLPs, every number random."""
    modules = {name: Bottleneck.at(model, name, units=units, scale=2.0, form="parallel") for name in (FIRST, LAST)}
    attachment, generator = InsertedAttachment(model, modules), torch.Generator().manual_seed(seed)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    return attachment


@pytest.fixture
def folder(workspace: Workspace, pico_folder: Path) -> Path:
    """A run that made such an adapter."""
    run = workspace.run("0001")
    (run / "spec.yaml").write_text(TrainSpec(model=str(pico_folder)).to_yaml())
    (run / "adapter").mkdir()
    inserted(load(resolve(str(pico_folder), workspace), CPU, torch.float32)).save(run / "adapter")
    return run / "adapter"


def told(folder: Path) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())


def rewrite(folder: Path, **changes: object) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({**told(folder), **changes}))


def test_the_model_alone_comes_back_to_the_bit_and_after_a_mishap_too() -> None:
    attachment = inserted(make_model())
    after = said(attachment.model)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make_model()))
    with pytest.raises(RuntimeError, match="on the way"), attachment.base():
        raise RuntimeError("on the way")
    assert torch.equal(said(attachment.model), after) and not torch.allclose(after, said(make_model()), atol=1e-2)


def test_modules_that_come_one_by_one_rest_and_wake_too() -> None:
    every = [SimpleNamespace(still=False) for _ in range(3)]
    with resting(module for module in every):
        assert all(module.still for module in every)
    assert not any(module.still for module in every)


def test_what_is_trained_is_found_among_the_models_parameters_by_block() -> None:
    names = {name for name, _ in inserted(make_model()).trained()}
    assert names == {f"{host}.beside.{own}" for host in (FIRST, LAST) for own in ("down", "down_bias", "up", "up_bias")}


def test_a_run_is_opened_by_its_reference_and_answers_to_the_bit(workspace: Workspace, folder: Path, pico_folder: Path) -> None:
    ref = resolve("run:0001", workspace)
    assert (ref.path, ref.adapter) == (str(pico_folder), folder) and "run:0001" in [choice.reference for choice in available(workspace)]
    opened = load(ref, CPU, torch.float32)
    assert not opened.training and torch.equal(said(opened), said(inserted(make_model()).model))
    assert told(folder)["base_model_name_or_path"] == str(pico_folder)
    assert torch.equal(said(load(resolve(str(folder), workspace), CPU, torch.float32)), said(opened)), "by its folder, too"


def test_in_half_precision_its_own_numbers_stay_as_they_were_saved(workspace: Workspace, folder: Path) -> None:
    opened = load(resolve("run:0001", workspace), CPU, torch.bfloat16)
    assert torch.equal(opened.get_parameter(f"{FIRST}.beside.down"), load_file(folder / "adapter_model.safetensors")[f"{FIRST}.down"])
    assert said(opened).dtype == torch.bfloat16


def test_another_adapter_learns_on_top_while_the_first_stands_still(workspace: Workspace, folder: Path) -> None:
    """Its matrices are no targets, and it is heard with the other one at rest."""
    opened = load(resolve("run:0001", workspace), CPU, torch.float32)
    before = said(opened)
    on_top = LoRA(rank=2).attach(opened, seed=0)
    assert torch.equal(said(on_top.model), before) and not any("beside" in name for name, _ in on_top.trained())
    assert len(on_top.trained()) == 2 * 3 * 7


def test_a_second_one_beside_the_same_modules_lets_the_first_speak(workspace: Workspace, folder: Path) -> None:
    opened = load(resolve("run:0001", workspace), CPU, torch.float32)
    before = said(opened)
    second = inserted(opened, units=2, seed=5)
    assert [len(opened.get_parameter(f"{FIRST}.{child}.down")) for child in ("beside", "beside1")] == [3, 2]
    assert len(second.trained()) == 8 and not torch.allclose(said(opened), before, atol=1e-2)
    with second.base():
        assert torch.equal(said(opened), before)


def test_a_merge_is_refused_with_the_reason(workspace: Workspace, folder: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"run 0001 .*cannot be merged.*[Ll]eave it out"):
        open_member(resolve("run:0001", workspace))
    with pytest.raises(WorkbenchError, match="train a LoRA"):
        read_lora(folder, "it")


def refused(workspace: Workspace) -> str:
    with pytest.raises(WorkbenchError) as caught:
        load(resolve("run:0001", workspace), CPU, torch.float32)
    return str(caught.value)


def test_a_folder_of_another_base_is_refused(workspace: Workspace, folder: Path, pico_folder: Path) -> None:
    make_model(num_hidden_layers=2).save_pretrained(pico_folder)
    assert LAST not in make_model(num_hidden_layers=2).state_dict() and "another base" in refused(workspace)
    make_model(hidden_size=64).save_pretrained(pico_folder)
    assert "another shape" in refused(workspace)


def test_a_folder_of_another_version_or_with_odd_settings_is_refused(workspace: Workspace, folder: Path) -> None:
    good = told(folder)[BESIDE]
    rewrite(folder, **{BESIDE: {**good, FIRST: {"kind": "os.system", "command": "true"}}})
    assert "'os.system'" in refused(workspace) and "another version" in refused(workspace)
    for odd in ({"command": "true"}, {"units": "many"}, {"units": -1}, {"form": "sideways"}, {"scale": "much"}):
        rewrite(folder, **{BESIDE: {**good, FIRST: {**good[FIRST], **odd}}})
        assert "does not fit" in refused(workspace), odd
    for odd in ([], {FIRST: 1}, None):
        rewrite(folder, **{BESIDE: odd})
        assert "does not fit" in refused(workspace), odd


def test_damaged_numbers_are_refused(workspace: Workspace, folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if name != f"{LAST}.up"}, file)
    assert f"{LAST}.up" in refused(workspace)
    save_file({**tensors, "more": torch.zeros(1)}, file)
    assert "more" in refused(workspace)
    file.write_bytes(b"\x00" * 100)
    assert "Resume that run" in refused(workspace)


def test_only_what_is_known_to_stay_beside_cannot_be_folded(workspace: Workspace, folder: Path) -> None:
    """Of a folder that cannot be read, opening it says why."""
    assert not foldable(folder)
    (folder / "adapter_config.json").write_text('{"r": 4}')
    assert foldable(folder)
    for damaged in (b"{", b"\xff"):
        (folder / "adapter_config.json").write_bytes(damaged)
        assert foldable(folder)
    (folder / "adapter_config.json").unlink()
    assert foldable(folder)
