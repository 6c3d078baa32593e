"""An adapter of any kind and its base as one model: what it answers, how it is written, what others do with it, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from merged import read, run, spec_of
from peft import LoraConfig, get_peft_model
from pico import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MixtralConfig, MixtralForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.fold import fold, foldable
from workbench.jobs.train import train
from workbench.materials import tensors
from workbench.materials.attachment import Attachment
from workbench.materials.models import available, load, resolve, tokenizer
from workbench.methods.adapters.dora import DoRA
from workbench.methods.adapters.ia3 import IA3
from workbench.methods.adapters.layer_norm import LayerNormTuning
from workbench.methods.adapters.lift import LIFT
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.oft import OFT
from workbench.methods.adapters.parallel_adapter import ParallelAdapter
from workbench.methods.contracts import Adapter

CPU = torch.device("cpu")


def made(workspace: Workspace, base: Path, adapter: Adapter, number: int = 1) -> Attachment:
    """A run that made the adapter, moved at random, on the base; the model as the run leaves it."""
    folder = workspace.run(f"{number:04}")
    attachment = adapter.attach(make_model(), seed=0)
    torch.manual_seed(number)
    with torch.no_grad():
        for _, parameter in attachment.trained():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    (folder / "adapter").mkdir()
    attachment.save(folder / "adapter")
    (folder / "spec.yaml").write_text(TrainSpec(model=str(base), name="first").to_yaml())
    return attachment


def said(workspace: Workspace, reference: str, batch: dict[str, Tensor]) -> Tensor:
    return load(resolve(reference, workspace), CPU, torch.float32)(**batch).logits


@pytest.mark.parametrize("adapter", [LoRA(rank=2), DoRA(rank=2), LIFT(budget=2), IA3(), OFT(block=4), LayerNormTuning()], ids=type)
def test_it_answers_as_the_run_with_its_adapter(adapter: Adapter, workspace: Workspace, pico_folder: Path, pico_batch: dict) -> None:
    attachment = made(workspace, pico_folder, adapter)
    assert drain(fold("run:0001", "whole", workspace)) == workspace.model("whole")
    expected = attachment.model.eval()(**pico_batch).logits
    assert not torch.allclose(expected, make_model()(**pico_batch).logits, atol=1e-3)
    assert torch.allclose(said(workspace, "model:whole", pico_batch), expected, rtol=0, atol=1e-5)


def test_it_is_an_ordinary_model_that_says_where_it_is_from(workspace: Workspace, pico_folder: Path) -> None:
    made(workspace, pico_folder, LoRA(rank=2))
    folder = drain(fold("run:0001", "whole", workspace))
    assert available(workspace)[-1].reference == "model:whole" and [path.name for path in workspace.model().iterdir()] == ["whole"]
    assert tokenizer(resolve("model:whole", workspace)).get_vocab() == tokenizer(resolve(str(pico_folder), workspace)).get_vocab()
    assert (folder / "config.json").read_text() == (pico_folder / "config.json").read_text()
    assert read(folder).keys() == read(pico_folder).keys(), "a head that is the embeddings is not written twice"
    shutil.rmtree(workspace.run("0001"))
    assert yaml.safe_load((folder / "fold.yaml").read_text()) == {"name": "whole", "adapter": "run:0001", "base": str(pico_folder)}
    assert TrainSpec.parse(yaml.safe_load((folder / "adapter.yaml").read_text())).name == "first"
    assert "run 0001 · first" in (folder / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_a_head_that_an_adapter_moves_is_written_beside_the_embeddings(workspace: Workspace, lora_run: Callable) -> None:
    folder = drain(fold(lora_run(1, target_modules=["lm_head"]), "whole", workspace))
    written = read(folder)
    assert torch.equal(written["model.embed_tokens.weight"], make_model().lm_head.weight)
    assert not torch.equal(written["lm_head.weight"], written["model.embed_tokens.weight"])
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


def test_each_tensor_is_rounded_once_to_the_format_of_the_base(workspace: Workspace, lora_run: Callable, lora_base: Path) -> None:
    reference = lora_run(1)
    file = lora_base / "model.safetensors"
    base = {name: tensor if "norm" in name else tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file({**base, "rope.rotary_emb.inv_freq": torch.ones(4)}, file, metadata={"format": "pt"})
    written = read(drain(fold(reference, "whole", workspace)))
    factors = load_file(workspace.run("0001") / "adapter" / "adapter_model.safetensors")
    moved = {name for name in base if f"base_model.model.{name.removesuffix('weight')}lora_A.weight" in factors}
    assert len(moved) == 6 and written.keys() == {*base, "rope.rotary_emb.inv_freq"}
    for name in base.keys() - moved:
        assert written[name].dtype == base[name].dtype and torch.equal(written[name], base[name])
    for name in moved:
        left, right = (factors[f"base_model.model.{name.removesuffix('weight')}lora_{side}.weight"] for side in "BA")
        exact = base[name].float() + 1.5 * left @ right
        assert written[name].dtype == torch.bfloat16
        assert (written[name].float() - exact).abs().max() <= exact.abs().max() * 2**-8


def test_what_transformers_holds_under_other_names_is_written_under_those_of_the_files(workspace: Workspace, tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=40, num_local_experts=2, pad_token_id=0, **shape)).eval()
    model.save_pretrained(tmp_path / "base")
    wrapper = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    wrapper.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    wrapper.save_pretrained(tmp_path / "adapter")
    folder = drain(fold(str(tmp_path / "adapter"), "whole", workspace))
    assert read(folder).keys() == read(tmp_path / "base").keys()
    ids = {"input_ids": torch.arange(5)[None]}
    assert torch.allclose(said(workspace, "model:whole", ids), wrapper.eval()(**ids).logits, rtol=0, atol=1e-5)


def test_a_table_that_is_computed_comes_along_as_it_is(
    workspace: Workspace, lora_run: Callable, lora_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, file = lora_run(1), lora_base / "model.safetensors"
    save_file({**load_file(file), "places": torch.arange(3)}, file, metadata={"format": "pt"})
    monkeypatch.setattr("workbench.materials.folded.revert_weight_conversion", lambda _, held: {**held, "places": torch.arange(3)})
    assert torch.equal(read(drain(fold(reference, "whole", workspace)))["places"], torch.arange(3))


# What others do with it.


def test_it_can_be_trained_on(workspace: Workspace, spec: TrainSpec, pico_folder: Path, pico_batch: dict) -> None:
    made(workspace, pico_folder, IA3())
    drain(fold("run:0001", "whole", workspace))
    list(train(TrainSpec.parse({**spec.model_dump(), "model": "model:whole", "steps": 1}), workspace.run("0002"), workspace))
    (workspace.run("0002") / "spec.yaml").write_text(TrainSpec(model="model:whole").to_yaml())
    assert said(workspace, "run:0002", pico_batch).isfinite().all()


def test_it_can_be_merged_where_its_adapter_could_not(workspace: Workspace, pico_folder: Path, pico_batch: dict) -> None:
    made(workspace, pico_folder, IA3())
    expected = {name: tensor.clone() for name, tensor in read(drain(fold("run:0001", "whole", workspace))).items()}
    merged = run(workspace, spec_of(str(pico_folder), "model:whole", name="merged"))
    assert all(torch.allclose(merged[name], expected[name], atol=1e-6) for name in expected)


# What is refused, and what is left then.


def left(workspace: Workspace) -> list[str]:
    return [path.name for path in workspace.model().iterdir()]


def test_a_name_that_is_taken_and_one_that_is_none(workspace: Workspace, lora_run: Callable) -> None:
    reference = lora_run(1)
    (workspace.model("whole")).mkdir()
    with pytest.raises(WorkbenchError, match=r"There is a model called 'whole' already\. Choose another name"):
        next(fold(reference, "whole", workspace))
    for name in ("", "../x", "a b"):
        with pytest.raises(WorkbenchError, match="cannot be a name here"):
            next(fold(reference, name, workspace))
    work = fold(reference, "late", workspace)
    next(work)
    workspace.model("late").mkdir()
    with pytest.raises(WorkbenchError, match="'late' by now"):
        drain(work)
    assert sorted(left(workspace)) == ["late", "whole"] and not list(workspace.model("late").iterdir())


def test_a_model_is_a_model_already(workspace: Workspace, pico_folder: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"is a model already.*Merge, Compare and Train take it"):
        next(fold(str(pico_folder), "whole", workspace))


def test_what_stays_beside_a_model_is_not_folded(workspace: Workspace, pico_folder: Path) -> None:
    made(workspace, pico_folder, ParallelAdapter())
    with pytest.raises(WorkbenchError, match="cannot be merged or made a model of"):
        next(fold("run:0001", "whole", workspace))
    assert not foldable(workspace.run("0001") / "adapter")
    (workspace.run("0001") / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(WorkbenchError, match="cannot be put on its base"):
        drain(fold("run:0001", "whole", workspace))
    assert left(workspace) == []


@pytest.mark.parametrize("steps", range(1, 6))
def test_nothing_is_left_of_what_was_stopped(steps: int, workspace: Workspace, lora_run: Callable) -> None:
    work = fold(lora_run(1), "whole", workspace)
    for _ in range(steps):
        next(work)
    assert left(workspace) == (["whole.partial"] if steps > 1 else [])
    work.close()
    assert left(workspace) == []


def test_nothing_is_left_when_the_disk_is_full(workspace: Workspace, lora_run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(workspace.model())
    monkeypatch.setattr(tensors.shutil, "disk_usage", lambda _: free._replace(free=10))
    with pytest.raises(WorkbenchError, match="not enough room on the disk"):
        drain(fold(lora_run(1), "whole", workspace))
    assert left(workspace) == []


@pytest.mark.parametrize("spoilt", [float("nan"), 1e30])
def test_numbers_that_a_format_cannot_hold_are_a_sentence(spoilt: float, workspace: Workspace, lora_run: Callable, lora_base: Path) -> None:
    reference = lora_run(1)
    make_model().half().save_pretrained(lora_base)
    file = workspace.run("0001") / "adapter" / "adapter_model.safetensors"
    held = load_file(file)
    held["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"][0, 0] = spoilt
    save_file(held, file, metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=r"too large for F16 in model\.layers\.1\.mlp\.down_proj\.weight"):
        drain(fold(reference, "whole", workspace))
    assert left(workspace) == []


def test_a_base_whose_files_have_other_names_is_a_sentence(
    workspace: Workspace, lora_run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = lora_run(1)
    monkeypatch.setattr("workbench.materials.folded.revert_weight_conversion", lambda _, held: {f"odd.{name}": held[name] for name in held})
    with pytest.raises(WorkbenchError, match=r"does not hold odd\..* \(save_pretrained\)"):
        drain(fold(reference, "whole", workspace))
    assert left(workspace) == []
