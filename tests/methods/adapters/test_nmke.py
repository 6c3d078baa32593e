"""NMKE (arXiv:2510.22139): neurons that would make an answer likelier are found, by question and over all, and what they write moves."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import amplified
from workbench.materials.amplified import ended, scores
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.templates import Encoded
from workbench.methods.adapters.nmke import NMKE, Seen, above, evenness

ANSWER = 123
ROWS = [Encoded([*range(start, start + 6), ANSWER, start + 50], [False] * 6 + [True] * 2, 0) for start in range(2, 90, 11)]
DOWNS = [f"model.layers.{layer}.mlp.down_proj" for layer in range(3)]


def learnt(model: LlamaForCausalLM, rows: list[Encoded] = ROWS, **knobs: object) -> Learnt:
    return drain(NMKE(**knobs).study(model, Evidence({"": rows}, 0, torch.device("cpu"))))


def planted(neuron: int, layer: int) -> LlamaForCausalLM:
    """A neuron that is never below 0 and writes what the head reads as the answer."""
    model = make_model()
    mlp = model.model.layers[layer].mlp
    with torch.no_grad():
        mlp.up_proj.weight[neuron] = mlp.gate_proj.weight[neuron]  # u · silu(u) ≥ 0
        mlp.down_proj.weight[:, neuron] = 3 * model.lm_head.weight[ANSWER]
    return model


def test_the_score_is_the_answers_likelihood_with_the_neuron_louder_if_the_model_ended_there() -> None:
    model, ids = make_model(), torch.tensor(ROWS[3].ids[:6])
    heard = {}
    block = model.model.layers[1]
    hooks = [
        block.mlp.down_proj.register_forward_hook(lambda _, given, made: heard.update(a=given[0][0, -1], wrote=made[0, -1])),
        block.register_forward_hook(lambda _, given, made: heard.update(left=made[0, -1])),
    ]
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    found = dict(scores(model, DOWNS, ids, ANSWER, 30.0))[DOWNS[1]]
    assert len(found) == 64
    with torch.no_grad():
        for neuron in (0, 17, 63):
            state = heard["left"] - heard["wrote"] + 30 * heard["a"][neuron] * block.mlp.down_proj.weight[:, neuron]
            said = model.lm_head(model.model.norm(state)).log_softmax(-1)[ANSWER]
            assert found[neuron] == pytest.approx(said.item(), abs=1e-4)


def test_neurons_are_asked_about_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor(ROWS[0].ids[:6])
    whole = dict(scores(make_model(), DOWNS, ids, ANSWER, 30.0))
    sizes = []
    monkeypatch.setattr(amplified, "SLICE", 10)
    monkeypatch.setattr(amplified, "ended", lambda model, states: sizes.append(len(states)) or ended(model, states))
    for name, own in scores(make_model(), DOWNS, ids, ANSWER, 30.0):
        assert torch.allclose(own, whole[name], atol=1e-5)
    assert max(sizes) == 10 and sum(sizes) == 3 * 64


@pytest.mark.parametrize("kind", ["general", "specific"])
def test_a_neuron_that_brings_the_answers_about_is_found_whichever_kind_is_asked_for(kind: str) -> None:
    few = {"general": 0.0, "specific": 0.0, kind: 0.02}
    found = learnt(planted(37, 2), **few)
    assert found[DOWNS[2]][37] and not found[DOWNS[0]][37]
    assert not learnt(make_model(), general=0, specific=0.001)[DOWNS[2]][37] or kind == "general"


def test_general_neurons_help_often_and_specific_ones_much() -> None:
    """Of 20 neurons the first helps a little everywhere, the second very much once; the others are noise about nothing."""
    seen = Seen.of(20, torch.device("cpu"))
    for question in range(12):
        own = 0.1 * torch.randn(20, generator=torch.Generator().manual_seed(question))
        own[0], own[1] = 0.5, 20.0 if question == 7 else -1.0
        seen.see(own)
    assert seen.questions == 12 and seen.often[0] == 11, "once the second is so loud that the average is above the first"
    general, specific = seen.chosen(0.01, 0.0), seen.chosen(0.0, 0.01)
    assert general[0] and not general[1] and specific[1] and not specific[0]
    assert torch.equal(seen.chosen(0.01, 0.01), general | specific)


def test_the_entropy_is_1_where_all_are_alike_and_near_0_where_one_stands_out() -> None:
    assert evenness(torch.full((50,), 0.4)) == pytest.approx(1.0)
    assert evenness(torch.tensor([1.0, *[0.0] * 49])) < 0.01
    assert above(torch.arange(10.0), 0.3).sum() == 3 and not above(torch.ones(10), 0.3).any() and above(torch.arange(10.0), 1.0).sum() == 9


def test_above_average_is_what_counts() -> None:
    seen = Seen.of(4, torch.device("cpu"))
    for own in ([0.0, 1.0, 2.0, 3.0], [5.0, 0.0, 0.0, 5.1]):
        seen.see(torch.tensor(own))
    assert seen.often.tolist() == [1, 0, 1, 2] and seen.most.argsort(descending=True)[0] == 3


@pytest.mark.parametrize("kind", ["general", "specific"])
def test_more_neurons_move_where_they_are_alike(kind: str) -> None:
    """0.3 and up to a tenth more."""
    alike = 1 - torch.linspace(0, 1e-6, 1000, dtype=torch.float64)
    apart = torch.linspace(0, 1e-6, 1000, dtype=torch.float64)
    alike[0], apart[0] = 0.0, 1.0  # all but one stand out, or one alone
    found = [Seen(own, own.clone(), 1).chosen(**{"general": 0.0, "specific": 0.0, kind: 0.3}).sum() for own in (alike, apart)]
    assert 390 <= found[0] <= 400 and 300 <= found[1] < 310


def test_only_what_they_write_moves_and_no_more_than_was_said(pico_batch: dict[str, Tensor]) -> None:
    model, before = make_model(), make_model()
    adapter, found = NMKE(), learnt(model)
    attachment = adapter.attach(model, 0, found)
    moving = sum(values.numel() for _, values in attachment.trained())
    assert moving == 32 * sum(int(neurons.sum()) for neurons in found.values()) <= adapter.cost(before).trained
    assert all(0.3 * 64 <= neurons.sum() <= 0.85 * 64 for neurons in found.values())
    model(**pico_batch).loss.backward()
    torch.optim.SGD([values for _, values in attachment.trained()], lr=1.0).step()
    attachment.after_step(1)
    for name, own in model.named_parameters():
        moved = (own != before.get_parameter(name)).reshape(-1, own.shape[-1]).any(0).nonzero()[:, 0]
        chosen = found.get(name.removesuffix(".weight"), torch.zeros(0))
        assert moved.tolist() == chosen.nonzero()[:, 0].tolist()


def test_a_matrix_of_which_no_neuron_is_chosen_is_left_out() -> None:
    """As where all are alike, or the share is a fraction of one of them."""
    found = learnt(make_model())
    found[DOWNS[1]] = torch.zeros(64, dtype=torch.bool)
    attachment = NMKE().attach(make_model(), 0, found)
    moving = {name for name, _ in attachment.trained()}
    assert len(moving) == 2 and not any(DOWNS[1] in name for name in moving)


def test_some_matrices_can_be_named_and_the_attentions_taken() -> None:
    assert list(learnt(make_model(), modules="layers.1.*")) == [DOWNS[1]]
    assert list(learnt(make_model(), neurons="attention")) == [f"model.layers.{layer}.self_attn.o_proj" for layer in range(3)]
    with pytest.raises(WorkbenchError, match="Leave the names away"):
        NMKE(modules="q_proj").cost(make_model())


def test_in_mixtures_of_experts_it_is_the_attentions() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=150, num_hidden_layers=2, **shape)).eval()
    assert list(learnt(model)) == [f"model.layers.{layer}.self_attn.o_proj" for layer in range(2)]


def test_rows_without_a_question_and_no_share_at_all_are_refused_with_a_remedy() -> None:
    with pytest.raises(WorkbenchError, match="Name rows with questions"):
        learnt(make_model(), rows=[Encoded([1, 2, 3], [True] * 3, 0)])
    with pytest.raises(WorkbenchError, match="above 0"):
        learnt(make_model(), general=0, specific=0)


def test_it_reads_the_rows_it_is_told_and_says_what_that_takes() -> None:
    assert NMKE().looks_at() == [""] and NMKE(data="facts").looks_at() == ["facts"] and "64 questions" in NMKE().costs()
