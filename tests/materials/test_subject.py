"""What lies on the table: tensors of all models side by side, whatever the adapter, and two models in memory at most."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pico import make_model
from subjects import moved, subject, unchanged
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials import subject as module
from workbench.materials.folded import FoldedMember, any_member
from workbench.materials.models import ModelRef, load
from workbench.materials.subject import Subject


def test_weights_come_whole_by_name_with_layer_and_part(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.1), unchanged])
    weights = {weight.name: weight for weight in laid.weights()}
    assert list(weights) == laid.names and len(weights) == len(dict(make_model().named_parameters()))
    query = weights["model.layers.2.self_attn.q_proj.weight"]
    assert (query.layer, query.part) == (2, "q_proj") and weights["model.norm.weight"].layer is None
    assert torch.equal(query.base, make_model().model.layers[2].self_attn.q_proj.weight)
    assert torch.equal(query.tuned[1], query.base) and not torch.equal(query.tuned[0], query.base)
    matrices = list(laid.weights(matrices=True))
    assert matrices and all(weight.layer is not None and weight.base.dim() == 2 for weight in matrices)


def test_the_base_stays_and_one_tuned_model_at_a_time(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.1), unchanged])
    first = laid.tuned(0)
    assert laid.tuned(0) is first and laid.base is laid.base
    assert laid.tuned(1) is not first and laid.tuned(0) is not first, "it was let go"
    assert not any(parameter.requires_grad for parameter in [*laid.base.parameters(), *laid.tuned(0).parameters()])


def test_all_is_in_float32_and_the_old_model_is_let_go_before_the_new_one_comes(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.1), unchanged])
    assert laid.base.dtype == laid.tuned(0).dtype == torch.float32
    held = list[object]()
    monkeypatch.setattr(module, "load", lambda *given: held.append(laid._last) or load(*given))
    laid.tuned(1)
    assert held == [None] and Subject(laid.refs[0], laid.refs[1:], {}, {}, seed=5).seed == 5


def test_models_of_one_label_are_told_apart(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged, unchanged])
    base, *tuned = [replace(ref, label="same") for ref in laid.refs]
    assert len(set(Subject(base, tuned, {}, {}).labels)) == 2


def test_a_model_of_another_shape_is_a_sentence(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [unchanged])
    make_model(num_hidden_layers=2, vocab_size=500).save_pretrained(tmp_path / "other")
    pico_tokenizer.save_pretrained(tmp_path / "other")
    other = Subject(laid.refs[0], [ModelRef("other", "other", str(tmp_path / "other"))], {}, {})
    with pytest.raises(WorkbenchError, match="cannot be held against each other"):
        list(other.weights())
    with pytest.raises(WorkbenchError, match="cannot be held against each other"):
        list(Subject(laid.refs[0], [laid.refs[1], *other.refs[1:]], {}, {}).weights())
    with pytest.raises(WorkbenchError, match=r"vocabulary of 500 tokens and the base one of 400.*Inspect models of one base"):
        other.tuned(0)


@pytest.mark.parametrize("knobs", [{}, {"use_dora": True}, {"init_lora_weights": False, "target_modules": ["lm_head", "q_proj"]}])
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_the_tensors_of_an_adapter_are_those_of_the_model_it_makes(tmp_path: Path, knobs: dict[str, object]) -> None:
    """Of a LoRA, which is read block by block, and of one that has to be folded in; a head that is moved parts from the embeddings."""
    base = make_model(tie_word_embeddings=False) if "lm_head" in str(knobs) else make_model()
    base.save_pretrained(tmp_path / "base")
    tuned = get_peft_model(base, LoraConfig(**{"r": 4, "target_modules": ["q_proj", "down_proj"], **knobs}))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    ref = ModelRef("adapter", "adapter", str(tmp_path / "base"), tmp_path / "adapter")
    wanted = dict(load(ref, torch.device("cpu"), torch.float32).named_parameters())
    member = any_member(ref)
    assert set(member.merged_names()) == set(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(member.rows(name, 0, tensor.shape[0]), tensor.data, atol=1e-6, rtol=1e-6)
        assert member.shape(name) == tuple(tensor.shape)
    part: Callable[..., torch.Tensor] = member.rows
    assert torch.equal(part("model.layers.0.mlp.down_proj.weight", 1, 3), part("model.layers.0.mlp.down_proj.weight", 0, 32)[1:3])


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_a_head_that_was_the_embeddings_and_is_moved_becomes_a_tensor_of_its_own(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "base")
    tuned = get_peft_model(make_model(), LoraConfig(r=4, target_modules=["lm_head"], use_dora=True))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    member = any_member(ModelRef("adapter", "adapter", str(tmp_path / "base"), tmp_path / "adapter"))
    assert "lm_head.weight" in member.merged_names() and not torch.equal(
        member.rows("lm_head.weight", 0, 400), member.rows("model.embed_tokens.weight", 0, 400)
    )
    assert torch.equal(member.rows("model.embed_tokens.weight", 0, 400), make_model().model.embed_tokens.weight)


def test_what_was_folded_in_counts_and_all_else_is_the_bases(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "base")
    base = any_member(ModelRef("base", "base", str(tmp_path / "base")))
    grown = torch.arange(500.0 * 32).view(500, 32)
    member = FoldedMember("it", base.config, base.entries, tensors={"model.embed_tokens.weight": grown})
    assert member.shape("model.embed_tokens.weight") == (500, 32) and member.shape("model.norm.weight") == (32,)
    assert torch.equal(member.rows("model.embed_tokens.weight", 450, 452), grown[450:452])
    assert torch.equal(member.rows("model.layers.0.mlp.up_proj.weight", 2, 5), make_model().model.layers[0].mlp.up_proj.weight[2:5])


def test_an_adapter_that_stays_beside_its_model_changes_no_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "x", "modules_beside": {}}')
    with pytest.raises(WorkbenchError, match="beside"):
        any_member(ModelRef("run:0001", "run 0001", str(tmp_path), tmp_path / "adapter"))
