"""A count is asked for where it is long, says how far it is, and ends when the page wishes for another one."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.jobs import curate
from workbench.ui import counting, watching
from workbench.ui.counting import Wishes, counted


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": "x"}) + "\n" for n in range(3000)))
    return {"path": str(path), "selectors": [{"method": "length"}]}


def always() -> bool:
    return True


def test_only_the_latest_wish_of_a_page_counts() -> None:
    wishes = Wishes()
    first, other = wishes.begin("a"), wishes.begin("b")
    assert first() and other()
    second = wishes.begin("a")
    assert not first() and second() and other()


def test_what_takes_long_is_asked_for_first(recipe: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LONG", 0.0)
    (asked,) = counted(recipe, "pocket", workspace, always, asked=False)
    assert "takes about less than a second" in asked and 'data-pick="count"' in asked
    (*_, found) = counted(recipe, "pocket", workspace, always, asked=True)
    assert isinstance(found, curate.Look) and found.kept == 3000
    (found,) = counted(recipe, "pocket", workspace, always, asked=False)  # it is at hand now
    assert isinstance(found, curate.Look)


def test_the_step_that_takes_long_is_named_and_what_makes_it_shorter() -> None:
    asked = counting._ask([("Length", 30.0), ("<i>IFD", 80_000.0)])
    assert "22 h" in asked and "most of it for &lt;i&gt;IFD" in asked and "Random sample" in asked
    assert "most of it" not in counting._ask([("IFD", 30.0)]) and "Random sample" not in counting._ask([("IFD", 30.0)])


def test_it_says_how_far_it_is_and_how_to_stop(recipe: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFRESH", 0.0)
    *said, found = counted(recipe, "pocket", workspace, always, asked=False)
    assert "rows measured · 1,000 of 3,000" in said[1] and all('data-pick="stop"' in markup for markup in said)
    assert found.kept == 3000


def test_a_count_that_was_replaced_while_it_worked_says_nothing(
    recipe: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish is gone when the step at work returns: neither its bar nor its answer may come after the newer one's."""
    monkeypatch.setattr(watching, "REFRESH", 0.0)
    gone: list[int] = []

    def looking(*_: object) -> object:
        yield Progress(0, 1, "rows")
        gone.append(1)
        yield Progress(1, 1, "rows")
        return "an old answer"

    monkeypatch.setattr(counting, "looking", looking)
    assert len(list(counted(recipe, "pocket", workspace, lambda: not gone, asked=True))) == 1
    gone.clear()
    monkeypatch.setattr(counting, "LONG", 0.0)
    monkeypatch.setattr(counting, "estimates", lambda *_: gone.append(1) or [("Length", 9.0)])
    assert not list(counted(recipe, "pocket", workspace, lambda: not gone, asked=False))


def test_a_count_that_nobody_wants_ends_without_an_answer(recipe: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFRESH", 0.0)
    left = iter([True, True, True, True, False])  # asked before and after each sign of life
    assert [type(said) for said in counted(recipe, "pocket", workspace, lambda: next(left), asked=True)] == [str, str]


def test_bars_come_no_oftener_than_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def working() -> Iterator[Progress]:
        for part in range(1, 11):
            now[0] = part / 10
            yield Progress(part, 10, "rows")
        return "done"

    *bars, found = watching.watched(working(), beside="<i>stop</i>")
    assert found == "done" and [f"{part} of 10" in bar for part, bar in zip((3, 6, 9), bars, strict=True)] == [True] * 3
    assert all(bar.endswith("<i>stop</i>") for bar in bars)


def test_work_that_nobody_wants_is_closed_and_its_answer_is_not_given() -> None:
    wanted, ended = [True], list[str]()

    def working(last: str) -> Iterator[Progress]:
        try:
            yield Progress(0, 1, "rows")
            wanted[0] = False
            if last == "in the middle":
                yield Progress(1, 1, "rows")
            return "an old answer"
        finally:
            ended.append(last)

    for last in ("in the middle", "in the end"):
        wanted[0] = True
        work = working(last)  # held here, so that nothing else closes it
        assert list(watching.watched(work, lambda: wanted[0])) == [] and ended[-1] == last
