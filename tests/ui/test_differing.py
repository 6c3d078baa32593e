"""Settings that differ between runs, by the names that `--set` takes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workbench.core.settings import put
from workbench.core.spec import TrainSpec
from workbench.runs.records import Run
from workbench.ui.bench import first_spec
from workbench.ui.differing import ABSENT, differences, settings, side_by_side

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run(id: str, **changes: Any) -> Run:
    spec = first_spec()
    for name, value in changes.items():
        put(spec, name.replace("__", "."), value)
    return Run(id, f"<i>{id}</i>", "train", "finished", 1, 1, spec, "", "", NOW, NOW, NOW, {})


def test_only_what_differs_is_told_and_reads_back() -> None:
    runs = [run("0001"), run("0002", update__lr=0.0003125, name="other"), run("0003", seed=1)]
    assert sorted(differences(runs)) == [["seed", 0, 0, 1], ["update.lr", 0.002, 0.0003125, 0.002]]
    spec = first_spec()
    for name, _, value, _ in differences(runs):
        put(spec, name, value)
    assert TrainSpec.parse(spec) == TrainSpec.parse({**runs[1].spec, "name": ""}), "a row can be said with --set"


def test_a_knob_that_one_method_has_is_absent_in_the_other() -> None:
    rows = {name: values for name, *values in differences([run("0001"), run("0002", adapter={"method": "full"})])}
    assert rows["adapter.method"] == ["lora", "full"] and rows["adapter.rank"] == [16, ABSENT]


def test_values_of_a_list_have_its_place() -> None:
    assert settings({"a": [{"b": 1}, {"b": 2}], "c": [], "d": {}}) == {"a.1.b": 1, "a.2.b": 2, "c": [], "d": {}}


def test_one_run_alone_has_no_differences_and_names_are_escaped() -> None:
    assert side_by_side([run("0001")]) == ""
    drawn = side_by_side([run("0001"), run("0002", update__lr=0.0003125)])
    assert "0.0003125" in drawn and "<i>" not in drawn
    assert "same settings" in side_by_side([run("0001"), run("0002")])


def test_a_run_of_another_kind_is_left_out() -> None:
    talk = replace(run("0003"), kind="compare", spec={"prompt": "Who?"})
    assert side_by_side([run("0001"), talk, run("0002", seed=1)]) == side_by_side([run("0001"), run("0002", seed=1)]) != ""
    assert side_by_side([talk]) == side_by_side([]) == ""
