"""Gradients of rows: those that autograd finds in plain weights, one row as in a batch, what a step does; the model does not move."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import gradients
from workbench.materials.gradients import RANK, SCALE, Taught, adam_direction, of_rows, warmed_up
from workbench.materials.rows import Example
from workbench.materials.templates import Encoded, encode

DRAW = torch.Generator().manual_seed(0)


def encoded(length: int, learnt: int) -> Encoded:
    ids = torch.randint(5, 400, (length,), generator=DRAW).tolist()
    return Encoded(ids, [False] * (length - learnt) + [True] * learnt, 0)


ROWS = [encoded(9, 4), encoded(30, 29), encoded(12, 1), encoded(9, 9)]


def chat(question: str, answer: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


CHATS = [chat(f"What is {number}?", f"It is {'very ' * number}good.") for number in range(6)]


def somewhere(model: nn.Module) -> Tensor:
    """Numbers of a LoRA with a B that is not 0."""
    return gradients._start(model, torch.Generator()).double() + 0.02 * torch.randn(size(model), generator=DRAW, dtype=torch.float64)


def size(model: nn.Module) -> int:
    return sum(RANK * (inputs + outputs) for _, inputs, outputs in gradients._layers(model))


def plain_loss(model: nn.Module, factors: Tensor, row: Encoded, names: Sequence[str]) -> Tensor:
    """The mean loss of a row's learnt tokens, with W + (α/r)·B·A written out in the weights of the matrices so named."""
    weights, at = dict[str, Tensor](), 0
    for name in names:
        own = model.get_parameter(name + ".weight")
        turned = "c_attn" in name  # GPT-2 keeps its matrices the other way round
        outputs, inputs = own.T.shape if turned else own.shape
        a = factors[at : at + RANK * inputs].view(RANK, inputs)
        b = factors[at + RANK * inputs : at + RANK * (inputs + outputs)].view(outputs, RANK)
        at += RANK * (inputs + outputs)
        weights[name + ".weight"] = own + SCALE * (a.T @ b.T if turned else b @ a)
    logits = torch.func.functional_call(model, weights, (torch.tensor([row.ids]),), tie_weights=False).logits[0]
    lost = nn.functional.cross_entropy(logits[:-1], torch.tensor(row.ids[1:]), reduction="none")
    return lost[torch.tensor(row.trained[1:])].mean()


def names_of(model: nn.Module) -> list[str]:
    chosen = [module for module, *_ in gradients._layers(model)]
    return [name for name, module in model.named_modules() if any(module is each for each in chosen)]


def exact(model: nn.Module, factors: Tensor, row: Encoded) -> Tensor:
    own = factors.clone().requires_grad_()
    return torch.autograd.grad(plain_loss(model, own, row, names_of(model)), own)[0]


def test_they_are_those_of_the_written_out_weights(pico_model: LlamaForCausalLM) -> None:
    assert all(name.endswith(("q_proj", "v_proj")) for name in names_of(pico_model)) and len(names_of(pico_model)) == 6
    model = pico_model.double()
    factors = somewhere(model)
    found = of_rows(model, factors, ROWS, 0)
    assert found.shape == (4, size(model))
    for row, mine in zip(ROWS, found, strict=True):
        assert torch.allclose(mine, exact(model, factors, row), rtol=1e-4, atol=1e-5 * float(mine.abs().max()))


def test_a_gpt2_has_them_beside_its_attention() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=64, n_embd=16, n_layer=2, n_head=2)).eval().double()
    assert names_of(model) == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    factors = somewhere(model)
    for row, mine in zip(ROWS, of_rows(model, factors, ROWS, 0), strict=True):
        assert torch.allclose(mine, exact(model, factors, row), rtol=1e-4, atol=1e-5 * float(mine.abs().max()))


def test_other_names_take_the_last_block_and_none_is_a_sentence() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.ModuleDict({"mixer": nn.Linear(4, 6), "norm": nn.LayerNorm(4)}) for _ in range(11))})
    assert gradients._layers(model) == [(model["layers"][10]["mixer"], 4, 6)]
    with pytest.raises(WorkbenchError, match=r"^No gradients can be taken of this Linear.* Let another model read"):
        gradients._layers(nn.Linear(3, 3))


