"""SCT (arXiv:2309.08513): which channels are salient, that they alone are mixed anew, and what a block then hands on."""

import json
from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.materials.templates import Encoded
from workbench.methods.adapters.sct import SCT

IDS = torch.arange(5, 25).reshape(2, 10)
ROWS = [Encoded(list(range(start, start + 3 + start % 5)), [False, *[True] * (2 + start % 5)], 0) for start in range(2, 60, 7)]
SECOND = "model.layers.1"


def salient(model: PreTrainedModel, rows: list[Encoded] = ROWS, **knobs: float) -> Learnt:
    return drain(SCT(**knobs).study(model, Evidence({"": rows}, 0, torch.device("cpu"))))


def moved(model: PreTrainedModel, **knobs: float) -> InsertedAttachment:
    """Every number of it is random."""
    adapter, generator = SCT(**{"share": 0.2, **knobs}), torch.Generator().manual_seed(1)
    attachment = adapter.attach(model, 0, salient(model, share=adapter.share))
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.3, generator=generator)
    return attachment


def heard(model: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """What a block reads, and what the next one is given."""
    found = list[Tensor]()
    block = model.get_submodule(name)
    hooks = [
        block.register_forward_pre_hook(lambda _, given: found.append(given[0])),
        block.register_forward_hook(lambda _, given, made: found.append(made)),
    ]
    with torch.no_grad():
        model(IDS)
    for hook in hooks:
        hook.remove()
    return found[0], found[1]


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=80, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


def test_salient_are_the_channels_with_the_largest_mean_norm_over_rows() -> None:
    model = make_model()
    norms = torch.zeros(32)
    for row in ROWS:
        with torch.no_grad():
            states = model(torch.tensor([row.ids]), output_hidden_states=True).hidden_states
        norms += states[2][0].norm(dim=0)
    assert salient(model)[SECOND].tolist() == norms.topk(4).indices.sort().values.tolist()
    assert [len(own) for own in salient(model, share=0.01).values()] == [1, 1, 1]


def test_a_row_has_one_say_however_many_rows_are_like_it_in_a_batch() -> None:
    """The mean of norms is not the norm of all tokens together: one loud row must not outvote many quiet ones."""
    model = make_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[50] = 0.0
        model.model.embed_tokens.weight[50, 7] = 8.0  # one token that shouts into channel 7
        model.model.embed_tokens.weight[10:20, 3] += 1.0  # many that say something into channel 3
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    rows = [Encoded([50], [True], 0), *[Encoded([10 + place % 10], [True], 0) for place in range(20)]]
    assert salient(model, rows, share=0.04)[SECOND].tolist() == [3]


def test_the_salient_channels_are_mixed_by_the_formula_and_all_others_pass() -> None:
    attachment = moved(make_model(), scale=0.5)
    own = attachment.modules[SECOND]
    read, handed = heard(attachment.model, SECOND)
    alone = make_model().model.layers[1]
    with torch.no_grad():
        plain = alone(read, position_embeddings=attachment.model.model.rotary_emb(read, torch.arange(10)[None]))
    chosen = own.channels
    others = [channel for channel in range(32) if channel not in chosen]
    assert len(chosen) == 6 and torch.allclose(handed[..., others], plain[..., others], atol=1e-6)
    wanted = plain[..., chosen] + 0.5 * (plain[..., chosen] @ own.mix.T + own.bias)
    assert torch.allclose(handed[..., chosen], wanted, atol=1e-5) and not torch.allclose(wanted, plain[..., chosen], atol=0.1)


def test_it_trains_k_squared_and_k_numbers_a_block() -> None:
    """In ViT-B, 12 blocks of 768 channels, the paper's 0.11 million."""
    attachment = moved(make_model(), share=0.125)
    assert {parameter.numel() for _, parameter in attachment.trained()} == {4 * 4, 4}
    assert SCT().cost(make_model()).trained == 3 * (16 + 4)
    vit = make_model(hidden_size=768, intermediate_size=16, num_hidden_layers=12, num_attention_heads=12, vocab_size=8)
    assert SCT().cost(vit).trained == 12 * (96 * 96 + 96) == 111_744


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_opened_again_it_answers_the_same(make: object, tmp_path: Path) -> None:
    attachment = moved(make())
    (tmp_path / "adapter").mkdir()
    attachment.save(tmp_path / "adapter")
    make().save_pretrained(tmp_path / "base")
    opened = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "adapter"), torch.device("cpu"), torch.float32)
    with torch.no_grad():
        assert torch.equal(opened(IDS).logits, attachment.model(IDS).logits)
        assert not torch.allclose(opened(IDS).logits, make()(IDS).logits, atol=1e-2)


@pytest.mark.parametrize("channels", [[3, 32], [3, -1], [3, 3]])
def test_a_folder_that_names_channels_which_are_not_there_is_refused(channels: list[int], tmp_path: Path) -> None:
    attachment = moved(make_model(), share=0.07)
    (tmp_path / "adapter").mkdir()
    attachment.save(tmp_path / "adapter")
    make_model().save_pretrained(tmp_path / "base")
    file = tmp_path / "adapter" / "adapter_config.json"
    told = json.loads(file.read_text())
    told["modules_beside"][SECOND]["channels"] = channels
    file.write_text(json.dumps(told))
    with pytest.raises(WorkbenchError, match="give it the base"):
        load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "adapter"), torch.device("cpu"), torch.float32)


def test_a_model_whose_blocks_nobody_knows_is_told_what_to_do() -> None:
    model = make_model()
    model.model.towers = model.model.layers
    del model.model.layers
    with pytest.raises(WorkbenchError, match="Choose another adapter"):
        SCT().cost(model)
