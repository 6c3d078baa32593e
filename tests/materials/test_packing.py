"""Tensors from rows: padding, best-fit packing, and the law that a packed forward is the separate forwards."""

import random

import pytest
import torch
from pico import make_model

from workbench.core.errors import WorkbenchError
from workbench.materials.packing import pack, packed, pad
from workbench.materials.templates import Encoded


def row(ids: list[int], learnt_from: int = 0) -> Encoded:
    return Encoded(ids, [index >= learnt_from for index in range(len(ids))], 0)


def of_length(lengths: list[int]) -> list[Encoded]:
    return [row([5 + (index + place) % 300 for place in range(length)]) for index, length in enumerate(lengths)]


def test_pad_fills_up_on_the_right_and_hides_what_is_not_learnt() -> None:
    batch = pad([row([7, 8, 9], 1), row([6])], pad_id=0)
    assert batch["input_ids"].tolist() == [[7, 8, 9], [6, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 8, 9], [6, -100, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_best_fit_decreasing_by_hand() -> None:
    rows = of_length([3, 5, 4, 6, 2, 1])  # longest first: 6 | 5 opens | 4 opens | 3 fits 5+3 | 2 fits 6+2 | 1 fits 4+1
    assert pack(rows, 8) == [[3, 4], [1, 0], [2, 5]]
    assert pack([], 8) == []


def test_packing_loses_no_row_fits_and_is_near_the_optimum() -> None:
    rng = random.Random(0)
    for _ in range(50):
        length = rng.randint(8, 64)
        rows = of_length([rng.randint(1, length) for _ in range(rng.randint(1, 120))])
        groups = pack(rows, length)
        used = [sum(len(rows[index].ids) for index in group) for group in groups]
        assert sorted(index for group in groups for index in group) == list(range(len(rows)))
        assert max(used) <= length
        assert len(groups) <= 11 / 9 * -(-sum(used) // length) + 1 or min(sorted(used)[1:], default=length) > length / 2


def test_the_fill_of_chat_like_lengths_is_above_99_percent() -> None:
    rng = random.Random(1)
    rows = of_length([min(512, max(4, int(rng.lognormvariate(4.7, 0.65)))) for _ in range(2000)])
    groups = pack(rows, 2048)
    assert sum(len(one.ids) for one in rows) / (len(groups) * 2048) > 0.99


def test_a_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(WorkbenchError, match="A row has 9 tokens, but a pack holds 8"):
        pack(of_length([9]), 8)


def test_a_packed_forward_equals_separate_forwards() -> None:
    model = make_model().double()
    rows = of_length([7, 3, 12, 5, 9])
    groups = [[2, 1], [0, 3, 4]]
    batch = packed(rows, groups)
    assert "attention_mask" not in batch
    with torch.no_grad():
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        apart = [model(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0] for one in rows]
    for sequence, group in zip(together, groups, strict=True):
        expected = torch.cat([apart[index] for index in group])
        torch.testing.assert_close(sequence[: len(expected)], expected, rtol=0, atol=1e-12)


def test_a_packed_loss_is_the_token_weighted_loss_of_the_rows() -> None:
    model = make_model().double()
    rows = of_length([7, 3, 12, 5])
    batch = packed(rows, pack(rows, 16))
    assert batch["input_ids"].shape == (2, 15)
    assert [(labels == -100).sum().item() for labels in batch["labels"]] == [1 + 3, 3]  # first tokens, and what fills up
    with torch.no_grad():
        together = model(**batch, use_cache=False).loss
        sums = [model(**pad([one], 0), use_cache=False).loss * (len(one.ids) - 1) for one in rows]
    torch.testing.assert_close(together, sum(sums) / sum(len(one.ids) - 1 for one in rows), rtol=0, atol=1e-5)


def test_what_fills_a_short_group_up_stands_alone_and_is_not_learnt() -> None:
    batch = packed(of_length([4, 2]), [[0], [1]])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]
    assert batch["labels"][1].tolist()[2:] == [-100, -100]
