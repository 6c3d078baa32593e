"""BM25: how well texts answer queries of words. Rare words count more, and long texts must hold a word more often.

    score(q, x) = Σ_{w in q} idf(w) · n (k + 1) / (n + k (1 − b + b |x| / mean |x|)),    idf(w) = log(1 + (N − N_w + ½) / (N_w + ½))

n is how often x holds the word w, N_w in how many of the N texts it stands. A word that a query holds twice counts once [O]. Only words
are held that some query has, 5 bytes for each and each text that it stands in (twice that for a moment). Knows no rows. Tags as in the
project's notes: [K] known, [O] our choice.
"""

import math
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from workbench.materials.grams import Batch

SATURATION = 1.5  # k: how much a word that stands there again still adds [K]
LENGTH = 0.75  # b: how much long texts are held back [K]
OFTEN = 255  # times a word counts in a text


@dataclass(frozen=True)
class Index:
    """The words that queries may have, in ascending order, and of each the texts that hold it, in their order."""

    words: Tensor  # (V,) int64
    edges: Tensor  # (V + 1,) int64: those of word v lie from `edges[v]` to `edges[v + 1]`
    text: Tensor  # (P,) int32
    often: Tensor  # (P,) uint8
    held_back: Tensor  # (N,) float32: k (1 − b + b |x| / mean |x|)

    def scores(self, query: Tensor) -> Tensor:
        """(N,) float32; `query` are words of the index as int64, 0 where a text holds none of them."""
        found = torch.zeros(len(self.held_back))
        for word in torch.searchsorted(self.words, query.unique()).tolist():
            start, stop = int(self.edges[word]), int(self.edges[word + 1])
            text, often = self.text[start:stop], self.often[start:stop]
            idf = math.log(1 + (len(found) - (stop - start) + 0.5) / (stop - start + 0.5))
            share = self.held_back.index_select(0, text).add_(often)
            found.index_add_(0, text, torch.div(often, share, out=share), alpha=idf * (SATURATION + 1))  # no copy of the numbers is made
        return found


class Postings:
    """Collects, batch by batch, which texts hold which of the words (V,) int64 that queries have."""

    def __init__(self, words: Tensor):
        self._words, self._lengths = words.unique(), [torch.zeros(0, dtype=torch.int64)]
        self._counts = [torch.zeros(0, dtype=torch.int64)]  # of each text, how many different ones it holds
        self._word, self._often = [torch.zeros(0, dtype=torch.int32)], [torch.zeros(0, dtype=torch.uint8)]

    def add(self, batch: Batch) -> None:
        self._lengths.append(batch.lengths())
        if not len(self._words):
            self._counts.append(torch.zeros(batch.count, dtype=torch.int64))
            return
        word = torch.searchsorted(self._words, batch.ids).clamp(max=len(self._words) - 1)
        known = self._words[word] == batch.ids
        key, often = (batch.text[known] * len(self._words) + word[known]).unique(return_counts=True)
        self._counts.append(torch.bincount(key // len(self._words), minlength=batch.count))
        self._word.append((key % len(self._words)).int())
        self._often.append(often.clamp(max=OFTEN).to(torch.uint8))

    def index(self) -> Index:
        """The index of all texts that were added, which are let go here."""
        lengths, counts = torch.cat(self._lengths), torch.cat(self._counts)
        word, often = torch.cat(self._word), torch.cat(self._often)
        self._word, self._often = [], []
        edges = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        by_text = csr_array((often.numpy(), word.numpy(), edges.int().numpy()), shape=(len(lengths), len(self._words)))
        by_word = by_text.tocsc()
        mean = lengths.float().mean().clamp(min=1) if len(lengths) else torch.tensor(1.0)
        return Index(
            words=self._words,
            edges=torch.from_numpy(by_word.indptr).long(),
            text=torch.from_numpy(by_word.indices),
            often=torch.from_numpy(by_word.data),
            held_back=SATURATION * (1 - LENGTH + LENGTH * lengths / mean),
        )
