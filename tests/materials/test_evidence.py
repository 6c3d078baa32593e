"""Evidence: gradients as a plain backward gives them, what layers read and write, and a model that is as it was before."""

import copy
from collections.abc import Callable, Generator

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, gradients, inputs, outputs, some, surprise
from workbench.materials.templates import Encoded

LENGTHS = (5, 12, 9, 7, 12)
ROWS = [Encoded(list(range(9 * place, 9 * place + size)), [False] * 3 + [True] * (size - 3), 0) for place, size in enumerate(LENGTHS, 1)]
SEEN = Evidence({"": ROWS, "other": ROWS[:1]}, 0, torch.device("cpu"))
UP, NORM, EMBED = "model.layers.1.mlp.up_proj", "model.layers.0.input_layernorm.weight", "model.embed_tokens.weight"
NAMES = [f"{UP}.weight", NORM, EMBED]
Take = Callable[[str, Tensor], None]


def test_batches_are_so_many_rows_in_their_order_filled_up() -> None:
    batches = SEEN.batches(size=2)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 12), (2, 9), (1, 12)]
    assert batches[1]["input_ids"][1].tolist() == [*ROWS[3].ids, 0, 0]
    assert batches[1]["labels"][1].tolist() == [-100] * 3 + ROWS[3].ids[3:] + [-100] * 2
    assert batches[1]["attention_mask"].sum().item() == 9 + 7
    assert [batch["input_ids"].tolist() for batch in SEEN.batches("other", 1)] == [[ROWS[0].ids]]


def test_some_rows_of_a_batch_are_the_batch_of_these_rows() -> None:
    (every,) = SEEN.batches(size=5)
    for chosen in ([0, 1], [2, 3], [4], [3, 0]):
        (wanted,) = Evidence({"": [ROWS[place] for place in chosen]}, 0, torch.device("cpu")).batches()
        found = some(every, torch.tensor(chosen))
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_prompts_end_where_the_answer_begins() -> None:
    rows = [ROWS[1], Encoded([7, 8, 9], [True] * 3, 0), Encoded([7, 8], [False] * 2, 0), Encoded([5, 6, 7, 8, 9], [False] * 4 + [True], 0)]
    (batch,) = Evidence({"": rows}, 0, torch.device("cpu")).prompts()
    wanted = [ROWS[1].ids[:3], [7, 8, 9], [7, 8], [5, 6, 7, 8]]
    assert [ids[:length].tolist() for ids, length in zip(batch["input_ids"], batch["attention_mask"].sum(1), strict=True)] == wanted
    assert batch["last"].tolist() == [2, 2, 1, 3]


def test_the_surprise_is_the_models_own_loss() -> None:
    model, batch = make_model(), SEEN.batches()[0]
    assert torch.allclose(surprise(model, batch), model(**batch).loss)


def test_gradients_are_those_of_a_plain_backward_batch_by_batch() -> None:
    found, plain = list[tuple[str, Tensor]](), make_model()
    drain(gradients(make_model(), NAMES, SEEN.batches(size=2), lambda name, own: found.append((name, own.clone()))))
    assert sorted(name for name, _ in found) == sorted(NAMES * 3), "each of them once for each batch"
    for number, batch in enumerate(SEEN.batches(size=2)):
        plain.zero_grad()
        plain(**batch).loss.backward()
        for name, own in found[3 * number : 3 * number + 3]:
            assert torch.allclose(own, plain.get_parameter(name).grad, atol=1e-7)


def test_one_gradient_exists_at_a_time() -> None:
    model, others = make_model(), list[int]()

    def count(name: str, own: Tensor) -> None:
        others.append(sum(parameter.grad is not None for parameter in model.parameters()))

    drain(gradients(model, [name for name, _ in model.named_parameters()], SEEN.batches(), count))
    assert others == [0] * len(list(model.parameters()))


