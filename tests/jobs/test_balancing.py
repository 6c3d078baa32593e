"""Classes drawn equally often: shares of an epoch and of a run, whole passes before repeats, the order by seed and step, and what is said.

The property tests of the mixture rule: after a cut to r times the smallest class every class has the share 1/C for any r, and no class
gives more different rows than the cut left; r = 1 is subsetting.
"""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from surroundings import Given

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.audit import audit, refuse
from workbench.jobs.balancing import SOON, Classes, classes, draws
from workbench.jobs.batches import Batches, Draw
from workbench.jobs.mixing import learning, planned
from workbench.jobs.steps import sifted
from workbench.jobs.train import begin
from workbench.materials.models import resolve, tokenizer
from workbench.materials.rows import Example
from workbench.materials.templates import Encoded
from workbench.methods.selectors.class_balance import ClassBalance


def encoded(number: int) -> list[Encoded]:
    """Row i is of 3 to 5 tokens."""
    return [Encoded([10] * (3 + row % 3), [False] + [True] * (2 + row % 3), 0) for row in range(number)]


def rows_of(batches: Batches, steps: range) -> list[int]:
    """The rows that the steps see, as often as they do."""
    seen = list[int]()
    for step in steps:
        for batch in batches.window(step):
            for line in batch["rows"].tolist():
                seen += [*dict.fromkeys(row for row in line if row >= 0)]
    return seen


def one_at_a_time(names: list[str], seed: int = 0, **knobs: object) -> Batches:
    return Batches.of(encoded(len(names)), TrainSpec(batch_size=1, seed=seed, **knobs), 0, draws(names))


@given(sizes=some.lists(some.integers(1, 40), min_size=1, max_size=6), bare=some.integers(0, 10))
def test_an_epoch_keeps_its_size_and_classes_come_equally_often(sizes: list[int], bare: int) -> None:
    names = [str(place) for place, size in enumerate(sizes) for _ in range(size)] + [""] * bare
    found = draws(names)
    assert sum(draw.often for draw in found) == len(names)
    assert sorted(row for draw in found for row in draw.rows) == [*range(len(names))]
    often = {names[draw.rows[0]]: draw.often for draw in found}
    assert often.pop("", 0) == bare, "rows of no class come once, as ever"
    assert len(often) == len(sizes) and len(set(often.values())) == 1
    assert all(len({names[row] for row in draw.rows}) == 1 for draw in found)


@given(names=some.lists(some.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=30), epochs=some.floats(0.01, 4))
def test_a_part_of_an_epoch_or_several_keep_the_shares(names: list[str], epochs: float) -> None:
    found = draws(names, epochs)
    assert float(sum(draw.often for draw in found)) == pytest.approx(epochs * len(names))
    assert [draw.often / epochs for draw in found] == pytest.approx([float(draw.often) for draw in draws(names)])


@pytest.mark.parametrize("most", [1.0, 1.5, 2.0, 4.0, 1000.0])
def test_after_a_cut_every_class_has_the_same_share_for_any_r(most: float) -> None:
    sizes = {"few": 6, "some": 15, "many": 60}
    rows = [Example(text=f"{name} {row}", meta={"kind": name}) for name, size in sizes.items() for row in range(size)]
    stays = drain(ClassBalance(column="kind", most=most).keep(rows, Given())).kept
    names = [row.meta["kind"] for row, stay in zip(rows, stays, strict=True) if stay]
    batches = one_at_a_time(names)
    assert batches.units_per_epoch == len(names)
    seen = rows_of(batches, range(1, 4 * len(names) + 1))
    shares = Counter(names[row] for row in seen)
    assert all(abs(share - len(seen) / 3) <= 4 for share in shares.values())
    different = Counter(names[row] for row in set(seen))
    assert all(different[name] <= min(size, int(most * 6)) for name, size in sizes.items())
    if most == 1:
        assert set(Counter(rows_of(batches, range(1, len(names) + 1))).values()) == {1}, "subsetting: each row once an epoch"


@given(sizes=some.lists(some.integers(1, 12), min_size=1, max_size=4), epochs=some.integers(1, 5))
def test_no_row_comes_again_before_all_of_its_class_came(sizes: list[int], epochs: int) -> None:
    names = [str(place) for place, size in enumerate(sizes) for _ in range(size)]
    steps = len(sizes) * int(Fraction(epochs * len(names), len(sizes)) + Fraction(1, 2))  # where an epoch ends
    seen = Counter(rows_of(one_at_a_time(names), range(1, steps + 1)))
    for name in set(names):
        times = [seen[row] for row, own in enumerate(names) if own == name]
        assert max(times) - min(times) <= 1


