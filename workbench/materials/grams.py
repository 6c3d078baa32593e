"""Words of texts as numbers, and the groups of words that follow one another, many texts at once.

A group's number follows from its words and their order alone, so that the same group has the same number in every text and in every
process. What it is not: it keeps no text beyond the batch at hand and knows no rows. Tags as in the project's notes: [O] our choice.
"""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TEXTS = 2000  # at once
WORDS = 1 << 17  # at once, beyond which a batch ends with the text at hand
KNOWN = 1 << 20  # different words whose numbers are held
FACTOR = -7046029254386353131  # odd, so that no word's number is lost in the product
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
BETWEEN = {code: " " for code in range(128) if not chr(code).isalnum()}
ACCENTS = re.compile("[\u0300-\u036f]+")


def words(text: str) -> list[str]:
    """The words without case, accents and punctuation; in scripts that put no spaces between words, each letter is one [O]."""
    if text.isascii():
        return text.translate(BETWEEN).casefold().split()  # what the pattern finds, in half the time
    return WORD.findall(ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold())


@dataclass(frozen=True)
class Batch:
    """Some texts that follow one another, as their words: `first` is the number of the first text, `count` how many texts there are."""

    first: int
    count: int
    words: list[str]
    ids: Tensor  # (W,) int64: 64 bits for each word
    text: Tensor  # (W,) int64: which text of the batch the word is of, from 0

    def lengths(self) -> Tensor:
        """(count,) how many words each text has."""
        return torch.bincount(self.text, minlength=self.count)


def batches(texts: Iterable[str], split: Callable[[str], Sequence[str]] = words) -> Iterator[Batch]:
    """The texts in batches small enough for a sign of life after each; `split` makes the words of a text."""
    numbers, first, said, lengths = _Numbers(), 0, list[str](), list[int]()
    for text in texts:
        found = split(text)
        said.extend(found)
        lengths.append(len(found))
        if len(lengths) == TEXTS or len(said) >= WORDS:
            yield _batch(numbers, first, said, lengths)
            first, said, lengths = first + len(lengths), [], []
    if lengths:
        yield _batch(numbers, first, said, lengths)


def groups(batch: Batch, lengths: Collection[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Of each of the lengths: it, the (G,) int64 groups of so many words that lie within a text, and (G,) where each one begins."""
    whole = torch.zeros_like(batch.ids)
    for length in range(1, min(max(lengths, default=0), len(batch.ids)) + 1):
        count = len(batch.ids) - length + 1
        whole = whole[:count] * FACTOR + batch.ids[length - 1 :]
        if length in lengths:
            places = (batch.text[:count] == batch.text[length - 1 :]).nonzero()[:, 0]
            yield length, whole[places], places


def _batch(numbers: "_Numbers", first: int, said: list[str], lengths: list[int]) -> Batch:
    ids = torch.frombuffer(array("q", list(map(numbers.__getitem__, said))), dtype=torch.int64) if said else torch.empty(0).long()
    if len(numbers) > KNOWN:
        numbers.clear()
    return Batch(first, len(lengths), said, ids, torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)))


class _Numbers(dict[str, int]):
    """64 bits for each word; looked up, because few words are most of a language."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
        self[word] = found = int.from_bytes(digest, "big", signed=True)
        return found
