"""What a module is for, by its name, in the families that people tune."""

import pytest
from pico import make_model

from workbench.core.errors import WorkbenchError
from workbench.materials.modules import kind_of, module_of, named_so, outside, writes


@pytest.mark.parametrize(
    "name, kind, ends",
    [
        ("model.layers.3.self_attn.q_proj.weight", "attention", False), ("model.layers.3.self_attn.o_proj.weight", "attention", True),
        ("model.layers.3.self_attn.q_norm.weight", "norm", False), ("model.layers.3.mlp.gate_proj.weight", "mlp", False),
        ("model.layers.3.mlp.down_proj.weight", "mlp", True), ("model.layers.3.input_layernorm.weight", "norm", False),
        ("transformer.h.0.attn.c_attn.bias", "attention", False), ("transformer.h.0.attn.c_proj.weight", "attention", True),
        ("transformer.h.0.mlp.c_fc.weight", "mlp", False), ("transformer.h.0.mlp.c_proj.weight", "mlp", True),
        ("transformer.h.0.ln_1.weight", "norm", False), ("gpt_neox.layers.1.attention.dense.weight", "attention", True),
        ("gpt_neox.layers.1.mlp.dense_4h_to_h.weight", "mlp", True), ("model.layers.0.self_attn.qkv_proj.weight", "attention", False),
        ("model.layers.0.mlp.router.weight", "other", False), ("model.layers.0.mixer.out_proj.weight", "other", True),
        ("transformer.h.0.mlp.fc_out.weight", "mlp", True),
        ("model.embed_tokens.weight", "outside the blocks", False), ("model.norm.weight", "outside the blocks", False),
        ("lm_head.weight", "outside the blocks", False), ("model.layers.0.mixer.A_log", "other", False),
        ("model.decoder.layers.0.fc1.weight", "mlp", False), ("model.decoder.layers.0.fc2.weight", "mlp", True),
        ("model.layers.0.block_sparse_moe.experts.3.w1.weight", "mlp", False),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "attention", False),
        ("model.layers.0.attention.wqkv.weight", "attention", False), ("transformer.h.0.mixer.Wqkv.weight", "attention", False),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str, ends: bool) -> None:
    assert (kind_of(name), writes(name)) == (kind, ends)


def test_modules_are_found_by_a_name_by_its_end_and_by_a_pattern() -> None:
    model = make_model()
    everywhere = {f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(3)}
    assert named_so(model, ["up_proj"]) == named_so(model, ["*.up_proj"]) == named_so(model, ["mlp.up_*"]) == everywhere
    assert named_so(model, ["model.layers.1.mlp.up_proj"]) == {"model.layers.1.mlp.up_proj.weight"}
    assert named_so(model, ["layers.1.mlp.*"]) == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("up", "gate", "down")}
    assert named_so(model, ["embed_tokens", "up_proj"]) == everywhere | {"model.embed_tokens.weight"}
    assert outside(model) == {"model.embed_tokens.weight", "model.norm.weight"}
    assert module_of("model.layers.1.mlp.up_proj.weight") == "model.layers.1.mlp.up_proj"


def test_a_name_that_no_module_has_is_answered_with_those_there_are() -> None:
    with pytest.raises(WorkbenchError, match=r"'fc9'.*down_proj.*up_proj"):
        named_so(make_model(), ["up_proj", "fc9"])
    with pytest.raises(WorkbenchError, match="'proj'"):  # an end is a whole word
        named_so(make_model(), ["proj"])
