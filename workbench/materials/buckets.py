"""Texts as counts of words and pairs of words in a fixed number of buckets, one pass over the texts, none of which is held.

Which bucket a word or a pair falls in is chance, but always the same. Knows no rows. Tags as in the project's notes: [R] read in the
published code (p-lambda/dsir).
"""

import re
from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.materials.grams import Batch, batches, groups

PIECES = re.compile(r"\w+|[^\w\s]+")  # words, and punctuation that stands together [R]


def pieces(text: str) -> list[str]:
    """Words and punctuation without case."""
    return PIECES.findall(text.lower())


def tallied(texts: Iterable[str], total: int, buckets: int) -> Generator[Progress, None, Tensor]:
    """(buckets,) float64 how many words and pairs of the texts fall in each bucket; `total` is the number of texts."""
    found = torch.zeros(buckets, dtype=torch.float64)
    for batch in batches(texts, pieces):
        found += torch.bincount(_buckets(batch, buckets)[0], minlength=buckets)
        yield Progress(batch.first + batch.count, total, "rows counted")
    return found


def summed(texts: Iterable[str], total: int, values: Tensor) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """((N,) float64, (N,) int64) of each text: the values of the buckets of its words and pairs, added up, and how many they are."""
    sums, counts = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.int64)]
    for batch in batches(texts, pieces):
        bucket, text = _buckets(batch, len(values))
        sums.append(torch.zeros(batch.count, dtype=torch.float64).index_add(0, text, values[bucket].double()))
        counts.append(torch.bincount(text, minlength=batch.count))
        yield Progress(batch.first + batch.count, total, "rows weighed")
    return torch.cat(sums), torch.cat(counts)


def table(texts: Iterable[str], buckets: int) -> Tensor:
    """(N, buckets) float32 how many words and pairs of each text fall in each bucket; all of it is held."""
    rows = [torch.zeros(0, buckets)]
    for batch in batches(texts, pieces):
        bucket, text = _buckets(batch, buckets)
        rows.append(torch.zeros(batch.count, buckets).index_put((text, bucket), torch.ones(len(bucket)), accumulate=True))
    return torch.cat(rows)


def _buckets(batch: Batch, buckets: int) -> tuple[Tensor, Tensor]:
    """(G,) the buckets of all words and pairs of the batch, and (G,) which text each is of."""
    found = [(group % buckets, batch.text[place]) for _, group, place in groups(batch, (1, 2))]
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([empty, *(bucket for bucket, _ in found)]), torch.cat([empty, *(text for _, text in found)])
