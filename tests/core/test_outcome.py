"""The record that ships: it says what a check has left, knows when its claim has changed, and is counted honestly."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from workbench.core.claim import FOUND, GAINS, VERDICT, Claim, Expected, Measure
from workbench.core.events import Table
from workbench.core.outcome import Outcome, outcome, outcome_of, outcomes, tally

LOSS, RIGHT = Measure("loss", ("loss",)), Measure("right", ("a · right", "b · right"), unit="", more=True)
CLAIM = Claim(
    "merges", "linear", "arXiv:1", "It is so.", "P", {"new": {"steps": 3}, "old": {"steps": 2}}, {"new": "run:new", "old": "run:old"},
    (Expected(LOSS, "new", "old", 0.1), Expected(RIGHT, "new", "old")), 60, "The demo model.",
)  # fmt: skip
TABLES = [
    Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [["mixed", 1, 2]]),
    Table(FOUND, ["model", "seed", "loss", "right"], [
        ["new", 0, 0.5, 1.0], ["new", 1, None, 0.5], ["old", 0, 0.7, 0.0], ["old", 1, 0.9, 0.25],
    ]),
    Table(GAINS, ["expected", "seed", "by", "needed", "holds"], [
        ["it learns", "seed 0", 0.2, 0.1, True], ["it learns", "seed 1", None, 0.1, False],
        ["it is right", "seed 0", 1.0, 0.0, True], ["it is right", "seed 1", 0.25, 0.0, True],
    ]),
]  # fmt: skip
ABOUT = {"says": ["Mixed: as it is."], "seconds": 12.5, "date": "2026-01-02", "versions": {"torch": "9.8"}}
FOUND_OUT = outcome(CLAIM, TABLES, **ABOUT)


def test_it_holds_what_the_check_has_left() -> None:
    assert FOUND_OUT.numbers == {"new": {"loss": [0.5, None], "right": [1.0, 0.5]}, "old": {"loss": [0.7, 0.9], "right": [0.0, 0.25]}}
    assert FOUND_OUT.gains == {"it learns": [0.2, None], "it is right": [1.0, 0.25]}
    assert FOUND_OUT.found() == TABLES[1], "from which the same pictures are drawn"
    assert FOUND_OUT.in_brief() == "mixed, 1 of 2 seeds"
    assert FOUND_OUT.means() == {"loss": {"new": "0.5", "old": "0.8"}, "right": {"new": "0.75", "old": "0.125"}}


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"says": "It is otherwise.", "differs": "Much.", "seconds": 30, "paper": "arXiv:2", "mark": "R"}, True),
        ({"runs": {**CLAIM.runs, "new": {"steps": 4}}}, False),
        ({"asks": ({"kind": "evaluate", "models": ["run:new"]},)}, False),
        ({"models": {"new": "run:old", "old": "run:new"}}, False),
        ({"expected": CLAIM.expected[:1]}, False),
        ({"expected": (replace(CLAIM.expected[0], by=0.2), CLAIM.expected[1])}, False),
        ({"expected": (CLAIM.expected[0], replace(CLAIM.expected[1], measure=replace(RIGHT, more=False)))}, False),
        ({"expected": (CLAIM.expected[0], replace(CLAIM.expected[1], measure=replace(RIGHT, of=("a · right",))))}, False),
    ],
)
def test_it_fits_until_something_changes_that_decides(changes: dict[str, object], fits: bool, tmp_path: Path) -> None:
    path, now = tmp_path / "claims.json", replace(CLAIM, **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps({"toy": FOUND_OUT.model_dump(mode="json")}))
    assert FOUND_OUT.fits(now) is fits
    assert outcome_of("toy", now, path) == (FOUND_OUT if fits else None)


def test_nothing_on_record_is_no_error_and_nonsense_is_one(tmp_path: Path) -> None:
    assert outcomes(tmp_path / "none.json") == {} and outcome_of("toy", CLAIM, tmp_path / "none.json") is None
    with pytest.raises(ValidationError):
        Outcome(**{**FOUND_OUT.model_dump(), "verdict": "surely"})


def test_verdicts_are_counted_in_words_and_none_is_left_out() -> None:
    verdicts = ["shows here", "mixed", "shows here", "not checked", "does not show here"]
    assert tally(verdicts) == "2 show here, 1 mixed, 1 does not show here, 1 not checked"
    assert tally(["does not show here"] * 2 + ["shows here"]) == "1 shows here, 2 do not show here" and tally([]) == ""
