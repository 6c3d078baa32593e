"""What people vote when they compare answers without names, and how good the models are by that: pure functions of the votes.

Two figures a model. Elo as chess knows it: each vote moves points from those who lose to the one who wins, so the order of the
votes counts. And strengths fitted to all votes at once, in whatever order they came: the choice model of Luce, which for two
models is Bradley and Terry's. Knows no database and no page. A model is known by its reference: the same weights under another
reference are another model, because nothing here can tell.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Outcome = Literal["best", "tie", "bad"]

START, SCALE, K = 1000.0, 400.0, 32.0
"""Where everybody begins, the points that stand for ten to one, and how many of them one vote moves at most."""
PRIOR = 0.5  # what everybody is given of one more vote among all, which they share; it keeps the unbeaten finite
ROUNDS, CLOSE = 10_000, 1e-10
Z = 1.959964  # standard deviations on either side of which 95 % lie


@dataclass(frozen=True)
class Vote:
    """One vote. `models` maps the reference of each model that was shown to its name then; `winner` is empty without a best one.

    `run` is the comparison that was voted on; it may have been deleted since, the vote stays.
    """

    run: str
    prompt: str
    models: Mapping[str, str]
    outcome: Outcome
    winner: str = ""
    seed: int = 0
    decoder: Mapping[str, Any] = field(default_factory=dict)
    wall: datetime | None = None

    def shares(self) -> dict[str, float]:
        """Who gets how much of this vote: all to the best one; a tie, and answers that are all bad, divide it."""
        if self.outcome == "best":
            return {model: float(model == self.winner) for model in self.models}
        return dict.fromkeys(self.models, 1 / len(self.models))


@dataclass(frozen=True)
class Rating:
    """One line of the table. `share` of the votes it was shown in is its own, between `low` and `high` with 95 %; `even` is what
    a model as good as the others gets: a half beside one other, a quarter beside three."""

    model: str
    label: str
    votes: int
    won: int
    shared: int
    share: float
    low: float
    high: float
    even: float
    elo: float
    strength: float


def ratings(votes: Sequence[Vote]) -> list[Rating]:
    """Every model that was voted on, the strongest first; `votes` stand in the order in which they were given."""
    labels = {model: label for vote in votes for model, label in vote.models.items()}  # the newest name stands
    by_vote, at_once = elo(votes), strengths(votes)
    found = [_rating(model, label, votes, by_vote[model], at_once[model]) for model, label in labels.items()]
    return sorted(found, key=lambda rating: (-rating.strength, rating.label))


def _rating(model: str, label: str, votes: Sequence[Vote], by_vote: float, at_once: float) -> Rating:
    shown = [vote for vote in votes if model in vote.models]
    got = math.fsum(vote.shares()[model] for vote in shown)
    won = sum(vote.winner == model for vote in shown)
    shared = sum(vote.outcome != "best" for vote in shown)
    even = math.fsum(1 / len(vote.models) for vote in shown) / len(shown)
    low, high = wilson(got, len(shown))
    return Rating(model, label, len(shown), won, shared, got / len(shown), low, high, even, by_vote, at_once)


def elo(votes: Iterable[Vote], k: float = K) -> dict[str, float]:
    """Points after all votes, one after the other; what one gains the others lose.

    $$r_i \\leftarrow r_i + \\tfrac{k}{n-1} \\sum_{j \\ne i} \\left(s_{ij} - \\frac{1}{1 + 10^{(r_j - r_i)/400}}\\right)$$

    A vote among n models is n − 1 duels of the best one, or a draw of everybody with everybody; each counts 1/(n − 1).
    """
    points: defaultdict[str, float] = defaultdict(lambda: START)
    for vote in votes:
        before = {model: points[model] for model in vote.models}
        for one, other in _duels(vote):
            won = 0.5 if vote.outcome != "best" else 1.0
            moved = k / (len(before) - 1) * (won - 1 / (1 + 10 ** ((before[other] - before[one]) / SCALE)))
            points[one] += moved
            points[other] -= moved
    return dict(points)


def _duels(vote: Vote) -> list[tuple[str, str]]:
    """(who won, who lost) of each pair that a vote says something about; without a best one, every pair once."""
    models = list(vote.models)
    if vote.outcome == "best":
        return [(vote.winner, other) for other in models if other != vote.winner]
    return [(one, other) for place, one in enumerate(models) for other in models[place + 1 :]]


def strengths(votes: Sequence[Vote], prior: float = PRIOR) -> dict[str, float]:
    """Points that make all votes together likeliest, on the scale of Elo: 400 more is ten to one.

    $$P(i \\text{ is best of } S) = \\frac{\\pi_i}{\\sum_{j \\in S} \\pi_j}$$

    Found by minorise and maximise (Hunter, Annals of Statistics 32, 2004): each π becomes what was won over what the others leave to
    be won, until nothing moves. Only ratios of π say anything, so the mean of all points is 1000.
    """
    fields = Counter(tuple(sorted(vote.models)) for vote in votes)
    everybody = sorted({model for field in fields for model in field})
    won = {model: math.fsum([prior, *(vote.shares().get(model, 0.0) for vote in votes)]) for model in everybody}
    weights = [*fields.items(), (tuple(everybody), prior * len(everybody))]
    found = dict.fromkeys(everybody, 1.0)
    for _ in range(ROUNDS if votes else 0):
        before, found = found, _better(found, won, weights)
        if all(math.isclose(found[model], before[model], rel_tol=CLOSE) for model in found):
            break
    return {model: START + SCALE * math.log10(value) for model, value in found.items()}


def _better(found: Mapping[str, float], won: Mapping[str, float], weights: Sequence[tuple[tuple[str, ...], float]]) -> dict[str, float]:
    """One round: what each has won over its part of what there was to win; the geometric mean stays 1."""
    parts = [(field, often / math.fsum(found[model] for model in field)) for field, often in weights]
    better = {model: won[model] / math.fsum(part for field, part in parts if model in field) for model in found}
    mean = math.exp(math.fsum(math.log(value) for value in better.values()) / len(better))
    return {model: value / mean for model, value in better.items()}


def wilson(won: float, of: int, z: float = Z) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share: within [0, 1], and sensible for few votes and for none lost."""
    share, spread = won / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)
