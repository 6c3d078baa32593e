"""Order statistics in blocks: the same numbers as sorting gives, whatever the blocks, with ties, zeros and tiny numbers."""

import pytest
import torch
from torch import Tensor

from workbench.materials.order import Ranking


def found(blocks: list[Tensor], ranks: list[int]) -> tuple[float, ...]:
    ranking = Ranking()
    for block in blocks:
        ranking.see(block)
    ranking.want(ranks)
    for block in reversed(blocks):
        ranking.look(block)
    return ranking.found()


@pytest.mark.parametrize("blocks", [1, 3, 50])
@pytest.mark.parametrize("kind", ["normal", "ties", "tiny", "wide"])
def test_it_finds_what_sorting_finds(blocks: int, kind: str) -> None:
    drawn = torch.randn(1000, generator=torch.Generator().manual_seed(0)).abs()
    numbers = {"normal": drawn, "ties": drawn.round(decimals=1), "tiny": drawn * 1e-42, "wide": drawn.mul(20).exp()}[kind]
    ranks = [1, 2, 10, 500, 999, 1000]
    expected = numbers.sort(descending=True).values
    assert found(list(numbers.chunk(blocks)), ranks) == tuple(expected[rank - 1].item() for rank in ranks)


def test_ranks_beyond_the_ends_are_the_ends() -> None:
    assert found([torch.tensor([3.0, 1.0, 2.0])], [0, -4, 9]) == (3.0, 3.0, 1.0)


def test_it_counts_zeros_of_both_signs() -> None:
    ranking = Ranking()
    ranking.see(torch.tensor([0.0, -0.0, 1.0]))
    assert (ranking.count, ranking.zeros) == (3, 2)
    assert found([torch.tensor([0.0, -0.0])], [1, 2]) == (0.0, 0.0)


def test_of_nothing_there_is_nothing() -> None:
    assert found([torch.zeros(0)], [1]) == ()
