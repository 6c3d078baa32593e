"""Lottery ticket: two halves of a run, the density, and that what was learnt apart adds up."""

import pytest
import torch
from pico import make_model

from workbench.methods.adapters.lottery_ticket import LotteryTicket


def test_a_run_has_two_halves_of_which_the_second_moves_its_share() -> None:
    adapter, model = LotteryTicket(share=0.1), make_model()
    total = sum(parameter.numel() for parameter in model.parameters())
    assert adapter.links() == 2 and adapter.cost(model).trained == total
    attachment = adapter.attach(model, seed=0)
    assert sum(parameter.numel() for _, parameter in attachment.trained()) == total
    with torch.no_grad():
        for place, (_, parameter) in enumerate(attachment.trained()):
            parameter += torch.linspace(0, 0.01 * place, parameter.numel()).view_as(parameter)
    attachment.next_link()
    assert sum(values.numel() for _, values in attachment.trained()) == int(0.1 * total)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_changes_that_were_learnt_apart_add_up_in_either_order(share: float) -> None:
    """Each on its own half of the embedding; nothing else moves, and where they do not meet, both are there whole."""
    name, changes = "model.embed_tokens.weight", list[torch.Tensor]()
    for half in (slice(0, 200), slice(200, 400)):
        attachment = LotteryTicket(share=share).attach(make_model(), seed=0)
        with torch.no_grad():
            attachment.model.get_parameter(name)[half] += 1 + torch.rand(200, 32)
        attachment.next_link()
        ((only, values),) = attachment.trained()
        assert only == name
        with torch.no_grad():
            values += 0.5
        attachment.after_step(1)
        changes.append(attachment.model.get_parameter(name).detach() - make_model().get_parameter(name))
    one, other = changes
    total = sum(parameter.numel() for parameter in make_model().parameters())
    assert (one != 0).sum() == (other != 0).sum() == int(share * total)
    assert torch.equal(one + other, other + one) and ((one + other)[:200] == one[:200]).all() and ((one + other)[200:] == other[200:]).all()
