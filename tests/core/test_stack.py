"""A stack in words, counted out, and checked before any model is opened. What comes of it: `tests/jobs/test_stack.py`."""

import pytest

from workbench.core.errors import SpecError
from workbench.core.method import discover
from workbench.core.parts import Slice
from workbench.core.spec import MergeSpec, parse_spec
from workbench.core.stack import laid_out

discover()


def spec_of(stack: object) -> MergeSpec:
    models = [{"model": "run:0001"}, {"model": "./my model"}]
    return parse_spec({"kind": "merge", "base": "pocket", "models": models, "merge": "linear", "stack": stack})  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        ("", []),
        ("0-4", [((0, 4), [])]),
        ("pocket 0-4, run:0001 2 - 6,", [((0, 4), ["pocket"]), ((2, 6), ["run:0001"])]),
        ("run:0001 + ./my model 1-2", [((1, 2), ["run:0001", "./my model"])]),
    ],
)
def test_a_stack_can_be_written_in_words(text: str, slices: list) -> None:
    assert [(given.layers, given.models) for given in spec_of(text).stack] == slices
    assert spec_of([{"layers": list(layers), "models": models} for layers, models in slices]) == spec_of(text)


@pytest.mark.parametrize("text", ["pocket", "pocket 0", "0-x", "pocket 0-4 run:0001 2-6"])
def test_words_that_are_no_slice_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(SpecError, match=r"is no slice; write the models and their layers|is not one of the models"):
        spec_of(text)


def test_what_lies_outside_is_of_all_models_or_of_the_ends_where_the_method_cannot_take_so_many() -> None:
    stack = [Slice(layers=(0, 2), models=["b"]), Slice(layers=(3, 4), models=["a", "base"]), Slice(layers=(1, 2))]
    wide, narrow = (laid_out(stack, "base", ["a", "b"], most) for most in (1000, 2))
    assert wide.sources == narrow.sources == (0, 1, 3, 1) and wide.slices == (0, 0, 1, 2) and wide.takers == ((1,), (0, 2), (0, 1))
    assert (wide.before, wide.behind, wide.plain) == ((0, 1), (0, 1), False)
    assert (narrow.before, narrow.behind, narrow.plain) == ((1,), (0, 1), True)
    assert narrow.at("model.embed_tokens.weight", None) == (1,) and narrow.at("lm_head.weight", None) == (0, 1)
    assert wide.at("model.layers.2.mlp.up_proj.weight", 2) == (0, 2)


def test_a_model_that_is_named_twice_in_the_spec_takes_part_twice() -> None:
    assert laid_out([Slice(layers=(0, 1), models=["a"]), Slice(layers=(0, 1))], "a", ["a", "b", "a"], 9).takers == ((0, 2), (0, 1, 2))
