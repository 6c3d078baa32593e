"""What came out of the claims on our machine: the record that ships with the program, and whether it still fits its claim.

`benchmarks/claims.py` writes it; the Papers tab, `python -m workbench claim` and `docs/claims.md` read it. What it is not: what was checked
in a person's own workspace (that stands in the store), or the rule by which numbers decide (`core/claim.py`).
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from workbench.core.claim import FOUND, GAINS, VERDICT, Claim, Verdict
from workbench.core.events import Table
from workbench.core.words import count, number
from workbench.core.workspace import ASSETS

RECORD = ASSETS / "claims.json"
NOT_CHECKED = "not checked"
MANY = {"shows here": "show here", "does not show here": "do not show here"}
Seeds = list[float | None]
"""A number for each seed; none where it was not finite."""


class Outcome(BaseModel):
    """Of one claim. numbers: by model and measure; gains: by what was expected; fingerprint: of the specs and rule that were checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    verdict: Verdict
    holds: int
    seeds: int
    numbers: dict[str, dict[str, Seeds]]
    gains: dict[str, Seeds]
    says: list[str]
    seconds: float
    date: str
    versions: dict[str, str]
    fingerprint: str

    def fits(self, claim: Claim) -> bool:
        """Not so where the claim's specs or its rule have changed since."""
        return self.fingerprint == claim.fingerprint()

    def found(self) -> Table:
        """The numbers as the check itself leaves them."""
        measures = list(dict.fromkeys(measure for said in self.numbers.values() for measure in said))
        rows = [
            [model, seed, *(said[measure][seed] for measure in measures)]
            for model, said in self.numbers.items()
            for seed in range(self.seeds)
        ]
        return Table(FOUND, ["model", "seed", *measures], rows)

    def in_brief(self) -> str:
        """`shows here, 3 of 3 seeds`."""
        return f"{self.verdict}, {self.holds} of {count(self.seeds, 'seed')}"

    def means(self) -> dict[str, dict[str, str]]:
        """By measure and model, the mean over the seeds that have a number, in words."""
        turned: dict[str, dict[str, str]] = {}
        for model, said in self.numbers.items():
            for measure, each in said.items():
                there = [value for value in each if value is not None]
                turned.setdefault(measure, {})[model] = number(fmean(there) if there else math.nan)
        return turned


def outcome(claim: Claim, tables: Sequence[Table], **about: Any) -> Outcome:
    """What a check has found, from the tables that it left; `about`: its sentences, seconds, date and versions."""
    by_name = {table.name: table for table in tables}
    verdict, holds, seeds = by_name[VERDICT].rows[0]
    numbers: dict[str, dict[str, Seeds]] = {}
    for model, _, *values in by_name[FOUND].rows:
        for measure, value in zip(by_name[FOUND].columns[2:], values, strict=True):
            numbers.setdefault(model, {}).setdefault(measure, []).append(value)
    gains: dict[str, Seeds] = {}
    for expected, _, gain, *_ in by_name[GAINS].rows:
        gains.setdefault(expected, []).append(gain)
    own = {"verdict": verdict, "holds": holds, "seeds": seeds, "numbers": numbers, "gains": gains}
    return Outcome(**own, fingerprint=claim.fingerprint(), **about)


@lru_cache(maxsize=4)
def outcomes(path: Path = RECORD) -> Mapping[str, Outcome]:
    """By claim; empty where nothing is on record."""
    return {name: Outcome(**given) for name, given in json.loads(path.read_text(encoding="utf-8")).items()} if path.exists() else {}


def outcome_of(name: str, claim: Claim, path: Path = RECORD) -> Outcome | None:
    """What is on record of the claim as it stands; nothing where the record is of an older one."""
    found = outcomes(path).get(name)
    return found if found and found.fits(claim) else None


def tally(verdicts: Iterable[str]) -> str:
    """`9 show here, 2 mixed, 1 does not show here, 3 not checked`; what there is none of is left out."""
    counted = Counter(verdicts)
    return ", ".join(count(counted[name], name, MANY.get(name, name)) for name in (*get_args(Verdict), NOT_CHECKED) if counted[name])