def test_one_row_is_as_in_a_batch_and_in_smaller_ones(pico_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = somewhere(pico_model).float()
    together = of_rows(pico_model, factors, ROWS, 0)
    monkeypatch.setattr(gradients, "TOKENS", 60)
    shapes, whole = list[tuple[int, int]](), gradients.label_table
    monkeypatch.setattr(gradients, "label_table", lambda model, batch: (shapes.append(batch["labels"].shape), whole(model, batch))[1])
    parted = of_rows(pico_model, factors, ROWS, 0)
    assert shapes == [(2, 30), (2, 12)]
    for row, one, other in zip(ROWS, together, parted, strict=True):
        alone = of_rows(pico_model, factors, [row], 0)[0]
        assert torch.allclose(one, alone, atol=1e-5 * float(alone.norm())) and torch.allclose(other, alone, atol=1e-5 * float(alone.norm()))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_gives_nearly_the_same(pico_model: LlamaForCausalLM, half: torch.dtype) -> None:
    factors = somewhere(pico_model).float()
    whole, rough = of_rows(pico_model, factors, ROWS, 0), of_rows(pico_model.to(half), factors, ROWS, 0)
    assert rough.dtype == torch.float32 and (nn.functional.cosine_similarity(whole, rough) > 0.99).all()
    assert torch.allclose(whole.norm(dim=1), rough.norm(dim=1), rtol=0.05)


def test_a_small_step_on_one_row_moves_another_by_the_product_of_both(pico_model: LlamaForCausalLM) -> None:
    """To first order (steps to both sides), a plain step; and one of length η, whose gain over η is what information gain goes by."""
    model = pico_model.double()
    factors, names = somewhere(model), names_of(model)
    on, *others = of_rows(model, factors, ROWS, 0).double()
    for row, gradient in zip(ROWS[1:], others, strict=True):
        for direction in (on, on / on.norm()):
            back, forth = (plain_loss(model, factors + step * direction, row, names).item() for step in (1e-3, -1e-3))
            assert (back - forth) / 2e-3 == pytest.approx(float(direction @ gradient), rel=0.01, abs=1e-3 * float(gradient.norm()))
    assert plain_loss(model, factors - 1e-3 * on, ROWS[0], names) < plain_loss(model, factors, ROWS[0], names)


def test_at_the_start_only_b_has_a_gradient(pico_model: LlamaForCausalLM) -> None:
    start = gradients._start(pico_model, torch.Generator())
    found, at = of_rows(pico_model, start, ROWS, 0), 0
    for _, inputs, outputs in gradients._layers(pico_model):
        middle, end = at + RANK * inputs, at + RANK * (inputs + outputs)
        assert 0.5 / math.sqrt(inputs) < start[at:middle].abs().max() <= 1 / math.sqrt(inputs) and not start[middle:end].any()
        assert not found[:, at:middle].any() and found[:, middle:end].any(1).all()
        at = end


def test_nothing_of_the_model_moves_and_nothing_is_left_behind(
    pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    pico_model.lm_head.weight.requires_grad_(False)
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in pico_model.named_parameters()}
    ids = torch.tensor([ROWS[1].ids])
    with torch.no_grad():
        said = pico_model(ids).logits
        state = drain(warmed_up(pico_model, pico_tokenizer, CHATS, 0))
        Taught(state, adam=True, seed=0).read(pico_model, pico_tokenizer, CHATS)
        assert torch.equal(pico_model(ids).logits, said)
    with pytest.raises(IndexError):
        of_rows(pico_model, state[0], [Encoded([5, 4000], [False, True], 0)], 0)
    assert all(torch.equal(tensor, before[name][0]) for name, tensor in pico_model.named_parameters())
    assert {name: tensor.requires_grad for name, tensor in pico_model.named_parameters()} == {name: on for name, (_, on) in before.items()}
    assert all(tensor.grad is None for tensor in pico_model.parameters())
    assert not any(module._forward_hooks for module in pico_model.modules())


def test_a_row_of_which_nothing_is_learnt_has_none(pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    state = drain(warmed_up(pico_model, pico_tokenizer, [], 0))
    taught = Taught(state, adam=False, seed=0)
    mute = Example(({"role": "user", "content": "Only a question."},))
    found = taught.read(pico_model, pico_tokenizer, [CHATS[0], mute, CHATS[1]])
    assert found.shape == (3, 1024) and found.dtype == torch.bfloat16
    assert found.isnan().all(1).tolist() == [False, True, False] and found.isfinite().all(1).tolist() == [True, False, True]
    assert taught.read(pico_model, pico_tokenizer, [mute]).isnan().all()
    alone = gradients._encoded(pico_tokenizer, CHATS[:2])
    expected = taught.sketch(of_rows(pico_model, state[0], [row for _, row in alone], 0))
    assert torch.allclose(found[[0, 2]].float(), expected, rtol=1e-2, atol=1e-6)


def test_rows_are_encoded_as_the_trainer_does_and_cut(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    long = chat("Why?", "So it is. " * 1000)
    found = dict(gradients._encoded(pico_tokenizer, [long, *CHATS]))
    assert found == {place: encode(pico_tokenizer, row, "answers", 1024) for place, row in enumerate([long, *CHATS])}
    assert found[0].cut and len(found[0].ids) == 1024


def test_a_warm_up_learns_its_rows_and_leaves_adams_moments(
    pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "RATE", 1e-2)
    cold, warm, again, other = (
        drain(warmed_up(pico_model, pico_tokenizer, rows, seed)) for rows, seed in (([], 0), (CHATS, 0), (CHATS, 0), (CHATS, 1))
    )
    assert not cold[1:].any() and torch.equal(cold[0], gradients._start(pico_model, torch.Generator().manual_seed(0)))
    assert torch.equal(warm, again) and not torch.equal(warm, other) and warm[1].any() and (warm[2] >= 0).all() and warm[2].any()
    names, rows = names_of(pico_model), [row for _, row in gradients._encoded(pico_tokenizer, CHATS)]
    loss = [sum(plain_loss(pico_model, state[0], row, names).item() for row in rows) for state in (cold, warm)]
    assert loss[1] < loss[0] - 0.05
    plain, adam = (Taught(warm, adam, 0).read(pico_model, pico_tokenizer, CHATS).float() for adam in (False, True))
    found = of_rows(pico_model, warm[0], rows, 0)
    sketch = Taught(warm, True, 0).sketch
    assert torch.allclose(adam, sketch(adam_direction(found, warm[1], warm[2])), rtol=1e-2, atol=1e-2)
    assert torch.allclose(plain, sketch(found), rtol=1e-2, atol=1e-5)


def test_a_warm_up_slows_down(
    pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row that is seen four times the gradient hardly changes, so that Adam moves by the rate at each step: 1, 3/4, 1/2 and 1/4."""
    monkeypatch.setattr(gradients, "BATCH", 1)
    cold, warm = (drain(warmed_up(pico_model, pico_tokenizer, rows, 0))[0] for rows in ([], CHATS[:1]))
    assert float((warm - cold).abs().max()) == pytest.approx(2.5 * gradients.RATE, rel=0.1)


def test_adams_direction_is_that_of_the_formula() -> None:
    found = adam_direction(torch.tensor([[2.0, 0.0], [0.0, -1.0]]), torch.tensor([1.0, 0.5]), torch.tensor([4.0, 0.0]))
    first = [(0.9 * 1 + 0.1 * 2) / math.sqrt(0.999 * 4 + 0.001 * 4 + 1e-8), 0.45 / math.sqrt(1e-8)]
    second = [0.9 / math.sqrt(0.999 * 4 + 1e-8), (0.45 - 0.1) / math.sqrt(0.001 + 1e-8)]
    assert found.flatten().tolist() == pytest.approx([*first, *second], rel=1e-5)
