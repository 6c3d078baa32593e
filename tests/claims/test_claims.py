"""Every claim on the shelf: its method is there and takes part, its specs are whole, what is compared is made, it says how it differs."""

from collections.abc import Iterator
from typing import Any

import pytest

from workbench.core.claim import Claim, ClaimSpec, claims, find, judged
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import shelf
from workbench.core.spec import TrainSpec, parse_spec
from workbench.jobs.claim import jobs_of

ALL = claims()


@pytest.fixture(params=ALL)
def claim(request: pytest.FixtureRequest) -> Claim:
    return ALL[request.param]


def chosen(value: Any) -> Iterator[str]:
    """Every method that is named anywhere in a spec."""
    if isinstance(value, dict):
        yield from [value["method"]] if "method" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from chosen(inner)


def test_its_method_is_on_its_shelf_and_takes_part(claim: Claim) -> None:
    assert claim.method in shelf(claim.shelf)
    named = {name for _, job in jobs_of(claim, 0) for name in chosen(job.model_dump(mode="json"))}
    assert claim.method in named, f"no spec of the claim names {claim.method}"


def test_its_specs_are_whole_and_differ_between_seeds_in_the_seed_alone(claim: Claim) -> None:
    first, second = (dict(jobs_of(claim, seed)) for seed in (0, 1))
    assert list(first) == list(second)
    for name, job in first.items():
        if isinstance(job, TrainSpec):
            assert job.model == "pocket" and job.seed == 0 and second[name] == job.model_copy(update={"seed": 1})


def test_what_is_compared_is_made_before_it_is_asked(claim: Claim) -> None:
    made = {"pocket"}
    for name, given in claim.specs(0).items():
        named = [one["model"] for one in given.get("models", [])]
        assert set(named) <= made, f"{name} merges {named} before they are there"
        made.add(f"{'run' if given['kind'] == 'train' else 'model'}:{name}")
    asked = {model for given in claim.asks for model in given["models"]}
    assert asked | set(claim.models.values()) <= made
    assert {name for one in claim.expected for name in (one.model, one.than)} <= set(claim.models)


def test_no_number_at_all_shows_nothing(claim: Claim) -> None:
    """Not a verdict that is written down: it comes from the numbers."""
    assert judged(claim.expected, [{}, {}, {}]).verdict == "does not show here"


def test_it_says_what_it_is(claim: Claim) -> None:
    assert claim.says.endswith((".", ").")) and "demo model" in claim.differs and claim.differs.endswith(".")
    paper = shelf(claim.shelf)[claim.method].paper
    assert claim.paper == paper if paper else claim.paper
    assert 10 <= claim.seconds <= 120, "in about a minute"


def test_there_are_claims_and_an_unknown_one_is_told_which() -> None:
    assert len(ALL) >= 3
    with pytest.raises(WorkbenchError, match=r"there are: .*rslora"):
        find("rs_lora")
    with pytest.raises(SpecError, match="rslora"):
        parse_spec({"kind": "claim", "claim": "rs_lora"})
    assert ClaimSpec.parse({"claim": "rslora"}) == parse_spec({"kind": "claim", "claim": "rslora", "seeds": 3})
