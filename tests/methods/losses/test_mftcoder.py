"""MFTCoder (arXiv:2311.02303): its four balances by hand, where they agree, and that they are those of the whole step."""

import pytest
import torch
from torch import Tensor

from workbench.materials.token_stats import Learnt
from workbench.methods.contracts import TokenStats
from workbench.methods.losses.mftcoder import MFTCoder

BALANCES = ["tokens", "rows", "tasks", "rows of tasks"]


def step(rows: list[tuple[int, list[float]]]) -> TokenStats:
    """All learnt tokens of a step: of each row its task and the surprise of each of its tokens. Numbers of rows and tasks have gaps."""
    logp = -torch.tensor([value for _, values in rows for value in values], dtype=torch.double)
    row = torch.tensor([7 * number + 3 for number, (_, values) in enumerate(rows) for _ in values])
    task = torch.tensor([task for task, values in rows for _ in values])
    return TokenStats(logp, torch.ones_like(logp), row=row, task=task, window=Learnt(row, task, torch.zeros(len(row))))


def parts(whole: TokenStats, *ends: int) -> list[TokenStats]:
    """The same step as several forward passes."""
    cuts = zip([0, *ends], [*ends, len(whole.logp)], strict=True)
    return [TokenStats(whole.logp[a:b], whole.mask[a:b], row=whole.row[a:b], task=whole.task[a:b], window=whole.window) for a, b in cuts]


def weights(stats: TokenStats, balance: str) -> Tensor:
    return MFTCoder(balance=balance).weights(stats)


def objective(stats: TokenStats, balance: str) -> float:
    """What the training loop makes smaller."""
    return (-(weights(stats, balance) * stats.logp).sum() / len(stats.window.row)).item()


UNLIKE = [(0, [1.0, 2.0]), (5, [4.0]), (0, [3.0, 3.0, 6.0, 8.0])]


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("tokens", 27 / 7),
        ("rows", (1.5 + 4 + 5) / 3),
        ("tasks", (23 / 6 + 4) / 2),
        ("rows of tasks", ((1.5 + 5) / 2 + 4) / 2),
    ],
)
def test_the_four_cases_by_hand(balance: str, expected: float) -> None:
    assert objective(step(UNLIKE), balance) == pytest.approx(expected)


def test_the_third_case_is_what_the_paper_recommends() -> None:
    assert MFTCoder().balance == "tasks"


def test_one_task_leaves_tokens_or_rows() -> None:
    one = step([(4, values) for _, values in UNLIKE])
    assert torch.equal(weights(one, "tasks"), weights(one, "tokens"))
    assert torch.allclose(weights(one, "rows of tasks"), weights(one, "rows"))
    assert not torch.allclose(weights(one, "rows"), weights(one, "tokens"))


def test_equal_counts_make_all_cases_cross_entropy() -> None:
    equal = step([(0, [1.0, 2.0]), (1, [0.1, 5.0]), (1, [3.0, 4.0]), (0, [7.0, 1.0])])
    assert all(torch.allclose(weights(equal, balance), torch.ones(8, dtype=torch.double)) for balance in BALANCES)


def test_more_rows_of_a_task_do_not_make_it_heavier() -> None:
    more = step([*UNLIKE, UNLIKE[1], UNLIKE[1]])
    for balance, same in zip(BALANCES, [False, False, True, True], strict=True):
        assert (objective(more, balance) == pytest.approx(objective(step(UNLIKE), balance))) is same


@pytest.mark.parametrize("balance", BALANCES)
def test_a_step_in_several_passes_is_the_step_in_one(balance: str) -> None:
    whole = step(UNLIKE)
    apart = torch.cat([weights(part, balance) for part in parts(whole, 2, 3)])
    assert torch.equal(apart, weights(whole, balance))


@pytest.mark.parametrize("balance", BALANCES)
def test_the_step_weighs_as_much_as_cross_entropys(balance: str) -> None:
    assert weights(step(UNLIKE), balance).mean().item() == pytest.approx(1)
