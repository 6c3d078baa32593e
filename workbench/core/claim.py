"""A paper's claim as a small experiment on the demo model, and the rule by which its numbers decide. Knows no claim by name.

One file a paper under `workbench/claims/` holds a constant `CLAIM`. What is trained, merged and asked stands there as plain specs, which a
person could run one by one; `jobs/claim.py` runs them once with each seed. The verdict is computed from what came out, by one rule for all
claims (`judged`). What it is not: a verdict about the paper. The demo model is tiny, and most papers speak of models a thousand times its
size.
"""

import hashlib
import importlib
import json
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, field_validator

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.parts import Spec
from workbench.core.picture import Picture
from workbench.core.words import count, number

SEEDS = 3  # of a check, where nobody says how many [O]
Verdict = Literal["shows here", "mixed", "does not show here"]
Mark = Literal["P", "R", "N", "D"]
MARKS: Mapping[Mark, str] = {"P": "as the paper says", "R": "as the authors' code has it", "N": "as others report", "D": "derived"}
"""Where it stands what a claim says."""
VERDICT, FOUND, GAINS, SPECS = "verdict", "numbers of each seed", "what was expected", "what was run"
PICTURES = (Picture(GAINS, "bars", "By how much it is better, with each seed", x="seed", y="by", each="expected", mark=0.0),)
"""Tables that a check leaves, and how the Runs tab draws them."""
Numbers = Mapping[str, Mapping[str, float]]
"""By model, as `Claim.models` calls it, what its runs said of it."""


@dataclass(frozen=True)
class Measure:
    """What models are compared by: the mean of some numbers, by the names under which runs say them. `more` of it is better, or less."""

    title: str
    of: tuple[str, ...]
    unit: str = "nats per token"
    more: bool = False

    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def value(self, said: Mapping[str, float]) -> float:
        """NaN where one of the numbers was not said."""
        return fmean(said.get(name, math.nan) for name in self.of)


@dataclass(frozen=True)
class Expected:
    """It holds with a seed where `model` is better than `than` by more than `by`; below 0, where it is worse by less than that."""

    measure: Measure
    model: str
    than: str
    by: float = 0.0

    def gain(self, found: Numbers) -> float:
        """By how much `model` is the better one; a model whose number is not finite is worse than any other."""
        own, other = (self.measure.value(found.get(name, {})) for name in (self.model, self.than))
        if not (math.isfinite(own) and math.isfinite(other)):
            return math.inf if math.isfinite(own) else -math.inf
        return own - other if self.measure.more else other - own

    def in_words(self) -> str:
        """`LoRA+ has less validation loss than LoRA, by more than 0.05`."""
        how = "more" if self.measure.more else "less"
        if self.by < 0:
            worse = "less" if self.measure.more else "more"
            return f"{self.model} has {worse} {self.measure.title} than {self.than} by at most {number(-self.by)}"
        return f"{self.model} has {how} {self.measure.title} than {self.than}" + (f", by more than {number(self.by)}" if self.by else "")


@dataclass(frozen=True)
class Claim:
    """shelf, method: whose card it stands on. says: the claim in one sentence, as the paper or our notes have it; mark: where that stands.

    runs: specs of what is trained and merged, by name and in order; `run:NAME` and `model:NAME` are those before. asks: evaluations and
    inspections of them. models: title → reference of those that are compared. seconds: of processor time that `SEEDS` took us.
    differs: how the experiment differs from the paper's. The seed and the name of each run are filled in.
    """

    shelf: str
    method: str
    paper: str
    says: str
    mark: Mark
    runs: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, str]
    expected: tuple[Expected, ...]
    seconds: int
    differs: str
    asks: tuple[Mapping[str, Any], ...] = ()

    def measures(self) -> list[Measure]:
        return list(dict.fromkeys(one.measure for one in self.expected))

    def specs(self, seed: int) -> dict[str, dict[str, Any]]:
        """Every run's spec as plain values, with this seed."""
        found = {}
        for name, spec in self.runs.items():
            seeded = {"seed": seed} if spec.get("kind", "train") == "train" else {}
            found[name] = {"kind": "train", **spec, "name": name, **seeded}
        return found

    def rule(self) -> str:
        """What has to hold with every seed."""
        return f"It shows here if with every seed {', and '.join(one.in_words() for one in self.expected)}."

    def fingerprint(self) -> str:
        """Of all that decides the verdict: what is run, asked and compared, and the rule; not of what is said about it."""
        held = [[one.measure.of, one.measure.more, one.model, one.than, one.by] for one in self.expected]
        told = json.dumps([self.specs(0), self.asks, self.models, held], sort_keys=True, default=dict)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Judged:
    """`holds`: with how many seeds all that is expected holds; `gains`: of each expectation one a seed."""

    verdict: Verdict
    holds: int
    gains: tuple[tuple[float, ...], ...]


