"""Runs are found by what they are called and how they were set, and put in order by what they measured."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from workbench.runs.records import Run
from workbench.ui.runtable import PAGE, kinds, listed, run_list, turned

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run(id: str, loss: float | None = None, kind: str = "train", seconds: float = 1, **changes: Any) -> Run:
    metrics = {} if loss is None else {"loss": (9.0, loss)}
    spec = {"kind": kind, "name": "", "adapter": {"method": "lora", "rank": int(id)}, "data": {"path": "quickstart"}}
    given = {"name": "", "status": "finished", "step": 1, "total": 1, "spec": spec, "message": "", "traceback": "", "created": NOW,
             "started": NOW, "ended": NOW + timedelta(seconds=seconds), "metrics": metrics}  # fmt: skip
    return Run(id=id, kind=kind, **{**given, **changes})  # type: ignore[arg-type]


def ids(runs: list[Run]) -> str:
    return " ".join(run.id for run in runs)


def test_the_lowest_comes_first_then_the_highest_then_the_newest() -> None:
    runs = [run("0004", 2.0), run("0003"), run("0002", 0.5), run("0001", math.nan)]
    assert ids(listed(runs, sort="loss")) == "0002 0004 0003 0001", "a run without the number, or whose number is none, comes last"
    assert ids(listed(runs, sort="-loss")) == "0004 0002 0003 0001"
    assert ids(listed(runs)) == "0004 0003 0002 0001"
    order = ""
    assert [order := turned(order, "loss") for _ in range(3)] == ["loss", "-loss", ""] and turned("-loss", "took") == "took"


def test_the_quickest_comes_first() -> None:
    assert ids(listed([run("0001", seconds=9), run("0002", seconds=3), run("0003", started=None)], sort="took")) == "0002 0001 0003"


def test_every_word_must_be_in_the_name_the_status_or_a_setting() -> None:
    runs = [run("0016", name="Teller"), run("0032", status="failed"), run("0008", kind="merge")]
    assert ids(listed(runs, "teller")) == "0016" and ids(listed(runs, "LORA 32")) == "0032"
    assert ids(listed(runs, "failed")) == "0032" and ids(listed(runs, "merge")) == "0008"
    assert listed(runs, "rank") == [], "how a setting is called says nothing of one run"
    assert ids(listed(runs, "rank=16")) == ids(listed(runs, "adapter.rank=16 lora")) == "0016" and listed(runs, "ank=16") == []
    assert ids(listed(runs, kind="train")) == "0016 0032"


def test_kinds_are_offered_where_there_are_several() -> None:
    runs = [run("0001"), run("0002"), run("0003", kind="compare")]
    assert kinds(runs[:2], "") == ""
    drawn = kinds(runs, "train")
    assert re.findall(r'data-kind="(\w*)".*?aria-pressed="(\w+)">(.*?)<', drawn) == [
        ("", "false", "all 3"),
        ("compare", "false", "compare 1"),
        ("train", "true", "train 2"),
    ]
    assert "all 2" in kinds(runs[:2], "compare"), "who looks at a kind of which none is left finds back"


def test_the_list_is_cut_after_it_was_put_in_order() -> None:
    runs = [run(f"{number:04d}", float(number)) for number in range(PAGE + 3, 0, -1)]
    drawn = run_list(runs, lambda _: ([], []), {"sort": "loss"})
    assert re.findall(r'data-run="(\d+)"', drawn)[:2] == ["0001", "0002"] and "show 3 more" in drawn
    assert 'aria-sort="ascending"><button type="button" data-event="sort" data-by="loss"' in drawn
    assert "show 3 older" in run_list(runs, lambda _: ([], []), {})


def test_ticks_outlast_a_search_that_hides_their_rows() -> None:
    """The page holds which runs are ticked, not the boxes that happen to be drawn."""
    runs = [run("0001"), run("0002", name="other")]
    asked = {"ticked": ["0001"]}
    hidden, again = (run_list(runs, lambda _: ([], []), {**asked, "words": words}) for words in ("other", ""))
    assert "checked" not in hidden and re.findall(r'value="(\d+)"[^>]* checked>', again) == ["0001"]


def test_a_search_without_a_find_says_so() -> None:
    said = run_list([run("0001")], lambda _: ([], []), {"words": "<b>none</b>"})
    assert "No run" in said and "<b>" not in said
