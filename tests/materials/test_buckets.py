"""Buckets: sums are those of a plain count, one bucket each word, and neither batches nor empty texts change them."""

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch

from workbench.core.job import drain
from workbench.materials import grams
from workbench.materials.buckets import pieces, summed, table, tallied

DRAW = random.Random(0)
TEXTS = ["", *(" ".join(f"w{DRAW.randrange(40)}" for _ in range(DRAW.randrange(30))) for _ in range(50)), "one"]


def test_pieces_are_words_and_punctuation_that_stands_together() -> None:
    assert pieces("Why, WHY?! it's 3.5") == ["why", ",", "why", "?!", "it", "'", "s", "3", ".", "5"]


def test_a_large_number_of_buckets_gives_a_plain_count() -> None:
    tally = drain(tallied(TEXTS, len(TEXTS), 10**7))
    plain = Counter(group for text in TEXTS for group in [*text.split(), *pairwise(text.split())])
    assert sorted(tally[tally > 0].tolist()) == sorted(plain.values())


def test_sums_over_rows_are_the_tally_and_the_values() -> None:
    values = torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums, counts = drain(summed(TEXTS, len(TEXTS), values))
    tally = drain(tallied(TEXTS, len(TEXTS), 64))
    assert torch.allclose(sums.sum(), tally @ values) and int(counts.sum()) == int(tally.sum())
    assert counts.tolist() == [max(0, 2 * len(text.split()) - 1) for text in TEXTS]
    for row in (0, 7, len(TEXTS) - 1):
        alone = drain(tallied([TEXTS[row]], 1, 64))
        assert torch.allclose(alone @ values, sums[row])


def test_a_table_has_the_tally_of_each_text_as_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "TEXTS", 3)
    found = table(TEXTS, 64)
    assert found.shape == (len(TEXTS), 64) and table([], 64).shape == (0, 64)
    assert all(torch.equal(row, drain(tallied([text], 1, 64)).float()) for text, row in zip(TEXTS, found, strict=True))


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = drain(summed(TEXTS, len(TEXTS), values))
    monkeypatch.setattr(grams, "TEXTS", 3)
    assert all(torch.equal(one, other) for one, other in zip(whole, drain(summed(TEXTS, len(TEXTS), values)), strict=True))


def test_no_texts_have_no_sums() -> None:
    sums, counts = drain(summed([], 0, torch.ones(8)))
    assert len(sums) == len(counts) == 0 and drain(tallied([], 0, 8)).tolist() == [0.0] * 8