def judged(expected: Sequence[Expected], found: Sequence[Numbers]) -> Judged:
    """It shows if all that is expected holds with every seed, it does not show if that is so with none, and else it is mixed."""
    gains = tuple(tuple(one.gain(numbers) for numbers in found) for one in expected)
    holds = sum(all(gain > one.by for one, gain in zip(expected, seed, strict=True)) for seed in zip(*gains, strict=True))
    verdict: Verdict = "does not show here" if not holds else "shows here" if holds == len(found) else "mixed"
    return Judged(verdict, holds, gains)


def in_words(claim: Claim, found: Sequence[Numbers]) -> list[str]:
    """The verdict, then each comparison with its spread over the seeds, then what so few seeds are worth."""
    result = judged(claim.expected, found)
    seeds = count(len(found), "seed")
    said = [f"{_capital(result.verdict)}: all that is expected holds with {result.holds} of {seeds}."]
    for one, gains in zip(claim.expected, result.gains, strict=True):
        means = " and ".join(mean for name in (one.model, one.than) if (mean := _mean(one.measure, name, found)))
        right = f"as expected with {sum(gain > one.by for gain in gains)} of {len(found)}"
        said.append(f"{_capital(one.measure.heading())}: {f'{means} on average; ' if means else ''}{_better(one, gains)}, {right}.")
    return [*said, f"Were there no difference, all of {seeds} would agree by chance in one case of {2 ** len(found)}."]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _mean(measure: Measure, name: str, found: Sequence[Numbers]) -> str:
    """`LoRA+ has 0.3`, over the seeds with which it has a finite number; empty where there is none."""
    there = [value for numbers in found if math.isfinite(value := measure.value(numbers.get(name, {})))]
    return f"{name} has {number(fmean(there))}" if there else ""


def _better(one: Expected, gains: Sequence[float]) -> str:
    """`LoRA+ is better by 0.2, from 0.1 to 0.3`; how often one of the two had no finite number."""
    there, broken = [gain for gain in gains if math.isfinite(gain)], []
    for name, end in ((one.than, math.inf), (one.model, -math.inf)):
        if end in gains:
            broken.append(f"{name} has no finite number with {gains.count(end)} of {count(len(gains), 'seed')}")
    if not there:
        return " and ".join(broken)
    mean = fmean(there)
    sign, word = (1, "better") if mean >= 0 else (-1, "worse")
    ends = sorted(sign * gain for gain in there)
    spread = f", from {number(ends[0])} to {number(ends[-1])}" if len(there) > 1 else ""
    return ", ".join([f"{one.model} is {word} by {number(sign * mean)}{spread}", *broken])


def training(data: str, steps: int, **settings: Any) -> dict[str, Any]:
    """The spec of a short training run that measures, answers and saves only at its end, with these settings."""
    seldom = dict.fromkeys(("evaluate_every", "sample_every", "checkpoint_every"), steps)
    return {"kind": "train", "data": {"path": data}, "steps": steps, "probes": [], "prompts": ["double: sun moon"], **seldom, **settings}


CLAIMS: dict[str, Claim] = {}
"""The registry: name → claim. Read through `claims()` and `find()`."""


def claims() -> dict[str, Claim]:
    """Every claim by the name of its file, sorted."""
    root = importlib.import_module("workbench.claims")
    for module in pkgutil.iter_modules(root.__path__):
        CLAIMS.setdefault(module.name, importlib.import_module(f"{root.__name__}.{module.name}").CLAIM)
    return dict(sorted(CLAIMS.items()))


def find(name: str) -> Claim:
    known = claims()
    if name not in known:
        raise WorkbenchError(f"there is no claim called {name!r}; there are: {', '.join(known)}")
    return known[name]


class ClaimSpec(Spec):
    """A paper's claim, checked on the demo model."""

    kind: Literal["claim"] = "claim"
    name: str = Field("", max_length=80)
    claim: str = Field(description="the claim's name; python -m workbench claim lists them")
    seeds: int = knob(SEEDS, ge=1, le=20, help="how often everything is trained, each time with another seed")

    @classmethod
    def of(cls, claim: str, seeds: int = SEEDS) -> "ClaimSpec":
        """The check of this claim, under its name."""
        return cls.parse({"name": f"claim: {claim}"[:80], "claim": claim, "seeds": seeds})  # type: ignore[return-value]

    @field_validator("claim")
    @classmethod
    def _is_known(cls, given: str) -> str:
        try:
            find(given)
        except WorkbenchError as error:
            raise ValueError(str(error)) from error
        return given
