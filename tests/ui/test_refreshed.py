"""What a page that is loaded anew finds again is what could be used; the rest is as if it had never been kept."""

from typing import Any

from workbench.ui.bench import first_spec
from workbench.ui.refreshed import found, readable_recipe
from workbench.ui.tabs.data import _loaded


def recipe(**changes: Any) -> dict[str, Any]:
    return {**first_spec()["data"], **changes}


def test_a_recipe_that_is_not_yet_on_the_bench_comes_back_with_its_spec() -> None:
    spec = {**first_spec(), "steps": 7}
    held = recipe(max_length=99)
    assert found(spec, held) == (spec, held, 1)


def test_without_a_recipe_there_is_that_of_the_spec() -> None:
    spec = {**first_spec(), "data": recipe(max_length=77)}
    assert found(spec, None) == (spec, spec["data"], 1)


def test_what_an_earlier_version_kept_is_left_alone() -> None:
    assert not readable_recipe(recipe(old_knob=1)) and not readable_recipe({}) and not readable_recipe(["x"])
    assert not readable_recipe(recipe(selectors=[{"method": "no-such-method"}])) and readable_recipe(recipe())
    assert found({"old": 1}, {"old": 1}) == (first_spec(), first_spec()["data"], 1)


def test_the_data_tab_takes_what_was_kept_once_and_then_each_spec_that_is_put_on_the_bench() -> None:
    spec, own, shape = first_spec(), recipe(max_length=99), {"methods": [], "turn": 0}
    assert _loaded(spec, own, 1, shape, 0)[0] == own
    assert _loaded(spec, own, 2, shape, 0)[0] == spec["data"]
