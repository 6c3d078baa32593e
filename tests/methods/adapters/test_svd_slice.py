"""The SVD slice (arXiv:2602.03493, 2404.02948, 2406.09044): which singular directions A and B start from, and at which strength."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pico import make_model
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.svd_slice import SVDSlice, strongest

UP = "model.layers.0.mlp.up_proj"  # 64 × 32: 32 directions
NOTHING = Evidence({}, 0, torch.device("cpu"))


def sliced(**knobs: object) -> LoraLayer:
    adapter, model = SVDSlice(**{"rank": 4, "alpha": 6.0, **knobs}), make_model()
    return adapter.attach(model, 0, drain(adapter.study(model, NOTHING))).model.get_submodule(UP)


@pytest.mark.parametrize(("position", "first"), [(0.5, 14), (0.25, 7), (1.0, 28)])
def test_the_start_is_a_slice_of_the_singular_values_whatever_the_scale(position: float, first: int) -> None:
    layer = sliced(position=position)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    u, sizes, vh = torch.linalg.svd(layer.base_layer.weight)
    chosen = slice(first, first + 4)
    assert torch.allclose(torch.linalg.svdvals(1.5 * b @ a)[:4], sizes[chosen], atol=1e-5)
    assert torch.allclose(1.5 * b @ a, (u[:, chosen] * sizes[chosen]) @ vh[chosen], atol=1e-5)
    assert torch.allclose(a @ a.T, torch.diag(sizes[chosen] / 1.5), atol=1e-5), "strength is shared evenly between A and B"
    assert torch.allclose(b.T @ b, torch.diag(sizes[chosen] / 1.5), atol=1e-5)


def test_position_0_starts_where_pefts_pissa_does() -> None:
    """With rank 16 of 32 the iteration is exact; a direction's sign is anybody's choice."""
    theirs = get_peft_model(make_model(), LoraConfig(r=16, lora_alpha=6, target_modules=["up_proj"], init_lora_weights="pissa"))
    layer, ours = theirs.get_base_model().get_submodule(UP), sliced(rank=16, position=0.0)
    for one, other in ((ours.lora_A, layer.lora_A), (ours.lora_B, layer.lora_B)):
        assert torch.allclose(one["default"].weight.abs(), other["default"].weight.abs(), atol=1e-5)
    products = [one.lora_B["default"].weight @ one.lora_A["default"].weight for one in (ours, layer)]
    assert torch.allclose(*products, atol=1e-5)


def test_the_strongest_directions_by_iteration_are_as_good_as_by_decomposition() -> None:
    weight = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))  # the hardest case: no direction stands out
    u, sizes, vh = strongest(weight, 4)
    for side in (u.T, vh):
        assert torch.allclose(side @ side.T, torch.eye(4), atol=1e-5)
    assert torch.allclose((u * sizes) @ vh, weight @ vh.T @ vh, atol=1e-4)
    assert sizes.square().sum() > 0.97 * torch.linalg.svdvals(weight)[:4].square().sum()
    state = torch.get_rng_state()
    assert torch.equal(strongest(weight, 4)[1], sizes) and torch.equal(torch.get_rng_state(), state)


def test_a_rank_that_a_matrix_has_no_directions_for_is_refused_before_anything_is_built() -> None:
    for asked in (lambda: drain(SVDSlice(rank=17).study(make_model(), NOTHING)), lambda: SVDSlice(rank=17).cost(make_model())):
        with pytest.raises(WorkbenchError, match=r"k_proj is a matrix of 16 × 32 .* rank of 17\. Set rank to 16"):
            asked()
    assert SVDSlice(rank=32, targets="mlp").cost(make_model()).trained


def test_a_quantised_matrix_is_refused() -> None:
    model = make_model()
    matrix = model.get_submodule(UP)
    matrix.weight = torch.nn.Parameter(matrix.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(WorkbenchError, match=r"up_proj is quantised.* such as LoRA"):
        drain(SVDSlice().study(model, NOTHING))


def test_it_tells_how_far_it_is_and_the_numbers_that_move_are_loras() -> None:
    told = list(SVDSlice(rank=4).study(make_model(), NOTHING))
    assert [(one.done, one.total, one.what) for one in told] == [(done, 21, "matrices decomposed") for done in range(21)]
    cost = SVDSlice(rank=4).cost(make_model())
    assert SVDSlice(rank=4).looks_at() == [] and replace(cost, studied=0) == LoRA(rank=4).cost(make_model()) and cost.studied > 0


def test_a_matrix_that_is_stored_the_other_way_round_is_sliced_as_it_maps(tmp_path: Path) -> None:
    """GPT-2's, which are (n, m)."""
    adapter, ids = SVDSlice(rank=4, alpha=6.0, position=1.0), torch.arange(5, 45).reshape(4, 10)
    model = transposed()
    with torch.no_grad():
        before = model(ids).logits
    attachment = adapter.attach(model, 0, drain(adapter.study(model, NOTHING)))
    layer = model.get_submodule("transformer.h.0.mlp.c_fc")
    weight, a, b = layer.base_layer.weight.T, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape == (4, 32) and b.shape == (128, 4)
    assert torch.allclose(torch.linalg.svdvals(weight - 1.5 * b @ a)[:28], torch.linalg.svdvals(weight)[:28], rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
        b *= 2
        attachment.save(tmp_path)
        assert torch.allclose(PeftModel.from_pretrained(transposed(), tmp_path).eval()(ids).logits, model.eval()(ids).logits, atol=1e-5)


def transposed() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 200, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(**shape)).eval()