def test_inputs_are_what_a_layer_reads_of_each_row_alone() -> None:
    model, found, alone = make_model(), list[Tensor](), list[Tensor]()
    drain(inputs(model, [UP], SEEN.batches(size=3), lambda name, x: found.append(x)))
    assert [len(x) for x in found] == [5 + 12 + 9, 7 + 12], "padding is left out"
    hook = model.get_submodule(UP).register_forward_pre_hook(lambda module, given: alone.append(given[0][0]))
    for row in ROWS:
        model(input_ids=torch.tensor([row.ids]))
    hook.remove()
    assert torch.allclose(torch.cat(found), torch.cat(alone), atol=1e-5) and not torch.cat(found).requires_grad


def test_outputs_are_what_a_layer_or_a_block_writes_of_every_token_or_of_a_prompts_last() -> None:
    model, found, block = make_model(), list[Tensor](), "model.layers.1"
    drain(outputs(model, [block], SEEN.batches(size=3), lambda name, own: found.append(own)))
    drain(outputs(model, [block], SEEN.prompts(size=3), lambda name, own: found.append(own)))
    states = [model(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[2][0] for row in ROWS]
    assert torch.allclose(torch.cat(found[:2]), torch.cat(states), atol=1e-5)
    assert torch.allclose(torch.cat(found[2:]), torch.stack([own[2] for own in states]), atol=1e-5)


def test_a_module_that_is_called_by_keyword_reads_what_comes_first() -> None:
    model, norms, attention = make_model(), list[Tensor](), list[Tensor]()
    block, batches = "model.layers.1", SEEN.batches(size=2)
    drain(outputs(model, [f"{block}.input_layernorm"], batches, lambda name, own: norms.append(own)))
    drain(inputs(model, [f"{block}.self_attn"], batches, lambda name, own: attention.append(own)))
    assert len(norms) == len(attention) == 3 and all(map(torch.equal, norms, attention)), "attention reads what the norm writes"


def test_a_module_that_answers_with_more_than_one_tensor_writes_the_first_of_them() -> None:
    model, found = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=400)).eval(), dict[str, Tensor]()
    drain(outputs(model, ["transformer.h.0.attn", "transformer.h.0.attn.c_proj"], SEEN.batches(), found.__setitem__))
    attention, last = found.values()
    assert torch.equal(attention, last) and len(last) == sum(LENGTHS)


LOOKS = {
    "gradients": lambda model, take: gradients(model, [f"{UP}.weight"], SEEN.batches(size=2), take),
    "inputs": lambda model, take: inputs(model, [UP], SEEN.batches(size=2), take),
    "outputs": lambda model, take: outputs(model, [UP], SEEN.prompts(size=2), take),
}


@pytest.mark.parametrize("end", ["done", "closed", "broken"])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_the_model_and_the_random_state_are_as_before(
    look: Callable[[LlamaForCausalLM, Take], Generator[Progress, None, None]], end: str
) -> None:
    """Also where the work is closed before it is done, or what is made of the rows fails."""
    model, calls = make_model(), list[str]()
    model.get_parameter(NORM).requires_grad_(False)
    before, random = copy.deepcopy(model), torch.get_rng_state()

    def take(name: str, own: Tensor) -> None:
        calls.append(name)
        if end == "broken":
            raise KeyError(name)

    looking = look(model, take)
    if end == "done":
        drain(looking)
    elif end == "closed":
        next(looking), next(looking)
        looking.close()
    else:
        with pytest.raises(KeyError):
            drain(looking)
    assert len(calls) == {"done": 3, "closed": 1, "broken": 1}[end]
    assert torch.equal(torch.get_rng_state(), random) and model.training == before.training
    for own, other in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(own, other) and own.requires_grad == other.requires_grad and own.grad is None
    model(**SEEN.batches()[0]).loss.backward()
    assert len(calls) == {"done": 3, "closed": 1, "broken": 1}[end], "nobody listens any longer"
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