def test_a_large_class_is_seen_whole_in_time() -> None:
    names = ["few"] * 4 + ["many"] * 36
    batches = one_at_a_time(names)
    assert len(set(rows_of(batches, range(1, 41)))) == 4 + 20
    assert len(set(rows_of(batches, range(1, 81)))) == 40


def test_the_order_follows_from_the_seed_and_the_step_alone() -> None:
    names = ["few"] * 3 + ["many"] * 9
    first, other = one_at_a_time(names), one_at_a_time(names, seed=1)
    whole = rows_of(first, range(1, 60))
    assert rows_of(one_at_a_time(names), range(31, 60)) == whole[30:], "as a run that goes on from step 30"
    assert rows_of(other, range(1, 60)) != whole
    assert whole[:12] != whole[12:24] != whole[24:36], "each epoch has an order of its own"
    halves = Batches.of(encoded(36), TrainSpec(batch_size=1), 0, [Draw([*range(36)], Fraction(18))])
    assert set(rows_of(halves, range(1, 19))) != set(rows_of(halves, range(37, 55))), "and so has each pass over a class"
    assert set(rows_of(first, range(1, 13))) != set(rows_of(other, range(1, 13))), "the seed says which rows come first"
    together = rows_of(Batches.of(encoded(12), TrainSpec(batch_size=4, accumulate=2), 0, draws(names)), range(1, 7))
    assert sorted(together) == sorted(whole[:48])


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_packs_and_batches_of_like_length_keep_the_shares(packing: bool, together: bool) -> None:
    names = ["few"] * 5 + ["many"] * 70 + ["some"] * 25
    knobs = {"packing": packing, "group_by_length": together, "data": {"max_length": 40}}
    batches = one_at_a_time(names, **knobs)
    seen = Counter(names[row] for row in rows_of(batches, range(1, 12 * int(batches.units_per_epoch))))
    assert max(seen.values()) / min(seen.values()) < 1.1
    assert len(batches.units) < len(names) if packing else len(batches.units) == len(names)


def test_packs_fuller_than_their_turn_come_in_some_epochs_only() -> None:
    """A class of 12 rows in one pack that an epoch should see 3 of: the pack comes every fourth epoch."""
    rows = encoded(12 * 5)
    takes = [Draw([*range(first, first + 12)], Fraction(3)) for first in range(0, 60, 12)]
    batches = Batches.of(rows, TrainSpec(batch_size=1, packing=True, data={"max_length": 60}), 0, takes)
    assert len(batches.units) == 5 and batches.units_per_epoch == 1.25
    assert set(Counter(rows_of(batches, range(1, 11))).values()) == {2}


# In a data set.


@pytest.fixture
def spec(pico_folder: Path, tmp_path: Path) -> TrainSpec:
    for name, kinds in (("own", {"rare": 6, "common": 30}), ("other", {"odd": 8, "even": 4}), ("plain", {"": 10})):
        rows = [
            {
                "prompt": f"{kind} {row}?",
                "completion": "It is here.",
                **({"kind": f" {kind}" if row == 0 else kind} if kind else {"hue": "red"}),
            }
            for kind, size in kinds.items()
            for row in range(size)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "own.jsonl"), "balance": "kind", "max_length": 64, "validation_share": 0.2}
    return TrainSpec(model=str(pico_folder), data=data, steps=2)


def with_data(spec: TrainSpec, **more: object) -> TrainSpec:
    return TrainSpec(**{**spec.model_dump(), "data": {**spec.data.model_dump(), **more}})


def test_a_run_draws_the_classes_of_its_set(spec: TrainSpec, workspace: Workspace) -> None:
    found = drain(learning(spec, tokenizer(resolve(spec.model, workspace)), workspace, 64))
    often = {found.names[draw.rows[0]]: draw.often for draw in found.draws}
    assert sum(often.values()) == len(found.train) and often["rare"] == often["common"]
    assert len({tuple(row.ids) for row in found.train}) == len(found.train), "rows are drawn often, and held once"
    assert set(found.tasks) == {"rare", "common"}
    run = drain(begin(spec, workspace.run("0001"), workspace))
    assert set(run.prepared.by_task) == set(found.held_tasks), "the loss of each class is plotted apart"
    seen = Counter(found.names[row] for row in rows_of(run.batches, range(1, 101)))
    assert abs(seen["rare"] - seen["common"]) <= spec.batch_size, "and so does the loop"


