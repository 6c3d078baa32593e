"""Weighted sums: the same as float64 says, in any pieces, rounded once."""

import pytest
import torch

from workbench.materials import summing
from workbench.materials.summing import weighted_sum


@pytest.mark.parametrize("shape", [(), (1,), (50, 41), (3, 0), (2, 3, 4)])
@pytest.mark.parametrize("piece", [7, 1 << 15])
def test_it_is_the_float64_sum_rounded_once_in_any_pieces(piece: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summing, "PIECE", piece)
    torch.manual_seed(0)
    parts, shares = [torch.randn(shape) for _ in range(3)], [0.5, -2.0, 0.25]
    held = [part.clone() for part in parts]
    found = weighted_sum(parts, shares)
    expected = sum(share * part.double() for share, part in zip(shares, parts, strict=True))
    assert found.dtype == torch.float32 and found.shape == shape
    assert torch.equal(found, expected.float()), "with shares that are powers of two no product is rounded"
    assert all(torch.equal(part, before) for part, before in zip(parts, held, strict=True))


def test_what_float32_would_lose_is_there() -> None:
    assert weighted_sum([torch.tensor([1e8]), torch.tensor([1.0]), torch.tensor([-1e8])], [1, 1, 1]).tolist() == [1.0]


def test_equal_tensors_come_back_where_the_shares_add_up_to_one() -> None:
    torch.manual_seed(0)
    one = torch.randn(300, 200)
    for shares in ([1.0], [1 / 3] * 3, [0.2, 1 / 3, 7 / 15], [-1.5, 2.5], [1 / 7] * 7):
        assert torch.equal(weighted_sum([one] * len(shares), shares), one)
    for weights in ([3.0], [1.0] * 3, [0.1, 0.2, 0.4], [-1.0, 4.0]):
        assert torch.equal(weighted_sum([one] * len(weights), weights, over=sum(weights)), one)


def test_rows_that_lie_apart_in_memory_are_taken_as_they_stand() -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    assert weighted_sum([wide[:, ::2], wide[:, 1::2]], [1.0, 10.0]).tolist() == [[10, 32], [54, 76], [98, 120]]
