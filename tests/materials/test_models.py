"""Models by reference: what each reference means, and what is refused in words."""

import json
from pathlib import Path

import pytest
import torch
from pico import make_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.materials.models import available, layer_of, load, resolve, skeleton, tokenizer
from workbench.methods.adapters.lora import LoRA


def tuned_run(workspace: Workspace, base: Path, run_id: str = "0001") -> Path:
    """A run that made an adapter on top of the pico model."""
    folder = workspace.run(run_id)
    (folder / "spec.yaml").write_text(TrainSpec(model=str(base), name="first").to_yaml())
    attachment = LoRA(rank=2).attach(make_model(), seed=0)
    with torch.no_grad():
        for name, parameter in attachment.trained():
            if "lora_B" in name:
                parameter.normal_()
    (folder / "adapter").mkdir()
    attachment.save(folder / "adapter")
    return folder


def test_a_run_is_its_base_with_its_adapter_on_top(workspace: Workspace, pico_folder: Path) -> None:
    folder = tuned_run(workspace, pico_folder)
    ref = resolve("run:0001", workspace)
    assert (ref.path, ref.adapter, ref.label) == (str(pico_folder), folder / "adapter", "run 0001 · first")
    ids = torch.tensor([[5, 6, 7]])
    model, base = (load(resolve(name, workspace), torch.device("cpu"), torch.float32) for name in ("run:0001", str(pico_folder)))
    assert not torch.allclose(model(input_ids=ids).logits, base(input_ids=ids).logits)
    assert [choice.reference for choice in available(workspace)] == ["pocket", "run:0001"]


def test_a_merged_model_has_its_name(workspace: Workspace, pico_model: torch.nn.Module) -> None:
    pico_model.save_pretrained(workspace.model("both"))
    assert resolve("model:both", workspace).path == str(workspace.model("both"))
    assert available(workspace)[-1].reference == "model:both"


def test_a_model_without_a_padding_token_pads_with_its_end(pico_folder: Path, workspace: Workspace) -> None:
    path = pico_folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    found = tokenizer(resolve(str(pico_folder), workspace))
    assert found.pad_token_id == found.eos_token_id == 1


def test_looking_at_a_shape_changes_no_other_threads_numbers(pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers makes the dtype in which it builds a model that of all threads, also of one that trains meanwhile."""
    config = json.loads((pico_folder / "config.json").read_text())
    (pico_folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    seen, begin = set(), torch.nn.Linear.__init__

    def watched(*given: object, **more: object) -> None:
        seen.add(torch.get_default_dtype())
        begin(*given, **more)

    monkeypatch.setattr(torch.nn.Linear, "__init__", watched)
    model = skeleton(str(pico_folder))
    assert seen == {torch.float32} and model.dtype == model.config.dtype == torch.bfloat16


def test_a_skeleton_has_the_shape_and_no_numbers(pico_folder: Path) -> None:
    model = skeleton(str(pico_folder))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert [p.shape for p in model.parameters()] == [p.shape for p in make_model().parameters()]


@pytest.mark.parametrize(
    "name, layer",
    [
        ("model.layers.3.mlp.up_proj.weight", 3),
        ("transformer.h.11.attn.c_attn.weight", 11),
        ("model.layers.5.mlp.experts.3.up_proj.weight", 5),
        ("model.embed_tokens.weight", None),
        ("lm_head.weight", None),
        ("model.norm.weight", None),
    ],
)
def test_the_layer_of_a_tensor(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


def test_what_cannot_be_loaded_is_a_sentence(tmp_path: Path, workspace: Workspace, pico_folder: Path) -> None:
    empty, bare, pickled = tmp_path / "empty", tmp_path / "bare", tmp_path / "pickled"
    for folder in (empty, bare, pickled):
        folder.mkdir()
    for folder in (bare, pickled):
        (folder / "config.json").write_text((pico_folder / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    workspace.run("0007")
    cases = {
        str(empty): "config.json is missing",
        str(bare): "no weights",
        str(pickled): "pytorch_model.bin, which can run code",
        str(tmp_path / "gone"): "is not a folder",
        "run:0042": "There is no run 0042",
        "run:0007": "has made no adapter or model yet",
        "run:../../etc": "cannot be a name",
        "model:nothing": "is not a folder",
        "what is this?": "names no model",
    }
    for reference, sentence in cases.items():
        with pytest.raises(WorkbenchError, match=sentence.replace(".", r"\.")):
            resolve(reference, workspace)


def test_damaged_weights_are_a_sentence(workspace: Workspace, pico_folder: Path) -> None:
    (pico_folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(WorkbenchError, match="cannot be loaded"):
        load(resolve(str(pico_folder), workspace), torch.device("cpu"), torch.float32)


def test_a_run_on_top_of_an_adapter_says_what_to_do(workspace: Workspace, pico_folder: Path) -> None:
    tuned_run(workspace, pico_folder)
    second = tuned_run(workspace, pico_folder, "0002")
    (second / "spec.yaml").write_text(TrainSpec(model="run:0001").to_yaml())
    with pytest.raises(WorkbenchError, match=r"Save as a model.*python -m workbench fold run:0001"):
        resolve("run:0002", workspace)


def test_attention_is_torchs_own_where_the_family_allows_it(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    shape = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    Gemma2ForCausalLM(Gemma2Config(**shape, num_key_value_heads=2)).save_pretrained(tmp_path / "gemma")
    llama, gemma = (load(resolve(str(place), workspace), torch.device("cpu"), torch.float32) for place in (pico_folder, tmp_path / "gemma"))
    assert llama.config._attn_implementation == "sdpa"
    assert gemma(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all(), "it refuses torch's, for its soft cap"
