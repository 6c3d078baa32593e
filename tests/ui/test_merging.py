"""The Merge tab's draft: what choices make of it, and that a recipe, ours or mergekit's, fills it and comes out of it again."""

import pytest
import yaml

from workbench.core.errors import SpecError
from workbench.core.spec import MergeSpec, parse_spec
from workbench.ui import merging

KIT = """
merge_method: ties
base_model: pocket
models:
  - {model: run:0001, parameters: {weight: [0.25, 0.5]}}
  - {model: run:0002, parameters: {weight: 0.8}}
parameters:
  density: [{filter: self_attn, value: [0.75, 0.2]}, {value: 0.5}]
  lambda: 1.5
"""


@pytest.fixture
def held() -> merging.Draft:
    return merging.with_models(["run:0001", "run:0002"], merging.started("ties"))


def test_a_model_that_stays_keeps_its_share(held: merging.Draft) -> None:
    held = merging.with_weight(held, "run:0002", [0.1, 0.9])
    held = merging.with_models(["run:0002", "run:0003"], held)
    assert held["models"] == [{"model": "run:0002", "weight": [0.1, 0.9]}, {"model": "run:0003", "weight": 1.0}]


def test_a_moved_slider_leaves_a_share_alone_that_varies(held: merging.Draft) -> None:
    held = merging.with_weight(held, "run:0002", [0.1, 0.9])
    held = merging.with_weights(held, {"run:0001": 0.5, "run:0002": 1.0})
    assert [given["weight"] for given in held["models"]] == [0.5, [0.1, 0.9]]


def test_what_varies_goes_into_the_recipe_that_is_shown(held: merging.Draft) -> None:
    held = merging.with_knob(held, "density", [0.2, 0.8])
    held = merging.with_weight(held, "run:0001", [{"filter": "mlp", "value": 0.5}, {"value": 1.0}])
    shown = parse_spec(yaml.safe_load(merging.recipe(held, "both")))
    assert shown == merging.spec_of(held, "both") and isinstance(shown, MergeSpec)
    assert shown.at("model.layers.0.mlp.up_proj.weight", 0.5)[0].density == pytest.approx(0.5)
    assert shown.at("model.layers.0.mlp.up_proj.weight", 0.5)[1] == [0.5, 1.0]
    assert merging.spec_of(merging.with_knob(held, "density", 0.3), "both").vary == {}


def test_another_method_has_its_usual_settings(held: merging.Draft) -> None:
    held = merging.with_method(merging.with_knob(held, "density", [0.2, 0.8]), "lines")
    assert merging.spec_of(held, "x").vary == {} and held["merge"]["method"] == "lines"


def test_a_draft_with_mistakes_is_shown_as_it_was_typed(held: merging.Draft) -> None:
    held = merging.with_knob(held, "density", [0.2, 8.0])
    assert yaml.safe_load(merging.recipe(held, "x"))["vary"] == {"density": [0.2, 8.0]}
    with pytest.raises(SpecError, match="density is 8"):
        merging.spec_of(held, "x")
    assert yaml.safe_load(merging.recipe(merging.started("ties"), ""))["models"] == []


def test_a_recipe_fills_the_draft_that_it_came_from(held: merging.Draft) -> None:
    held = merging.with_knob({**held, "stack": "run:0001 0-4, run:0001+run:0002 2-6"}, "density", [0.2, 0.8])
    spec = merging.spec_of(held, "both")
    name, again = merging.read_recipe(merging.recipe(held, "both"))
    assert name == "both" and merging.spec_of(again, "both") == spec
    assert again["stack"] == "run:0001 0-4, run:0001+run:0002 2-6", "the form shows it in words"


def test_mergekit_s_yaml_fills_it_too() -> None:
    name, held = merging.read_recipe(KIT)
    assert name == "merged" and [given["weight"] for given in held["models"]] == [[0.25, 0.5], 0.8]
    assert held["vary"] == {"density": [{"filter": "self_attn", "value": [0.75, 0.2]}, {"value": 0.5}]}
    assert held["merge"]["method"] == "ties" and held["merge"]["scale"] == 1.5


@pytest.mark.parametrize(("text", "words"), [
    ("", "no recipe of a merge"), ("a: [", "not YAML"), ("- 1", "mapping"), ("kind: train", "no recipe of a merge"),
    ("models: [{model: pocket, weight: 99}]", "99"),
    ("models: [{model: run:0001}, {model: run:0001}]", "twice"), ("merge_method: magic", "magic"),
])  # fmt: skip
def test_what_is_no_recipe_of_a_merge_is_said(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        merging.read_recipe(text)


def test_a_share_beyond_the_slider_has_a_field_that_takes_it() -> None:
    assert merging.share_knob(2.0) is merging.share_knob([5.0, 1.0]) is merging.SHARE
    assert merging.share_knob(-3.0).lo == -10


def test_the_ends_of_a_curve_are_handles_unless_they_vary(held: merging.Draft) -> None:
    assert merging.ends_of(merging.spec_of(merging.with_knob(held, "density", [0.1, 0.2]), "x")) == (
        "merge-ties-scale",
        "merge-ties-deeper",
    )
    assert merging.ends_of(merging.spec_of(merging.with_knob(held, "scale", [0.1, 0.2]), "x")) is None
    assert merging.ends_of(merging.spec_of(merging.with_method(held, "slerp"), "x")) is None
