"""Texts that are nearly the same: a short signature of each (MinHash), likely pairs by bands of it (LSH), checked, and joined to groups.

Two texts are as alike as the share of their word groups that both have (Jaccard), and of two signatures about that share agrees: with 128
numbers to ±0.04 at one half (one standard deviation). The signatures are rensa's; everything else is here, on tensors of int64 whose
products wrap around. Knows no rows. Tags as in the project's notes: [K] known, [R] read in the library, [V] measured by us, [O] our choice.
"""

import hashlib
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice

import torch
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from workbench.core.events import Progress

NUMBERS = 128  # of a signature
BANDS = 16  # of 8 numbers each: a pair that is 0.7 alike is looked at with a chance of 0.61, 0.8 of 0.95, 0.9 of 1.00 [K]
TEXTS = 2000  # of which signatures are made at once
WORDS = 1 << 20  # whose hashes are held
FACTOR = -7046029254386353131  # odd, so that no word group's hash is lost in the product


def signatures(
    texts: Iterable[str], total: int, split: Callable[[str], Sequence[str]], size: int
) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """((N, 128) int32, (N,) bool: whether a text has any parts) of the N texts, of which there are `total`.

    A text is the set of all groups of `size` parts that follow one another in it, or one group where it has fewer parts; `split` makes
    the parts of a text. The same texts give the same signatures in every process.
    """
    found, there, known = array("I"), list[bool](), _Known()
    for batch in _batches(texts):
        parts, lengths = array("i"), list[int]()
        for text in batch:
            own = [known[part] for part in split(text)]
            own += [0] * (size - len(own) if own else 0)  # what is shorter than a group is one group
            parts.fromlist(own)
            lengths.append(len(own))
        groups, edges = _groups(known.hashes(parts), lengths, size)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(groups.numpy().view("uint64"), edges, num_perm=NUMBERS, seed=1)
        for row in matrix.to_rows():
            found.extend(row)
        there += [length > 0 for length in lengths]
        if len(known) > WORDS:
            known = _Known()
        yield Progress(len(there), total, "rows read")
    if not there:
        return torch.empty(0, NUMBERS, dtype=torch.int32), torch.empty(0, dtype=torch.bool)
    return torch.frombuffer(found, dtype=torch.int32).view(-1, NUMBERS), torch.tensor(there)


def pairs(signs: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """((P, 2) int64, (P,) float32): texts of which a band is equal, the earlier one first, and the share of their signatures that agrees.

    Of more than two texts with an equal band each is paired with the first of them and with the one before it, and not with all [O].
    """
    found = [torch.empty(0, 2, dtype=torch.int64)]
    for band in signs.view(-1, BANDS, NUMBERS // BANDS).unbind(1) if len(signs) else ():
        key = torch.zeros(len(band), dtype=torch.int64)
        for column in band.unbind(1):
            key = (key + column) * FACTOR
        order = key.argsort(stable=True)
        key = key[order]
        again = torch.cat([torch.tensor([False]), (key[1:] == key[:-1]) & there[order[1:]]])  # texts without parts are like none
        places = torch.arange(len(key))
        first = torch.where(again, 0, places).cummax(0).values
        later = places[again]
        found += [torch.stack([order[first[later]], order[later]], 1), torch.stack([order[later - 1], order[later]], 1)]
    two = torch.cat(found).unique(dim=0)
    return two, torch.cat([(signs[some[:, 0]] == signs[some[:, 1]]).float().mean(1) for some in two.split(1 << 16)])


def joined(count: int, two: Tensor) -> Tensor:
    """(count,) int64: of each text the first one of those that it is joined with, over any number of pairs; itself if with none."""
    ones = torch.ones(len(two), dtype=torch.int8)
    graph = coo_array((ones.numpy(), (two[:, 0].numpy(), two[:, 1].numpy())), shape=(count, count))
    label = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    first = torch.full((count,), count, dtype=torch.int64).scatter_reduce(0, label, torch.arange(count), "amin")
    return first[label]


class _Known(dict[str, int]):
    """A number from 1 for each part of a text, looked up, because few words are most of a language; small ones, which are handled twice as
    fast as the 64 bits that stand for the part. 0 stands for no part."""

    def __init__(self) -> None:
        super().__init__()
        self._hashes = array("Q", [0])

    def __missing__(self, part: str) -> int:
        self._hashes.append(int.from_bytes(hashlib.blake2b(part.encode("utf-8", "replace"), digest_size=8).digest(), "big"))
        self[part] = len(self._hashes) - 1
        return self[part]

    def hashes(self, numbers: array) -> Tensor:
        """(n,) int64 the 64 bits of each number."""
        if not numbers:
            return torch.empty(0, dtype=torch.int64)
        table = torch.frombuffer(bytearray(self._hashes), dtype=torch.int64)  # a copy: an array that is looked at cannot grow
        return table[torch.frombuffer(numbers, dtype=torch.int32)]


def _groups(flat: Tensor, lengths: Sequence[int], size: int) -> tuple[Tensor, list[int]]:
    """The hashes of all groups, text after text, and where each text's begin and end; a text has `size` parts at least, or none."""
    long = torch.tensor(lengths)
    places = max(0, len(flat) - size + 1)
    whole = torch.zeros(places, dtype=torch.int64)
    for step in range(size):
        whole.mul_(FACTOR).add_(flat[step : step + places])
    ends = long.cumsum(0).repeat_interleave(long)[:places]  # of each part, where its text ends: a group may not reach beyond
    counts = (long - size + 1).clamp(min=0)
    return whole[torch.arange(size, size + places) <= ends], [0, *counts.cumsum(0).tolist()]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(islice(rest, TEXTS)):
        yield batch
