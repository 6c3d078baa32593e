"""Attribution: gradient times value on the way up from nothing, complete, and of each prompt for itself."""

import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.materials.attribution import attributions
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded

SIZES = (9, 4, 6, 1)
ROWS = [Encoded([5 + place * token for token in range(size + 3)], [False] * size + [True] * 3, 0) for place, size in enumerate(SIZES, 2)]
SEEN = Evidence({"": ROWS}, 0, torch.device("cpu"))
DOWNS = [f"model.layers.{layer}.mlp.down_proj" for layer in range(3)]


def likeliest(model: LlamaForCausalLM, ids: list[int], name: str = "", written: Tensor | None = None) -> Tensor:
    """The highest probability of the next token; where something is `written`, the layer writes that for the last token."""
    plain = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    if written is None:
        return plain.max()

    def put(module: torch.nn.Module, given: object, made: Tensor) -> Tensor:
        return torch.cat([made[:, :-1], written[None, None]], 1)

    hook = model.get_submodule(name).register_forward_hook(put)
    found = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)[plain.argmax()]
    hook.remove()
    return found


def writes(model: LlamaForCausalLM, ids: list[int], name: str) -> Tensor:
    held = list[Tensor]()
    hook = model.get_submodule(name).register_forward_hook(lambda module, given, made: held.append(made[0, -1].detach()))
    model(input_ids=torch.tensor([ids]))
    hook.remove()
    return held[0]


def sharp(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Larger matrices, so that the MLPs have a say."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(8 if "proj" in name else 3 if "embed" in name else 1)
    return model


def test_in_one_pass_it_is_the_gradient_times_the_value_of_each_prompt_alone() -> None:
    model = sharp(make_model())
    (batch,) = SEEN.prompts()
    found = attributions(model, DOWNS, batch)
    for place, size in enumerate(SIZES):
        for name in DOWNS:
            z = writes(model, ROWS[place].ids[:size], name).requires_grad_()
            likeliest(model, ROWS[place].ids[:size], name, z).backward()
            assert torch.allclose(found[name][place], z.grad * z.detach(), atol=1e-6) and z.grad.abs().max() > 1e-4


def test_over_many_steps_it_adds_up_to_what_the_layer_brings_about() -> None:
    """Of a prompt of one token, whose last token is all there is."""
    model, alone = sharp(make_model()), Evidence({"": ROWS[-1:]}, 0, SEEN.device)
    for name in DOWNS:
        with torch.no_grad():
            brought = likeliest(model, ROWS[-1].ids[:1]) - likeliest(model, ROWS[-1].ids[:1], name, torch.zeros(32))
        rough, fine = (attributions(model, [name], alone.prompts()[0], steps)[name].sum() for steps in (1, 200))
        assert (fine - brought).abs() < 2e-5 and (rough - brought).abs() > 1e-4


def test_the_model_is_as_it_was() -> None:
    model, batch = make_model(), SEEN.prompts()[0]
    model.get_parameter(f"{DOWNS[0]}.weight").requires_grad_(False)
    for steps in (1, 2):
        attributions(model, DOWNS, batch, steps)
    model(**SEEN.batches()[0]).loss.backward()
    assert all((own.grad is None) == (name == f"{DOWNS[0]}.weight") for name, own in model.named_parameters())
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), make_model().parameters(), strict=True))


def test_two_steps_are_the_mean_of_the_gradients_half_way_up_and_there() -> None:
    model, alone = sharp(make_model()), Evidence({"": ROWS[-1:]}, 0, SEEN.device)
    for name in DOWNS:
        z = writes(model, ROWS[-1].ids[:1], name)
        gradients = []
        for share in (0.5, 1.0):
            place = (share * z).requires_grad_()
            likeliest(model, ROWS[-1].ids[:1], name, place).backward()
            gradients.append(place.grad)
        with torch.no_grad():  # where an adapter studies
            found = attributions(model, [name], alone.prompts()[0], 2)[name][0]
        assert torch.allclose(found, (gradients[0] + gradients[1]) / 2 * z, rtol=1e-4, atol=1e-9) and found.abs().max() > 1e-5


def test_of_a_model_in_half_precision_the_sums_are_in_float32() -> None:
    model, alone = sharp(make_model()).bfloat16(), Evidence({"": ROWS[-1:]}, 0, SEEN.device)
    for steps in (1, 3):
        found = attributions(model, DOWNS[:1], alone.prompts()[0], steps)[DOWNS[0]][0]
        slope = found / writes(model, ROWS[-1].ids[:1], DOWNS[0]).float()
        assert found.dtype == torch.float32
        assert torch.allclose(slope, slope.bfloat16().float(), rtol=1e-5, atol=0) == (steps == 1), "a mean has digits of its own"
