"""PoFT (arXiv:2412.12865): its weights have the gradient of −mean log σ(β (s − r) + γ) over whole answers."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from workbench.core.errors import WorkbenchError
from workbench.materials.token_stats import Learnt
from workbench.methods.contracts import TokenStats
from workbench.methods.losses.poft import PoFT

LENGTHS = [2, 5, 1]
ROW = torch.tensor([4] * 2 + [9] * 5 + [30])


def stats(logp: Tensor, score: Tensor) -> TokenStats:
    """Three answers of unlike length."""
    return TokenStats(logp, torch.ones_like(logp), row=ROW, score=score, window=Learnt(ROW, ROW, score))


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(8, generator=generator, dtype=torch.double).abs().neg() for _ in range(2))


@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.0), (3.0, 0.5), (0.2, -1.0)])
def test_its_gradient_is_that_of_the_papers_loss(beta: float, gamma: float) -> None:
    logp, score = drawn()
    logp.requires_grad_()
    s, r = (torch.stack([part.mean() for part in values.split(LENGTHS)]) for values in (logp, score))
    (-logsigmoid(beta * (s - r) + gamma).mean()).backward()
    ours = PoFT(beta=beta, gamma=gamma).weights(stats(logp, score)) / len(ROW)  # as the training loop divides
    assert not ours.requires_grad and torch.allclose(ours, -logp.grad)


def of_answers(logp: Tensor, score: Tensor, **knobs: float) -> Tensor:
    """σ of each answer: its weight without what makes a mean over answers."""
    scale = len(ROW) / (3 * torch.tensor([n for n in LENGTHS for _ in range(n)]))
    return (PoFT(**knobs).weights(stats(logp, score)) / scale)[[0, 2, 7]]


def test_where_all_agree_an_answer_counts_half() -> None:
    logp, _ = drawn()
    assert of_answers(logp, logp).tolist() == pytest.approx([0.5] * 3)


def test_what_aligned_models_find_impossible_counts_nothing_and_what_they_find_likelier_up_to_one() -> None:
    logp = torch.full((8,), -1.0)
    assert of_answers(logp, torch.full((8,), -1e4)).tolist() == [0.0] * 3
    assert of_answers(torch.full((8,), -80.0), torch.zeros(8)).tolist() == pytest.approx([1.0] * 3)
    rising = [of_answers(logp, torch.full((8,), value))[0].item() for value in (-9.0, -2.0, -1.0, -0.1)]
    assert rising == sorted(rising) and 0 < rising[0] < rising[-1] < 1


def test_of_answers_that_aligned_models_like_alike_the_unlikelier_counts_more() -> None:
    logp = torch.tensor([-1.0, -1.0, -3.0, -3.0, -3.0, -3.0, -3.0, -0.1])
    first, second, third = of_answers(logp, torch.full((8,), -1.0)).tolist()
    assert second > first > third


def test_length_makes_no_answer_heavier() -> None:
    logp, score = torch.full((8,), -2.0), torch.full((8,), -1.0)
    sums = [part.sum().item() for part in PoFT().weights(stats(logp, score)).split(LENGTHS)]
    assert sums == pytest.approx([sums[0]] * 3)


def test_a_step_in_several_passes_is_the_step_in_one_and_packed_is_padded() -> None:
    whole = stats(*drawn())
    apart = [
        dataclasses.replace(whole, logp=whole.logp[p], mask=whole.mask[p], row=whole.row[p], score=whole.score[p])
        for p in (slice(0, 2), slice(2, 8))
    ]
    assert torch.allclose(torch.cat([PoFT().weights(part) for part in apart]), PoFT().weights(whole))
    mask = torch.tensor([[1.0, 1, 0, 0, 0], [1.0, 1, 1, 1, 1], [1.0, 0, 0, 0, 0]])
    lines = {name: torch.full((3, 5), -50.0, dtype=torch.double) for name in ("logp", "score")}
    for name, values in lines.items():
        values[mask.bool()] = getattr(whole, name)
    padded = TokenStats(lines["logp"], mask, row=torch.tensor([[4], [9], [30]]).expand(3, 5), score=lines["score"], window=whole.window)
    assert torch.allclose(PoFT().weights(padded)[mask.bool()], PoFT().weights(whole))


def test_a_row_that_comes_twice_counts_once() -> None:
    logp, score = drawn()
    once = stats(logp, score)
    row = torch.cat([ROW, ROW[:2]])
    twice = TokenStats(
        torch.cat([logp, logp[:2]]), torch.ones(10), row=row, score=torch.cat([score, score[:2]]), window=Learnt(row, row, row.double())
    )
    a, b = (values / len(values) for values in (PoFT().weights(once), PoFT().weights(twice)))
    assert torch.allclose(a[:2], 2 * b[:2]) and torch.allclose(a[2:], b[2:8])


def test_its_judges_and_their_mean() -> None:
    assert PoFT(aligned=" run:0001, model:b ,").judges() == ["run:0001", "model:b"]
    assert PoFT().scores(torch.tensor([[-1.0, -3.0], [-2.0, -2.0]])).tolist() == [-2, -2]
    assert "reads all rows once" in PoFT().costs() and "of the base." in PoFT(anchor=0.1).costs()
    for empty in ("", " , "):
        with pytest.raises(WorkbenchError, match=r"no aligned model.*loss\.aligned"):
            PoFT(aligned=empty).judges()
