"""Models that stay open between two tries: one merge's at a time, for a while, and what somebody wants to see by now."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs import tastings
from workbench.jobs.tastings import Tastings


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[MergeSpec]:
    """The specs whose models were opened; in place of models there is nothing."""
    found: list[MergeSpec] = []
    monkeypatch.setattr(
        tastings, "Tasting", lambda spec, sets, workspace: found.append(spec) or SimpleNamespace(taste=lambda spec, patience: iter("ab"))
    )
    return found


def spec_of(model: str = "run:0001", **more: Any) -> MergeSpec:
    return MergeSpec.parse({"models": [{"model": model}], "merge": "task_arithmetic", **more})


def test_models_are_let_go_when_nobody_has_tried_them_for_a_while(opened: list[MergeSpec], tmp_path: Path) -> None:
    here, workspace = Tastings(kept=0.01), Workspace(tmp_path)
    assert list(here.taste(spec_of(), [], workspace)) == [None, "a", "b"]
    assert here._later
    here._later.join()
    assert here._open is None
    assert list(here.taste(spec_of(), [], workspace)) == [None, "a", "b"] and len(opened) == 2


def test_who_uses_them_again_keeps_them(opened: list[MergeSpec], tmp_path: Path) -> None:
    here, workspace = Tastings(kept=60), Workspace(tmp_path)
    waiting = []
    for _ in range(3):
        list(here.taste(spec_of(), [], workspace))
        waiting.append(here._later)
    assert [timer.finished.is_set() for timer in waiting if timer] == [True, True, False], "only the last use counts"
    here._let_go()
    assert here._open is not None and len(opened) == 1, "a clock that rang too late does nothing"
    here._later.cancel()


def test_models_that_a_search_left_are_let_go_too(opened: list[MergeSpec], tmp_path: Path) -> None:
    here = Tastings(kept=0.01)
    search: Iterator[Any] = here.with_open(spec_of(), [], Workspace(tmp_path), lambda _: iter("abc"))
    assert [next(search), next(search)] == [None, "a"] and here._open is not None
    search.close()
    assert here._later
    here._later.join()
    assert here._open is None


def test_a_mistake_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such model")

    monkeypatch.setattr(tastings, "Tasting", broken)
    here = Tastings(kept=0.01)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such model"):
            list(here.taste(spec_of(), [], Workspace(tmp_path)))


def test_the_last_wish_counts_for_each_person() -> None:
    here = Tastings()
    assert here.wished("one") is None
    here.wish("one", 1)
    here.wish("two", 2)
    here.wish("one", 3)
    assert (here.wished("one"), here.wished("two")) == (3, 2)
    for number in range(tastings.MANY):
        here.wish(f"other {number}", number)
    assert here.wished("one") is None and here.wished("other 0") == 0, "those that were not heard of for long are forgotten"
