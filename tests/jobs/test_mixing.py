"""A mixture: shares of tokens as the weights say, each set seen as often as that takes, its validation apart."""

import itertools
import json
from pathlib import Path

import pytest

from workbench.core.errors import SpecError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.mixing import learning, portions
from workbench.jobs.prepare import prepare
from workbench.materials.models import resolve, tokenizer


def sets(*weights: float) -> list[DataSpec]:
    return DataSpec(path="0", weight=weights[0], mix=[{"path": str(n), "weight": w} for n, w in enumerate(weights) if n]).parts()


def test_the_weights_are_shares_of_tokens_and_an_epoch_is_as_long_as_all_sets_together() -> None:
    one, two = portions(sets(3, 1), [10, 100], [100, 300])
    assert (one.share, two.share) == (0.75, 0.25) and (one.epochs, two.epochs) == (3.0, pytest.approx(1 / 3))
    assert [found.epochs for found in portions(sets(100, 300), [10, 100], [100, 300])] == [1, 1]  # weights like the tokens change nothing


@pytest.fixture
def spec(pico_folder: Path, tmp_path: Path) -> TrainSpec:
    for name, count, answer in (("many", 40, "It is here."), ("few", 10, "No.")):
        rows = [{"prompt": f"{name} {n}?", "completion": answer} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "many.jsonl"), "mix": [{"path": str(tmp_path / "few.jsonl")}], "max_length": 64}
    return TrainSpec(model=str(pico_folder), data=data, steps=2)


def test_rows_are_mixed_by_tokens_and_validated_apart(spec: TrainSpec, workspace: Workspace) -> None:
    words = tokenizer(resolve(spec.model, workspace))
    found = drain(learning(spec, words, workspace, 64))
    tokens = [float(draw.often) * sum(len(found.train[row].ids) for row in draw.rows) / len(draw.rows) for draw in found.draws]
    assert len(tokens) == 2 and max(tokens) / min(tokens) < 1.01
    assert [sorted({found.tasks[row] for row in draw.rows}) for draw in found.draws] == [[part.path] for part in spec.data.parts()]
    assert sorted(row for draw in found.draws for row in draw.rows) == [*range(len(found.train))], "every row can be drawn"
    assert set(found.held_tasks) == set(found.tasks) == {part.path for part in spec.data.parts()}
    assert not {tuple(row.ids) for row in found.held} & {tuple(row.ids) for row in found.train}
    assert drain(learning(spec, words, workspace, 64)) == found
    assert set(drain(prepare(spec, workspace)).by_task) == set(found.tasks)
    few = drain(learning(spec, words, workspace, 2)).held_tasks
    assert sorted(few) == sorted(set(found.tasks)), "one row of each set"
    alone = spec.model_copy(update={"data": spec.data.parts()[0]})
    assert drain(learning(alone, words, workspace, 64)).tasks[0] == ""
    assert drain(learning(alone, words, workspace, 64)).draws == [], "an epoch takes every row once"


def test_a_set_of_weight_0_is_left_out(spec: TrainSpec, workspace: Workspace) -> None:
    out = spec.data.model_copy(update={"weight": 0.0})
    found = drain(learning(spec.model_copy(update={"data": out}), tokenizer(resolve(spec.model, workspace)), workspace, 64))
    assert set(found.tasks) == set(found.held_tasks) == {spec.data.mix[0].path}


def test_what_cannot_be_mixed_is_said() -> None:
    with pytest.raises(SpecError, match="names 'a' twice"):
        DataSpec.parse({"path": "a", "mix": [{"path": "a"}]})
    with pytest.raises(SpecError, match="every weight of the mixture is 0"):
        DataSpec.parse({"path": "a", "weight": 0, "mix": [{"path": "b", "weight": 0}]})


def test_fewer_rows_are_part_of_more_and_the_validation_rows_stay(spec: TrainSpec, workspace: Workspace) -> None:
    def of(most: int, **more: object) -> tuple[list[str], list[str]]:
        data = {**spec.data.model_dump(), "mix": [], "most_rows": most, **more}
        found = drain(learning(TrainSpec(**{**spec.model_dump(), "data": data}), words, workspace, 64))
        return [str(row.ids) for row in found.train], [str(row.ids) for row in found.held]

    words = tokenizer(resolve(spec.model, workspace))
    (every, held), (many, held_many), (few, held_few) = (of(most) for most in (0, 20, 5))
    assert len(many) == 20 and len(few) == 5 and set(few) < set(many) < set(every)
    assert held == held_many == held_few != []
    assert many == [row for row in every if row in many], "in their order"
    nested = [set(of(most)[0]) for most in range(1, 20)]
    assert all(less < more for less, more in itertools.pairwise(nested))
    assert of(10**6)[0] == every
    assert len(of(5, mix=spec.data.model_dump()["mix"])[0]) == 10, "of each set"
