"""A claim on its card: what is said before, while and after it is checked, what it costs here, and that nothing foreign becomes markup."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import yaml

from workbench.core.claim import FOUND, GAINS, SPECS, VERDICT, Claim, Expected, Measure, claims
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.method import SHELVES
from workbench.core.outcome import outcome
from workbench.core.spec import TrainSpec
from workbench.runs import text
from workbench.runs.live import Live
from workbench.runs.records import Run
from workbench.ui.claiming import Record, cost, pace_of, recipe_of, record_of, section, spec_of, word
from workbench.ui.dots import dots
from workbench.ui.found import tables
from workbench.ui.merging import taken_up
from workbench.ui.tabs.papers import cards_of

EVIL = "<script>alert(1)</script>${alert(2)}"
LOSS = Measure(f"loss {EVIL}", ("loss",))
CLAIM = Claim(
    "merges", "wise_ft", f"arXiv {EVIL}", f"It is so {EVIL}.", "P",
    {"a": {"kind": "train"}, "b": {"kind": "train"}, "both": {"kind": "merge"}}, {EVIL: "run:a", "b": "run:b"},
    (Expected(LOSS, EVIL, "b"),), 60, f"It differs {EVIL}.",
)  # fmt: skip
START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
TABLES = [
    Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [["mixed", 2, 3]]),
    Table(FOUND, ["model", "seed", LOSS.title], [[EVIL, 0, 0.5], [EVIL, 1, None], ["b", 0, 0.7], ["b", 1, 0.9]]),
    Table(GAINS, ["expected", "seed", "by", "needed", "holds"], [[EVIL, "seed 0", 0.2, 0.0, True]]),
    Table(SPECS, ["what", "kind", "spec"], [[EVIL, "train", f"name: '{EVIL}'\nsteps: 7\n"], ["both", "merge", "kind: merge\n"]]),
]
NOTES = [Noted("The claim is mixed."), Noted(f"Better by 0.2 {EVIL}.")]
OURS = outcome(
    CLAIM, [*TABLES[:1], Table(FOUND, TABLES[1].columns, [[EVIL, 0, 0.5], [EVIL, 1, None], [EVIL, 2, 0.1]]), TABLES[2]],
    says=["Mixed.", f"Better {EVIL}."], seconds=50.0, date="2026-01-02", versions={},
)  # fmt: skip


def run(id: str = "0001", status: str = "finished", claim: str = "toy", took: float = 90, **changes: Any) -> Run:
    given = {"name": "claim: toy", "kind": "claim", "step": 1, "total": 1, "spec": {"claim": claim, "seeds": 3}, "message": EVIL,
             "traceback": "", "created": START, "started": START, "ended": START + timedelta(seconds=took), "metrics": {}}  # fmt: skip
    return Run(id=id, status=status, **{**given, **changes})  # type: ignore[arg-type]


def live(id: str = "0002", status: str = "running") -> Live:
    return Live(id, "claim", "claim: toy", status, 12, 60, 31.0, {}, f"{EVIL}, seed 1 of 3: step")  # type: ignore[arg-type]


def whole(tables: list[Table] = TABLES) -> Record:
    return Record(None, run(), run(), tables, NOTES)


def test_before_it_is_checked_it_says_what_it_costs() -> None:
    drawn = section("toy", CLAIM, Record(), 0.0)
    assert 'data-event="check" data-claim="toy"' in drawn and "Check it here" in drawn and "verdict" not in drawn
    assert "6 trainings and 3 merges of the demo model, 3 seeds; about 1 min 0 s on one core" in drawn


def test_once_a_claim_was_checked_the_cost_is_this_machines() -> None:
    slow = run(claim=next(iter(claims())), took=2 * next(iter(claims().values())).seconds)
    assert pace_of([]) == 0 and pace_of([run(status="failed"), run(claim="gone")]) == 0
    assert pace_of([slow]) == pytest.approx(2.0)
    assert cost(CLAIM, pace_of([slow])).endswith("about 2 min 0 s on this machine")
    late = replace(slow, created=START - timedelta(minutes=9))
    assert pace_of([late]) == 0, "it waited, or went on after a stop"
    half = run(claim=slow.spec["claim"], took=30, spec={"claim": slow.spec["claim"], "seeds": 1})
    assert pace_of([half]) == pytest.approx(30 / (next(iter(claims().values())).seconds / 3))  # one seed of three


def test_while_it_is_checked_it_can_be_stopped() -> None:
    drawn = section("toy", CLAIM, Record(live()), 0.0)
    assert "step 12/60 · 31 s left" in drawn and "width:20.0%" in drawn
    assert 'data-event="stop" data-run="0002"' in drawn and 'data-event="check"' not in drawn
    assert "waits its turn" in section("toy", CLAIM, Record(live(status="queued")), 0.0)


def test_the_verdict_stays_with_its_date_numbers_picture_and_recipe() -> None:
    drawn = section("toy", CLAIM, whole(), 0.0)
    assert 'class="verdict watch" data-verdict="mixed"' in drawn and "with 2 of 3 seeds" in drawn and "2026-01-02 03:05 UTC" in drawn
    assert "Better by 0.2" in drawn and drawn.count("<svg") == 1 and "Check it again" in drawn
    assert "It differs" in drawn and "It shows here if with every seed" in drawn and "The demo model has 6 small blocks" in drawn
    assert 'data-event="open" data-run="0001"' in drawn and drawn.count('data-event="take"') == 2  # a training and a merge
    assert 'data-verdict="mixed"' in section("toy", CLAIM, Record(live(), run(), run(), TABLES, NOTES), 0.0), "also while it runs again"


@pytest.mark.parametrize(("status", "words"), [("stopped", "was stopped"), ("failed", "failed"), ("interrupted", "was cut off")])
def test_a_check_that_came_to_nothing_is_said_beside_what_is_known(status: str, words: str) -> None:
    drawn = section("toy", CLAIM, Record(None, run("0003", status), run(), TABLES, NOTES), 0.0)
    assert f"Run 0003</button> {words}." in drawn and "data-verdict" in drawn and 'data-event="check"' in drawn
    assert ("alert(1)&lt;/script&gt;" in drawn.split(words)[1].split("</p>")[0]) == (status == "failed")  # its message


def test_nothing_foreign_becomes_markup() -> None:
    records = [Record(), Record(live()), whole(), Record(None, run("0003", "failed"), run(), TABLES, NOTES)]
    for record, ours in product(records, (None, OURS)):
        drawn = section("toy", CLAIM, record, 0.0, ours)
        assert "<script" not in drawn and "${" not in drawn


def test_the_record_is_the_newest_verdict_the_newest_end_and_what_is_at_work() -> None:
    asked = []

    def read(of: str) -> tuple[list[Table], list[Noted]]:
        asked.append(of)
        return TABLES, NOTES

    runs = [run("0005", "running"), run("0004", "failed"), run("0003"), run("0002"), run("0001", claim="other")]
    record = record_of("toy", runs, [live("0005"), live("0001")], read)
    assert record.live and record.live.id == "0005" and record.last and record.last.id == "0004"
    assert record.kept and record.kept.id == "0003" and asked == ["0003"]
    assert record_of("never", runs, [], read) == Record()


def test_a_training_of_a_claim_is_put_on_the_bench_whole() -> None:
    spec = spec_of(TABLES, EVIL)
    assert spec == TrainSpec(name=EVIL, steps=7).model_dump(mode="json")
    assert spec_of(TABLES, "both") is None and spec_of([], "a") is None
    assert yaml.safe_load(TABLES[3].rows[0][2])["steps"] == 7


def test_a_merge_of_a_claim_is_put_into_the_merge_tab_with_the_runs_that_were_trained_here() -> None:
    models = [{"model": "run:long", "weight": 0.5}, {"model": "model:other"}]
    merge = {"kind": "merge", "name": "half", "base": "pocket", "models": models}
    rows = [["long", "train", "{name: long, steps: 7}"], ["half", "merge", yaml.safe_dump(merge)]]
    tables = [Table(SPECS, ["what", "kind", "spec"], rows)]
    spec = TrainSpec(name="mine", steps=7).model_dump(mode="json")
    trained = [run("0009", "failed", spec=spec), run("0008", spec={**spec, "seed": 1}), run("0007", spec=spec), run("0006", spec=spec)]
    recipe = recipe_of(tables, "half", trained)
    assert recipe == {**merge, "models": [{"model": "run:0007", "weight": 0.5}, {"model": "model:other"}]}, "the newest that is the same"
    assert taken_up(recipe)[0] == "half", "the form can show it"
    with pytest.raises(WorkbenchError, match=r"'long' was not trained here yet\. Put it"):
        recipe_of(tables, "half", trained[:2])
    assert recipe_of(tables, "long", trained) is None and recipe_of([], "half", trained) is None


def test_a_check_that_was_stopped_offers_to_go_on_with_the_rest() -> None:
    drawn = section("toy", CLAIM, Record(None, run("0003", "stopped", step=40, total=60)), 0.0)
    assert "Run 0003</button> was stopped after 2 of 3 seeds." in drawn
    assert "Go on with it" in drawn and 'data-claim="toy" data-run="0003"' in drawn
    assert "2 trainings and 1 merge of the demo model, 1 seed" in drawn
    early = section("toy", CLAIM, Record(None, run("0003", "stopped", step=19, total=60)), 0.0)
    assert "was stopped." in early and "Check it here" in early and 'data-run=""' in early, "no seed is done"


def test_what_came_out_on_our_machine_is_said_before_anybody_checks_it() -> None:
    alone = section("toy", CLAIM, Record(), 0.0, OURS)
    assert 'class="verdict watch" data-verdict="mixed" data-from="us"' in alone and "with 2 of 3 seeds" in alone
    assert "on our machine, 2026-01-02" in alone and alone.count("<svg") == 1 and "Check it here" in alone and "It differs" in alone
    beside = section("toy", CLAIM, whole(), 0.0, OURS)
    assert "On our machine, 2026-01-02: mixed, 2 of 3 seeds." in beside and beside.count("data-verdict") == 1, "a person's own stands first"
    assert (word(whole(), None), word(Record(), OURS), word(Record(), None)) == ("mixed", "mixed", "not checked")
    better = [Table(VERDICT, [], [["shows here", 3, 3]]), *TABLES[1:]]
    assert word(whole(better), OURS) == "shows here", "a person's own before ours"


def test_what_holds_is_yes_or_no_where_a_person_reads_and_stays_a_truth_in_the_data() -> None:
    rows = [["better", "seed 0", 0.2, 0.1, True], ["better", "seed 1", 0.0, 0.1, False]]
    gains = Table(GAINS, ["expected", "seed", "by", "needed", "holds"], rows)
    page, shell = tables([gains]), text.table(gains)
    assert "<td>yes</td>" in page and "<td>no</td>" in page and shell.splitlines()[2].endswith("yes") and shell.endswith("no")
    assert "True" not in page + shell and "False" not in page + shell and gains.rows[0][4] is True


def test_dots_stand_where_their_numbers_are() -> None:
    drawn = dots({"a": [0.0, 2.0], "b": [1.0, float("nan")]}, "nats")
    assert drawn.count("<circle") == 3 and "1 of 2: not a number" in drawn
    places = [float(part.split('"')[1]) for part in drawn.split("<circle cx=")[1:]]
    assert places[0] < places[2] < places[1] and places[2] == pytest.approx((places[0] + places[1]) / 2)
    assert dots({"a": [float("inf")]}, "nats") == "" and "<script" not in dots({EVIL: [1.0]}, EVIL)


def test_the_tab_lists_the_methods_with_a_claim_and_keeps_a_place_for_each() -> None:
    drawn, methods = cards_of("", "claims"), {(claim.shelf, claim.method) for claim in claims().values()}
    assert drawn.count('<article class="paper-card"') == len(methods)
    assert f"Of {len(claims())} claims {len(claims())} not checked." in drawn
    assert all(f'data-claim="{name}"' in drawn for name in claims())
    first = next(iter(claims()))
    told = cards_of("", "claims", {first: "mixed"})
    assert f"Of {len(claims())} claims 1 mixed, {len(claims()) - 1} not checked." in told
    assert f'claim: <span data-word="{first}">mixed</span>' in told and told.count("<span data-word=") == len(claims())
    every = cards_of("", "")
    assert every.count('<section class="claim"') == len(claims())
    assert every.count('<article class="paper-card"') == sum(map(len, SHELVES.values()))