def test_classes_are_drawn_within_each_set_of_a_mixture(spec: TrainSpec, workspace: Workspace, tmp_path: Path) -> None:
    mix = [{"path": str(tmp_path / f"{name}.jsonl")} for name in ("other", "plain")]
    found = drain(learning(with_data(spec, mix=mix), tokenizer(resolve(spec.model, workspace)), workspace, 64))
    often = [draw.often for draw in found.draws]
    assert [found.names[draw.rows[0]] for draw in found.draws] == ["rare", "common", "odd", "even", ""]
    assert often[0] == often[1] and often[2] == often[3]
    tokens = [float(draw.often) * sum(len(found.train[row].ids) for row in draw.rows) / len(draw.rows) for draw in found.draws]
    assert sum(tokens[:2]) == pytest.approx(sum(tokens[2:4]), rel=0.01) == pytest.approx(tokens[4], rel=0.01), "sets share as before"


def test_before_the_start_it_is_said(spec: TrainSpec, workspace: Workspace, tmp_path: Path) -> None:
    told = [finding for finding in audit(spec, workspace) if "classes" in finding.text]
    assert [finding.level for finding in told] == ["safe"]
    assert told[0].text == (
        "The 2 classes of 'kind' come equally often: a row of 'rare' (6 rows) 5 times as often as one of 'common' (30 rows)."
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.jobs.audit.SOON", SOON - 0.1)
        assert [finding.level for finding in audit(spec, workspace) if "classes" in finding.text] == ["watch"]
    mixed = with_data(spec, mix=[{"path": str(tmp_path / "plain.jsonl")}])
    assert len([finding for finding in audit(mixed, workspace) if "classes" in finding.text]) == 1
    (one,) = drain(planned(spec.data, tokenizer(resolve(spec.model, workspace)), workspace, spec.model))
    assert one.classes is not None and one.classes.sizes == {"rare": 6, "common": 30} and one.epochs == 1
    plain = spec.data.model_copy(update={"balance": ""})
    assert drain(planned(plain, tokenizer(resolve(spec.model, workspace)), workspace, spec.model)) == []


def test_a_column_that_no_row_has_is_named_before_and_at_the_start(spec: TrainSpec, workspace: Workspace, tmp_path: Path) -> None:
    wrong, says = with_data(spec, balance="sort"), r"column 'sort', and no row has one\. .* There are: kind\."
    with pytest.raises(SpecError, match=says):
        refuse(wrong, workspace)
    with pytest.raises(WorkbenchError, match=says):
        drain(learning(wrong, tokenizer(resolve(spec.model, workspace)), workspace, 64))
    mixed, says = with_data(wrong, mix=[{"path": str(tmp_path / "plain.jsonl")}]), "There are: hue, kind"
    with pytest.raises(SpecError, match=says):
        refuse(mixed, workspace)
    with pytest.raises(WorkbenchError, match=says):
        drain(learning(mixed, tokenizer(resolve(spec.model, workspace)), workspace, 64))


@pytest.mark.parametrize(
    ("sizes", "bare", "says"),
    [
        ({"a": 2, "b": 20}, 0, "'a' (2 rows) 10 times as often as one of 'b' (20 rows). Rows that come so often are soon known by heart"),
        (
            {"a": 2, "b": 3},
            1,
            "'a' (2 rows) 1.5 times as often as one of 'b' (3 rows). Rows of no class, 1, come as often as without this.",
        ),
        ({"a": 3, "b": 3}, 0, "Every class of 'kind' has 3 rows, so nothing is drawn more often."),
        ({}, 3, "no row has one"),
    ],
)
def test_classes_tell_what_drawing_does(sizes: dict[str, int], bare: int, says: str) -> None:
    assert says in Classes("kind", sizes, bare, ("kind",)).told()


def test_classes_are_counted_once_by_each_column_and_columns_of_any_row_are_known(workspace: Workspace, tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "completion": "b", "early": "x"}, {"prompt": "c?", "completion": "d", "late": "y"}]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = drain(sifted(DataSpec(path=str(tmp_path / "two.jsonl")), workspace, "pocket"))
    found = drain(classes(data, "early"))
    assert found == Classes("early", {"x": 1}, 1, ("early", "late"))
    assert list(classes(data, "early")) == [] and drain(classes(data, "early")) == found, "no row is read again"
    assert drain(classes(data, "late")).sizes == {"y": 1}


def test_it_is_a_setting_like_others() -> None:
    assert DataSpec.parse({"balance": "kind", "mix": [{"path": "b"}]}).parts()[1].balance == "kind"
