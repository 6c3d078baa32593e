"""Foretelling: what words are worth is found, an example that is left out is foretold as by a fit without it, and chance is told."""

import math
import random

import pytest
import torch

from workbench.core.job import drain
from workbench.materials import foretold
from workbench.materials.buckets import table
from workbench.materials.foretold import fitted

DRAW = random.Random(0)
WORTH = {f"w{place}": DRAW.gauss(1, 1) for place in range(30)}


def text(words: int) -> str:
    return " ".join(DRAW.choice(list(WORTH)) for _ in range(words))


def worth(said: str) -> float:
    words = said.split()
    return 5 + sum(WORTH[word] for word in words) / math.sqrt(max(1, 2 * len(words) - 1))


TEXTS = [text(DRAW.randrange(3, 20)) for _ in range(300)]
NUMBERS = torch.tensor([worth(said) for said in TEXTS])


def test_what_words_are_worth_is_found() -> None:
    line, new = fitted(TEXTS, NUMBERS), [text(DRAW.randrange(3, 20)) for _ in range(100)]
    found = drain(line.foretold(new, len(new)))
    expected = torch.tensor([worth(said) for said in new], dtype=torch.float64)
    assert line.sure > 0.9 and torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.9
    assert abs(float(found.mean() - expected.mean())) < 0.2, "the base is learnt too"
    slope = torch.cov(torch.stack([found, expected]))[0, 1] / found.var()
    assert 0.8 < slope < 1.25, "and how long a text is does not matter"


def test_an_example_is_foretold_as_by_a_fit_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretold, "BUCKETS", 512)
    monkeypatch.setattr(foretold, "TRIED", (0.1,))
    texts, numbers = TEXTS[:12], NUMBERS[:12].double()
    counts = table(texts, 512).double()
    shares = counts / counts.sum(1, keepdim=True).sqrt()
    unit = 0.1 * (shares - shares.mean(0)).square().sum() / 12  # λ as it is of all twelve
    without = list[float]()
    for out in range(12):
        others = [place for place in range(12) if place != out]
        middle, mean = shares[others].mean(0), numbers[others].mean()
        apart = shares[others] - middle
        weights = torch.linalg.solve(apart.T @ apart + unit * torch.eye(512, dtype=torch.float64), apart.T @ (numbers[others] - mean))
        without.append(float(mean + (shares[out] - middle) @ weights))
    expected = torch.corrcoef(torch.stack([numbers, torch.tensor(without, dtype=torch.float64)]))[0, 1]
    assert fitted(texts, numbers).sure == pytest.approx(float(expected), abs=1e-6)


def test_of_chance_nothing_is_foretold() -> None:
    numbers = torch.randn(300, generator=torch.Generator().manual_seed(0))
    line = fitted(TEXTS, numbers)
    assert line.sure < 0.1 and float(drain(line.foretold(TEXTS, 300)).std()) < 0.3


def test_too_little_to_go_by_has_no_correlation() -> None:
    for texts, numbers in (([], []), (["a"], [1.0]), (["a", "b"], [1.0, 2.0]), (["a"] * 5, [1.0] * 5), (["", "", ""], [1.0, 2.0, 3.0])):
        assert not fitted(texts, torch.tensor(numbers)).sure > 0


def test_a_text_without_words_has_no_number() -> None:
    line = fitted(TEXTS, NUMBERS)
    found = drain(line.foretold(["", TEXTS[0], "  "], 3))
    assert found.isnan().tolist() == [True, False, True] and len(drain(line.foretold([], 0))) == 0
    assert fitted([*TEXTS, ""], torch.cat([NUMBERS, torch.zeros(1)])).sure > 0.8
