"""A mixture: shares of tokens as the weights say, each set seen as often as that takes, its validation apart."""

import json
import random
from pathlib import Path

import pytest

from workbench.core.errors import SpecError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.mixing import learning, portions, repeated
from workbench.jobs.prepare import prepare
from workbench.materials.models import resolve, tokenizer


def sets(*weights: float) -> list[DataSpec]:
    return DataSpec(path="0", weight=weights[0], mix=[{"path": str(n), "weight": w} for n, w in enumerate(weights) if n]).parts()


def test_the_weights_are_shares_of_tokens_and_an_epoch_is_as_long_as_all_sets_together() -> None:
    one, two = portions(sets(3, 1), [10, 100], [100, 300])
    assert (one.share, two.share) == (0.75, 0.25) and (one.epochs, two.epochs) == (3.0, pytest.approx(1 / 3))
    assert [found.epochs for found in portions(sets(100, 300), [10, 100], [100, 300])] == [1, 1]  # weights like the tokens change nothing


@pytest.mark.parametrize("seed", range(40))
def test_a_set_is_seen_in_whole_times_and_a_draw_of_what_is_left(seed: int) -> None:
    count, epochs = seed * 3 % 17, random.Random(seed).uniform(0, 5)
    seen = repeated(count, epochs, random.Random(seed))
    assert len(seen) == int(epochs) * count + round((epochs - int(epochs)) * count)
    assert all(seen.count(row) - int(epochs) in (0, 1) for row in range(count))


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
    tokens = {
        name: sum(len(row.ids) for row, own in zip(found.train, found.tasks, strict=True) if own == name) for name in set(found.tasks)
    }
    assert len(tokens) == 2 and max(tokens.values()) / min(tokens.values()) < 1.1
    assert set(found.held_tasks) == set(found.tasks) == {part.path for part in spec.data.parts()}
    assert not {tuple(row.ids) for row in found.held} & {tuple(row.ids) for row in found.train}
    assert drain(learning(spec, words, workspace, 64)) == found
    assert set(drain(prepare(spec, workspace)).by_task) == set(found.tasks)
    few = drain(learning(spec, words, workspace, 2)).held_tasks
    assert sorted(few) == sorted(set(found.tasks)), "one row of each set"
    alone = spec.model_copy(update={"data": spec.data.parts()[0]})
    assert drain(learning(alone, words, workspace, 64)).tasks[0] == ""


def test_a_set_of_weight_0_is_left_out(spec: TrainSpec, workspace: Workspace) -> None:
    out = spec.data.model_copy(update={"weight": 0.0})
    found = drain(learning(spec.model_copy(update={"data": out}), tokenizer(resolve(spec.model, workspace)), workspace, 64))
    assert set(found.tasks) == set(found.held_tasks) == {spec.data.mix[0].path}


def test_what_cannot_be_mixed_is_said() -> None:
    with pytest.raises(SpecError, match="names 'a' twice"):
        DataSpec.parse({"path": "a", "mix": [{"path": "a"}]})
    with pytest.raises(SpecError, match="every weight of the mixture is 0"):
        DataSpec.parse({"path": "a", "weight": 0, "mix": [{"path": "b", "weight": 0}]})
