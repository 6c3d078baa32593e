"""`docs/claims.md` says what the record of claims says: every claim once, what is not checked or has changed as such, and all counted.

When a claim or the record has changed: `python scripts/write_claims.py`.
"""

import importlib
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from workbench.core.claim import FOUND, GAINS, VERDICT, Claim, Expected, Verdict, claims
from workbench.core.events import Noted, Table
from workbench.core.job import Job
from workbench.core.outcome import RECORD, Outcome, outcome, outcomes
from workbench.jobs import registry

ROOT = Path(__file__).parents[1]
ABOUT = {"says": ["Mixed."], "seconds": 120.0, "date": "2026-01-02", "versions": {"torch": "9.8"}}


def checked(claim: Claim, verdict: Verdict, gains: Sequence[float] = (1.0, 2.0)) -> Outcome:
    """A made up record."""
    tables = [
        Table(VERDICT, [], [[verdict, 0, len(gains)]]),
        Table(FOUND, ["model", "seed", "loss | x"], [[name, seed, gain] for name in claim.models for seed, gain in enumerate(gains)]),
        Table(GAINS, [], [[one.in_words(), "", gain, one.by, False] for one in claim.expected for gain in gains]),
    ]
    return outcome(claim, tables, **ABOUT)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("write_claims")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = spec_from_file_location("benchmark_of_claims", ROOT / "benchmarks" / "claims.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The page and the record that lie there.


def test_the_page_is_what_the_record_says(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.written(), "run `python scripts/write_claims.py`"


def test_no_claim_of_the_record_is_gone() -> None:
    assert set(outcomes()) <= set(claims()), f"take them out of {RECORD.name}"


@pytest.mark.parametrize("name", sorted(set(outcomes()) & set(claims())))
def test_a_verdict_on_record_follows_from_its_numbers(name: str) -> None:
    """By the rule, from the numbers of each seed that lie there."""
    claim, found = claims()[name], outcomes()[name]
    if not found.fits(claim):
        return  # the page lists it as not checked
    gains = [_gains(one, found) for one in claim.expected]
    holds = sum(all(gain > one.by for one, gain in zip(claim.expected, seed, strict=True)) for seed in zip(*gains, strict=True))
    assert (found.holds, found.seeds) == (holds, len(gains[0])) and set(found.numbers) == set(claim.models)
    assert found.verdict == ("shows here" if holds == found.seeds else "mixed" if holds else "does not show here")
    told = [[math.nan if gain is None else gain for gain in found.gains[one.in_words()]] for one in claim.expected]
    assert told == [pytest.approx([gain if math.isfinite(gain) else math.nan for gain in each], nan_ok=True) for each in gains]


def _gains(one: Expected, found: Outcome) -> list[float]:
    def said(model: str, seed: int) -> dict[str, float]:
        value = found.numbers[model][one.measure.heading()][seed]
        return dict.fromkeys(one.measure.of, math.nan if value is None else value)

    return [one.gain({model: said(model, seed) for model in (one.model, one.than)}) for seed in range(found.seeds)]


# Other records.


def test_every_claim_is_listed_once_and_counted(script: ModuleType, tmp_path: Path) -> None:
    first, second, third = list(claims().items())[:3]
    kept = {
        first[0]: checked(first[1], "shows here"),
        second[0]: checked(second[1], "does not show here"),
        third[0]: checked(third[1], "mixed"),
    }
    kept[third[0]] = kept[third[0]].model_copy(update={"fingerprint": "of another"})
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({name: found.model_dump(mode="json") for name, found in kept.items()}))
    text = script.written(path)
    assert f"**1 of {len(claims())} claims shows here.**" in text
    assert f"1 shows here, 1 does not show here, {len(claims()) - 2} not checked." in text
    listed = re.findall(r"^(?:\| |- )`(\w+)`", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(claims())
    assert f"- `{third[0]}`: changed since it was checked: `python benchmarks/claims.py --only {third[0]}`" in text
    assert "loss \\| x: " in text and "arXiv:" in text and "4 minutes of processor time" in text


def test_a_page_without_a_record_claims_nothing(script: ModuleType, tmp_path: Path) -> None:
    text = script.written(tmp_path / "none.json")
    assert f"**0 of {len(claims())} claims show here.**" in text and "| claim |" not in text
    assert len(re.findall(r"^- `\w+`: not checked: `python benchmarks/claims.py --only \w+`$", text, flags=re.MULTILINE)) == len(claims())


# Putting into it.


def test_what_a_check_leaves_is_put_on_record(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    name, claim = next(iter(claims().items()))
    homes = []

    def toy(spec: object, folder: Path, workspace: object) -> Iterator[object]:
        homes.append(folder)
        yield Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [["mixed", 0, 1]])  # after the first seed
        yield Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [["mixed", 1, 2]])
        yield Table(FOUND, ["model", "seed", "loss"], [["a", 0, 0.5], ["a", 1, None]])
        yield Table(GAINS, ["expected", "seed", "by", "needed", "holds"], [["x", "0", 0.5, 0.0, True], ["x", "1", None, 0.0, False]])
        yield Noted("Mixed: as it is.")

    monkeypatch.setitem(registry.JOBS, "claim", Job(toy, "device"))  # type: ignore[arg-type]
    found = benchmark.checked(name, 2)
    assert (found.verdict, found.holds, found.seeds) == ("mixed", 1, 2) and found.fits(claim) and found.says == ["Mixed: as it is."]
    assert found.numbers == {"a": {"loss": [0.5, None]}} and found.gains == {"x": [0.5, None]} and "torch" in found.versions
    assert not homes[0].exists()


def test_many_may_write_at_once_and_each_takes_the_place_of_its_own_alone(benchmark: ModuleType, tmp_path: Path) -> None:
    path, claim = tmp_path / "claims.json", next(iter(claims().values()))
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            pool.submit(benchmark.put, f"claim-{number:02d}", checked(claim, "mixed"), path)
    assert list(outcomes(path)) == [f"claim-{number:02d}" for number in range(40)], "none was lost, in order"
    benchmark.put("claim-07", checked(claim, "shows here"), path)
    again = json.loads(path.read_text())
    assert len(again) == 40 and {name for name, found in again.items() if found["verdict"] == "shows here"} == {"claim-07"}
    assert [file.name for file in tmp_path.iterdir()] == ["claims.json"]
