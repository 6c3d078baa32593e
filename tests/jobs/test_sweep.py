"""A sweep: a spec for each value of one setting, each a run that could have been asked for alone."""

import pytest

from workbench.core.errors import SpecError
from workbench.core.spec import TrainSpec
from workbench.jobs.sweep import MOST, settings, several, swept


def test_each_value_is_a_spec_of_its_own_and_nothing_else_changes() -> None:
    spec = TrainSpec.parse({"name": "mine", "adapter": {"method": "lora", "rank": 4}, "steps": 9})
    made = swept(spec, "adapter.rank", several("2, 4,16"))
    assert [one.adapter.rank for one in made] == [2, 4, 16] and [one.name for one in made] == [
        "mine · rank 2",
        "mine · rank 4",
        "mine · rank 16",
    ]
    plain = spec.model_dump(mode="json")
    for one in made:
        given = one.model_dump(mode="json")
        assert {**given, "name": "mine", "adapter": {**given["adapter"], "rank": 4}} == plain


def test_a_run_without_a_name_is_named_after_its_value_in_words() -> None:
    assert [one.name for one in swept(TrainSpec(), "batch_size", [4, 2])] == ["batch size 4", "batch size 2"]
    pattern = "|".join(f"layers.{layer}.mlp" for layer in range(9))
    (long,) = swept(TrainSpec(), "adapter.modules", [pattern])
    assert len(long.name) == 80 and f"modules {pattern}".startswith(long.name)


def test_values_are_numbers_words_and_truths_as_they_are_written() -> None:
    assert (
        several("1.0e-4, 3.0e-4") == [1e-4, 3e-4]
        and several("attention, mlp") == ["attention", "mlp"]
        and several("true,false") == [True, False]
    )
    assert several("4, 8,") == several("4,, 8") == [4, 8] and several(" , ") == []
    assert several("1e-4")[0] in (1e-4, "1e-4") and swept(TrainSpec(), "update.lr", several("1e-4"))[0].update.lr == 1e-4
    assert [one.adapter.targets for one in swept(TrainSpec(), "adapter.targets", several("attention, mlp"))] == ["attention", "mlp"]


def test_the_mistakes_of_all_values_are_said_at_once_and_once() -> None:
    with pytest.raises(SpecError) as error:
        swept(TrainSpec(), "adapter.rank", several("0, 8, 1000, 0"))
    assert len(error.value.mistakes) >= 2 and len(set(error.value.mistakes)) == len(error.value.mistakes)
    with pytest.raises(SpecError, match="nothing"):
        swept(TrainSpec(), "adapter.nothing", [1])
    for count in (0, MOST + 1):
        with pytest.raises(SpecError, match=f"{count} values"):
            swept(TrainSpec(), "seed", list(range(count)))
    assert len(swept(TrainSpec(), "seed", list(range(MOST)))) == MOST
    with pytest.raises(SpecError, match="no list of values"):
        several("[1, 2")


def test_all_that_can_be_varied_is_listed_with_its_value_and_takes_it() -> None:
    spec = TrainSpec.parse({"adapter": "lift", "loss": {"method": "focal", "gamma": 1.5}})
    found = settings(spec)
    assert found["loss.gamma"] == 1.5 and not {"data.path", "data.balance"} & found.keys(), "a text of one's own is no choice of values"
    assert found["adapter.budget"] == spec.adapter.budget and found["update.lr"] == spec.update.lr and found["steps"] == spec.steps
    assert found["seed"] == 0 and found["data.max_length"] == spec.data.max_length
    for name, value in found.items():
        (one,) = swept(spec, name, [value])
        assert one.model_dump(exclude={"name"}) == spec.model_dump(exclude={"name"}), name


def test_a_name_stays_within_its_bounds() -> None:
    (one,) = swept(TrainSpec.parse({"name": "n" * 80}), "update.lr", [0.5])
    assert len(one.name) <= 80 and one.name.endswith(" · lr 0.5")


def test_a_name_that_was_given_never_grows_too_long() -> None:
    """The name of a run is at most 80 characters, however long the value that is varied."""
    (made,) = swept(TrainSpec(name="mine"), "adapter.modules", ["x" * 74])
    assert len(made.name) <= 80 and "xxx" in made.name
    (short,) = swept(TrainSpec(name="mine" * 20), "adapter.rank", [4])
    assert short.name.endswith(" · rank 4") and len(short.name) <= 80
