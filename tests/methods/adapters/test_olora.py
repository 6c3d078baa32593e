"""OLoRA (arXiv:2406.01775): the start is the first part of a QR decomposition, as peft's is, and W stays."""

import torch
from peft import LoraConfig, get_peft_model
from pico import make_model

from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence
from workbench.materials.started import StartedAttachment
from workbench.methods.adapters.olora import OLoRA


def attached(**knobs: float) -> StartedAttachment:
    adapter, model = OLoRA(rank=4, **knobs), make_model()
    return adapter.attach(model, 0, drain(adapter.study(model, Evidence({}, 0, torch.device("cpu")))))


def test_what_writes_is_orthonormal_and_the_start_is_the_first_columns_of_w() -> None:
    attachment = attached(alpha=4.0)
    for _, layer in low_rank.layers(attachment.model):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert torch.allclose(b.T @ b, torch.eye(4), atol=1e-5)
        assert torch.allclose((b @ a)[:, :4], layer.base_layer.weight[:, :4], atol=1e-5)


def test_it_starts_where_pefts_does() -> None:
    theirs = get_peft_model(make_model(), LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights="olora"))
    own = dict(low_rank.layers(attached(alpha=6.0).model))
    for name, layer in low_rank.layers(theirs.get_base_model()):
        for one, other in ((own[name].lora_A, layer.lora_A), (own[name].lora_B, layer.lora_B)):
            assert torch.allclose(one["default"].weight, other["default"].weight, atol=1e-5)
