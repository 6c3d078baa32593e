"""k-FPF (arXiv:2304.04158): everything moves, and now and then what drifted most alone, along the gradients of rows that were known."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.evidence import Evidence, surprise
from workbench.materials.templates import Encoded
from workbench.methods.adapters.k_fpf import KFPF, MendedAttachment, drift

OLD = [Encoded([*range(start, start + 4 + start % 3)], [False, *[True] * (3 + start % 3)], 0) for start in range(10, 30)]
NEW = torch.arange(100, 120).reshape(2, 10)


def at_work(model: LlamaForCausalLM | None = None, **knobs: int) -> MendedAttachment:
    attachment = KFPF(**{"every": 3, "mending": 2, **knobs}).attach(model or make_model(), seed=0)
    attachment.look(Evidence({"known": OLD}, 0, torch.device("cpu")))
    return attachment


def kinds(attachment: MendedAttachment) -> set[str]:
    return {name.split(".")[-2] for name, _ in attachment.trained()}


@torch.no_grad()
def move(attachment: MendedAttachment, **by: float) -> None:
    for name, parameter in attachment.model.named_parameters():
        parameter.add_(by.get(name.split(".")[-2], 0.0))


def gradients(attachment: MendedAttachment, step: int) -> dict[str, Tensor]:
    """What an optimizer would find at that step."""
    for _, parameter in attachment.trained():
        parameter.grad = None
    attachment.model(NEW, labels=NEW).loss.backward()
    attachment.before_step(step)
    return {name: parameter.grad for name, parameter in attachment.trained()}


def test_between_mendings_all_moves_and_in_one_the_kinds_that_drifted_most_in_all_blocks() -> None:
    attachment, every = at_work(kinds=2), {name for name, _ in make_model().named_parameters()}
    seen = []
    for step in range(1, 12):
        move(attachment, up_proj=0.5, norm=-0.2, k_proj=0.1) if step < 6 else move(attachment, k_proj=-2.0)
        attachment.redraw(step)
        seen.append("all" if {name for name, _ in attachment.trained()} == every else " ".join(sorted(kinds(attachment))))
    assert seen == [*["all"] * 3, *["norm up_proj"] * 2, *["all"] * 3, *["k_proj up_proj"] * 2, "all"]
    attachment.redraw(14)
    assert {name for name, _ in attachment.trained()} == {
        f"model.layers.{layer}.{part}.weight" for layer in range(3) for part in ("self_attn.k_proj", "mlp.up_proj")
    }


def test_drift_is_the_mean_size_of_a_numbers_change_whatever_the_size_of_the_module() -> None:
    attachment = at_work()
    move(attachment, k_proj=-0.25, down_proj=0.5)
    with torch.no_grad():
        attachment.model.model.layers[0].mlp.down_proj.weight.sub_(0.5)
        for layer in attachment.model.model.layers:
            layer.self_attn.k_proj.weight[::2].add_(0.5)  # some up, some down
    found = drift(attachment.model, attachment.start)
    assert list(found)[:2] == ["down_proj", "k_proj"] and found["q_proj"] == 0
    assert found["down_proj"] == pytest.approx(0.5 * 2 / 3) and found["k_proj"] == pytest.approx(0.25)


def test_the_gradients_of_a_mending_are_those_of_the_known_rows_and_every_row_has_its_turn() -> None:
    attachment, plain = at_work(rows=20), make_model()
    plain(NEW, labels=NEW).loss.backward()
    found = gradients(attachment, 3)
    assert all(torch.equal(found[name], parameter.grad) for name, parameter in plain.named_parameters())
    attachment.redraw(4)
    for step, rows in ((4, range(8)), (5, range(8, 16)), (9, [16, 17, 18, 19, 0, 1, 2, 3])):
        found = gradients(attachment, step)
        plain.zero_grad()
        (batch,) = Evidence({"": [OLD[row] for row in rows]}, 0, torch.device("cpu")).batches()
        surprise(plain, batch).backward()
        assert all(torch.allclose(found[name], plain.get_parameter(name).grad, atol=1e-7) for name in found), step


def test_a_mending_brings_back_what_was_known() -> None:
    """A model that was taught the known rows forgets them over others, and a mending makes up for some of it, by two kinds alone."""
    model = make_model()
    (known,) = Evidence({"": OLD}, 0, torch.device("cpu")).batches(size=20)
    teacher = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(15):
        teacher.zero_grad()
        surprise(model, known).backward()
        teacher.step()
    attachment, losses = at_work(model, every=15, mending=10, rows=20), [surprise(model, known).item()]
    for step in range(1, 26):
        attachment.redraw(step)
        if step in (1, 16):
            optimizer = torch.optim.Adam([parameter for _, parameter in attachment.trained()], lr=5e-3)
        gradients(attachment, step)
        optimizer.step()
        losses.append(surprise(model, known).item())
    assert losses[15] > losses[0] + 1 and losses[25] < losses[15] - 1 and len(kinds(attachment)) == 2


def test_all_processes_of_a_step_drop_the_same_and_chance_stays_as_it_was() -> None:
    attachment, found = at_work(make_model(attention_dropout=0.5)), []
    attachment.model.train()
    attachment.redraw(4)
    for seed in (1, 2):
        gradients(attachment, 4)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        attachment.before_step(4)
        assert torch.equal(torch.get_rng_state(), before)
        found.append([parameter.grad for _, parameter in attachment.trained()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    attachment.before_step(5)
    assert not torch.equal(found[0][0], attachment.trained()[0][1].grad)


def test_what_it_lacks_is_said() -> None:
    with pytest.raises(WorkbenchError, match="Write the name"):
        KFPF(data="").looks_at()
    with pytest.raises(WorkbenchError, match="Choose another update"):
        at_work().before_step(1)
