"""Fisher LayerNorm (arXiv:2403.20284): the numbers of the norms with most Fisher information move, row by row, and no others."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.templates import Encoded
from workbench.methods.adapters.fisher_layer_norm import FisherLayerNorm
from workbench.methods.adapters.layer_norm import LayerNormTuning

ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 46, 11)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))


def gpt2() -> PreTrainedModel:
    """Norms with shifts."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


def chosen(model: PreTrainedModel, seen: Evidence = SEEN, **knobs: float) -> dict[str, Tensor]:
    return dict(drain(FisherLayerNorm(**knobs).study(model, seen)))


def in_the_blocks(name: str) -> bool:
    return ("norm" in name and ".layers." in name) or (".ln_" in name and ".h." in name)


def fisher(model: PreTrainedModel) -> dict[str, Tensor]:
    """The mean square of each row's own gradient, by autograd alone."""
    found = dict[str, Tensor]()
    for batch in SEEN.batches(size=1):
        model.zero_grad()
        surprise(model, batch).backward()
        for name, own in model.named_parameters():
            if in_the_blocks(name):
                found[name] = found.get(name, 0) + own.grad.double().square() / len(ROWS)
    return found


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_the_numbers_with_most_information_are_taken_over_all_norms_together(make: object) -> None:
    information, learnt = fisher(make()), chosen(make(), share=0.1)
    taken = torch.cat([information[name][places] for name, places in learnt.items()])
    left = torch.cat([own[~torch.isin(torch.arange(len(own)), learnt.get(name, torch.tensor([])))] for name, own in information.items()])
    assert len(taken) == int(0.1 * (len(taken) + len(left))) and taken.min() >= left.max()
    counts = {name: len(learnt.get(name, ())) for name in information}
    assert len(set(counts.values())) > 1, "not as many in each"


def test_the_same_rows_twice_choose_the_same() -> None:
    once, twice = chosen(make_model()), chosen(make_model(), Evidence({"": ROWS * 2}, 0, SEEN.device))
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)


def test_a_norm_that_nothing_is_read_through_has_no_information() -> None:
    model = make_model()
    with torch.no_grad():
        for name in ("q_proj", "k_proj", "v_proj"):
            model.model.layers[1].self_attn.get_submodule(name).weight.zero_()
    assert not any("layers.1.input_layernorm" in name for name in chosen(model, share=0.8))


def test_those_numbers_move_and_no_others_and_peft_opens_what_is_saved(tmp_path: Path) -> None:
    model, before = make_model(), dict(make_model().named_parameters())
    attachment = FisherLayerNorm().attach(model, 0, {"model.layers.1.input_layernorm.weight": torch.tensor([3, 17])})
    ((name, numbers),) = attachment.trained()
    nn.init.constant_(numbers, 2.5)
    attachment.after_step(1)
    moved = {key: (own != before[key]).nonzero().flatten().tolist() for key, own in model.named_parameters()}
    assert {key: places for key, places in moved.items() if places} == {name: [3, 17]} and model.get_parameter(name)[3].item() == 2.5
    attachment.save(tmp_path)
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        opened = PeftModel.from_pretrained(make_model(), tmp_path).merge_and_unload()
        assert torch.allclose(opened(ids).logits, model(ids).logits, atol=1e-6)


def test_all_of_them_are_those_of_layer_norm_tuning() -> None:
    model = make_model()
    every, whole = FisherLayerNorm(share=1.0), LayerNormTuning()
    attachment = every.attach(model, 0, drain(every.study(model, SEEN)))
    assert {name: numbers.numel() for name, numbers in attachment.trained()} == {
        name: numbers.numel() for name, numbers in whole.attach(make_model(), 0).trained()
    }
    assert every.cost(make_model()).trained == whole.cost(make_model()).trained


def test_the_least_share_is_one_number_and_a_model_without_norms_is_told_what_to_do() -> None:
    assert FisherLayerNorm(share=1e-9).cost(make_model()).trained == 1
    assert sum(len(places) for places in chosen(make_model(), share=1e-9).values()) == 1
    model = make_model()
    for layer in model.model.layers:
        layer.input_layernorm = layer.post_attention_layernorm = nn.Identity()
    with pytest.raises(WorkbenchError, match="Choose another adapter"):
        FisherLayerNorm().cost(model)
