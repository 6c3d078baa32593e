"""LoRA's own numbers: W' = W + (α/r) B A, r(m + n) parameters a matrix, rank at most r."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model

from workbench.core.errors import WorkbenchError
from workbench.materials import low_rank
from workbench.methods.adapters.lora import LoRA


def test_it_counts_r_times_rows_plus_columns() -> None:
    model = make_model()
    per_layer = (32 + 32) + 2 * (16 + 32) + (32 + 32) + 2 * (64 + 32) + (32 + 64)  # q, k and v, o, gate and up, down
    assert LoRA(rank=4).cost(model).trained == 3 * 4 * per_layer
    assert LoRA(rank=4, targets="mlp").cost(model).trained == 3 * 4 * 3 * (64 + 32)


def test_the_change_is_alpha_over_rank_times_b_a_and_has_rank_r() -> None:
    attachment = LoRA(rank=2, alpha=6, dropout=0, targets="attention").attach(make_model(), seed=0)
    layer = attachment.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b)
    x = torch.randn(5, 32)
    with torch.no_grad():
        expected = x @ (layer.base_layer.weight + 6 / 2 * b @ a).T
        assert torch.allclose(layer(x), expected, atol=1e-5)
        assert torch.linalg.matrix_rank(layer.get_delta_weight("default")) == 2


def test_targets_choose_the_matrices() -> None:
    attachment = LoRA(targets="attention").attach(make_model(), seed=0)
    modules = {name.split(".")[-4] for name, _ in attachment.trained()}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_a_seed_fixes_its_start_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, other = (LoRA().attach(make_model(), seed=seed).state() for seed in (0, 0, 1))
    torch.manual_seed(7)
    LoRA().attach(make_model_without_seeding(), seed=3)
    assert torch.equal(torch.rand(1), expected)
    name = next(name for name in one if "lora_A" in name)
    assert torch.equal(one[name], two[name]) and not torch.equal(one[name], other[name])


def make_model_without_seeding() -> torch.nn.Module:
    with torch.random.fork_rng():
        return make_model()


def test_a_model_without_such_matrices_says_what_to_choose() -> None:
    model = make_model()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(WorkbenchError, match="There are no all linear matrices"):
        LoRA().attach(model, seed=0)


def test_matrices_can_be_named_one_by_one_and_peft_opens_what_is_saved(tmp_path: Path) -> None:
    assert LoRA(modules="  ", targets="attention").where == "attention"
    adapter = LoRA(modules="layers.0.mlp.*, q_proj", targets="attention")
    attachment = adapter.attach(make_model(), seed=0)
    adapted = {name.split(".lora_")[0] for name, _ in attachment.trained()}
    gate, up, down = (f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down"))
    assert adapted == {gate, up, down, *(f"model.layers.{layer}.self_attn.q_proj" for layer in range(3))}
    assert adapter.cost(make_model()).trained == sum(parameter.numel() for _, parameter in attachment.trained())
    attachment.save(tmp_path)
    opened = PeftModel.from_pretrained(make_model(), tmp_path)
    assert {name for name, _ in low_rank.layers(opened.get_base_model())} == adapted


@pytest.mark.parametrize("modules, says", [("fc9", "'fc9'.*up_proj"), ("embed_tokens, norm", "inside the blocks")])
def test_names_that_are_no_matrices_are_refused(modules: str, says: str) -> None:
    with pytest.raises(WorkbenchError, match=says):
        LoRA(modules=modules).cost(make_model())
