"""Knobs that differ from tensor to tensor: gradients over depth, filters by name, and what is refused."""

import pytest

from workbench.core.errors import SpecError
from workbench.core.spec import MergeSpec, parse_spec
from workbench.core.varied import apart, at, numbers, spaced, together

UP, NORM, EMBED = "model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"
TWO = [{"model": "run:0001"}, {"model": "run:0002"}]


@pytest.mark.parametrize(("depth", "value"), [(0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (0.75, 2.0), (1.0, 4.0)])
def test_a_list_goes_evenly_from_first_to_last(depth: float, value: float) -> None:
    assert at([1.0, 0.0, 4.0], UP, depth) == pytest.approx(value)


def test_outside_the_blocks_it_has_its_ends() -> None:
    assert at([1.0, 4.0], EMBED, None) == 1.0
    assert at([1.0, 4.0], NORM, None) == 4.0 and at([1.0, 4.0], "lm_head.weight", None) == 4.0
    assert at([3.0], UP, 0.7) == 3.0 and at(0.5, NORM, None) == 0.5


def test_the_first_filter_that_is_part_of_the_name_counts() -> None:
    given = [{"filter": "mlp", "value": [0.0, 1.0]}, {"filter": "layers", "value": 7.0}, {"value": 9.0}]
    assert at(given, UP, 0.5) == 0.5 and at(given, "model.layers.0.self_attn.q_proj.weight", 0.0) == 7.0 and at(given, NORM, None) == 9.0
    assert list(numbers(given)) == [0.0, 1.0, 7.0, 9.0]


def spec(**changes: object) -> MergeSpec:
    return parse_spec({"kind": "merge", "models": TWO, "merge": {"method": "ties", "density": [0.2, 0.8]}, **changes})  # type: ignore[return-value]


def test_a_list_in_the_merge_is_the_same_as_one_that_stands_apart() -> None:
    written = spec()
    assert written.vary == {"density": [0.2, 0.8]} and written.merge.density == 0.2
    assert spec(merge={"method": "ties"}, vary={"density": [0.2, 0.8]}) == written
    assert parse_spec(written.model_dump(mode="json")) == written


def test_each_tensor_has_its_own_method_and_weights() -> None:
    written = spec(models=[{"model": "run:0001", "weight": [0.0, 1.0]}, {"model": "run:0002", "weight": 0.5}])
    method, weights = written.at(UP, 0.25)
    assert method.density == pytest.approx(0.35) and weights == [0.25, 0.5]
    assert written.at(NORM, None)[0].density == 0.8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"merge": {"method": "ties", "density": [0.2, 1.5]}}, "merge.density is 1.5; it must be at most 1"),
        ({"merge": {"method": "ties", "density": []}}, "merge.density is an empty list"),
        ({"merge": {"method": "ties", "densty": [0.1]}}, "merge.densty is not known here"),
        ({"merge": {"method": "ties", "density": [{"filter": "mlp", "value": 0.1}]}}, "no entry for the tensors that no filter names"),
        ({"merge": {"method": "ties", "density": [{"where": "mlp", "value": 0.1}]}}, "is no entry"),
        ({"models": [{"model": "run:0001", "weight": [1, 99]}]}, "99 is no weight"),
        ({"models": [{"model": "run:0001", "weight": ["heavy"]}]}, "'heavy' is no weight"),
        ({"models": [{"model": "run:0001", "weight": [{"filter": 3, "value": 1}, {"value": 1}]}]}, "the filter 3 is not text"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec(**changes)
    assert any(sentence in mistake for mistake in refused.value.mistakes), refused.value.mistakes


def test_between_two_words_the_nearer_counts_and_whole_numbers_are_rounded() -> None:
    assert [at(["tensor", "model"], UP, depth) for depth in (0.0, 0.4, 0.6, 1.0)] == ["tensor", "tensor", "model", "model"]
    assert [at([True, False, True], UP, depth) for depth in (0.2, 0.3, 0.8)] == [True, False, True]
    written = spec(merge={"method": "consensus", "needed": [1, 4]})
    assert [written.at(UP, depth)[0].needed for depth in (0.0, 0.4, 1.0)] == [1, 2, 4]


ROWS = [("mlp", [0.2, 0.8]), ("self_attn", [0.5]), ("", [1.0, 0.0, 1.0])]


def test_rows_of_a_form_are_what_a_spec_says() -> None:
    given = together(ROWS)
    assert given == [{"filter": "mlp", "value": [0.2, 0.8]}, {"filter": "self_attn", "value": 0.5}, {"value": [1.0, 0.0, 1.0]}]
    assert apart(given) == ROWS and spec(merge={"method": "ties"}, vary={"scale": given}).vary == {"scale": given}
    assert together([("", [0.3, 0.4])]) == [0.3, 0.4] and apart([0.3, 0.4]) == [("", [0.3, 0.4])]
    assert together([("", [0.3])]) == [0.3] and apart(0.3) == [("", [0.3])]


def test_the_first_row_for_all_the_rest_is_the_last_that_counts() -> None:
    given = [{"filter": "mlp", "value": 1}, {"filter": "*", "value": 2}, {"filter": "norm", "value": 3}]
    assert apart(given) == [("mlp", [1.0]), ("", [2.0])] and at(given, NORM, None) == 2


@pytest.mark.parametrize("given", [
    [{"filter": "mlp", "value": [{"filter": "up", "value": 1}, {"value": 2}]}, {"value": 3}], ["tensor", "model"], [True, False], [],
    [{"filter": "mlp", "value": 1}],
])  # fmt: skip
def test_what_rows_cannot_say_is_no_rows(given: list) -> None:
    assert apart(given) is None


def test_more_points_lie_on_the_curve() -> None:
    curve = [0.0, 1.0, 0.5]
    assert spaced(curve, 5) == [0.0, 0.5, 1.0, 0.75, 0.5] and spaced(spaced(curve, 5), 3) == curve
    assert spaced([0.2, 0.8], 3) == [0.2, 0.5, 0.8] and spaced([0.4], 2) == [0.4, 0.4] and spaced(curve, 1) == [0.0]
