"""NEFTune (arXiv:2310.05914): the noise is uniform and bounded by α/√(L D), with L the row's own length wherever it lies."""

import pytest
import torch
from torch import Tensor, nn

from workbench.methods.contracts import Showing
from workbench.methods.noises.neftune import NEFTune, lengths

WIDTH = 64


def noise(numbers: list[list[int]], alpha: float = 5.0, seed: int = 0) -> Tensor:
    """(B, T, D) what is added to the embeddings of tokens that belong to these rows; −1 belongs to none."""
    rows = torch.tensor(numbers)
    embed = nn.Embedding(10, WIDTH)
    ids = torch.randint(10, rows.shape, generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "labels": ids, "rows": rows}
    shown = NEFTune(alpha=alpha).disturb(batch, Showing(0.5, embed, [], torch.Generator().manual_seed(seed)))
    assert torch.equal(shown["input_ids"], ids)
    return (shown["inputs_embeds"] - embed(ids)).detach()


def bound(length: int, alpha: float = 5.0) -> float:
    return alpha / (length * WIDTH) ** 0.5


def fills(values: Tensor, length: int, alpha: float = 5.0) -> bool:
    """Whether the largest value lies just below the bound of a row of that length."""
    return 0.98 * bound(length, alpha) < values.abs().max().item() <= bound(length, alpha) * 1.001


@pytest.mark.parametrize("alpha", [5.0, 15.0])
def test_it_is_bounded_by_the_rows_length_and_the_width(alpha: float) -> None:
    assert fills(noise([[0] * 20], alpha), 20, alpha)


def test_it_is_uniform_about_nothing() -> None:
    values = noise([[0] * 400]) / bound(400)
    assert abs(values.mean().item()) < 3 * (1 / 3 / values.numel()) ** 0.5
    assert values.var().item() == pytest.approx(1 / 3, rel=0.02)


def test_rows_of_one_line_have_bounds_of_their_own() -> None:
    packed = noise([[7] * 10 + [2] * 40 + [-1] * 5])[0]
    assert fills(packed[:10], 10) and fills(packed[10:50], 40)


def test_a_packed_row_has_the_bound_of_a_padded_one() -> None:
    padded = noise([[7] * 10 + [-1] * 30, [2] * 40])
    packed = noise([[7] * 10 + [2] * 40])[0]
    assert fills(padded[0, :10], 10) and fills(packed[:10], 10)
    assert fills(padded[1], 40) and fills(packed[10:], 40)


def test_a_whole_rows_noise_is_about_as_long_whatever_its_length() -> None:
    short, long = noise([[0] * 16]), noise([[0] * 256])
    assert short.norm().item() == pytest.approx(5 / 3**0.5, rel=0.05) == long.norm().item()


def test_lengths_count_each_rows_tokens() -> None:
    rows = torch.tensor([[4, 4, 4, 9, -1], [2, 2, 2, 2, 2]])
    assert lengths(rows).tolist() == [[3, 3, 3, 1, 0], [5] * 5]
