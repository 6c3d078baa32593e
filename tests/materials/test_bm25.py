"""BM25: scores are those of the formula, word by word, in whatever batches."""

import math
import random

import pytest
import torch

from workbench.materials import grams
from workbench.materials.bm25 import LENGTH, SATURATION, Index, Postings
from workbench.materials.grams import batches

DRAW = random.Random(0)
TEXTS = ["", *(" ".join(f"w{int(DRAW.expovariate(0.15))}" for _ in range(DRAW.randrange(40))) for _ in range(60)), "rare"]


def ids(text: str) -> torch.Tensor:
    return next(iter(batches([text]))).ids


def indexed(texts: list[str], query: str) -> Index:
    postings = Postings(ids(query))
    for batch in batches(texts):
        postings.add(batch)
    return postings.index()


def plainly(texts: list[str], query: str) -> list[float]:
    mean = sum(len(text.split()) for text in texts) / len(texts)
    found = [0.0] * len(texts)
    for word in set(query.split()):
        there = sum(word in text.split() for text in texts)
        for place, text in enumerate(texts):
            often, length = text.split().count(word), len(text.split())
            idf = math.log(1 + (len(texts) - there + 0.5) / (there + 0.5))
            found[place] += idf * often * (SATURATION + 1) / (often + SATURATION * (1 - LENGTH + LENGTH * length / mean))
    return found


@pytest.mark.parametrize("query", ["w0 w3 w7", "rare w1 w1 w1", "w20 nowhere", "nowhere"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    """The index is made for more words than the query has."""
    index = indexed(TEXTS, f"{query} w2 w5")
    assert index.scores(ids(query)).tolist() == pytest.approx(plainly(TEXTS, query), rel=1e-5)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query = "w0 w3 w7 rare"
    whole = indexed(TEXTS, query).scores(ids(query))
    monkeypatch.setattr(grams, "TEXTS", 7)
    assert torch.equal(indexed(TEXTS, query).scores(ids(query)), whole)


def test_a_worked_example() -> None:
    """Two texts of two words on average; 'a' stands in one of them, twice: log 2 · 2 · 2.5 / (2 + 1.5 · (0.25 + 0.75 · 3 / 2))."""
    index = indexed(["a a b", "c"], "a")
    assert index.scores(ids("a")).tolist() == pytest.approx([math.log(2) * 5 / (2 + 1.5 * 1.375), 0])


def test_a_word_counts_up_to_a_limit() -> None:
    index = indexed(["a " * 1000, "b"], "a")
    assert index.often.tolist() == [255]


def test_without_words_or_texts_there_are_no_scores() -> None:
    assert indexed(["", "a"], "?").scores(ids("?")).tolist() == [0, 0]
    assert indexed([], "a").scores(ids("a")).tolist() == []
