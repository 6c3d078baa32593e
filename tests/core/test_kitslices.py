"""mergekit's slices: read as a stack and written from one, lists of numbers over a slice turned into lists over the whole depth."""

import pytest
from kit_files import mistakes, read

from workbench.core.kitslices import within
from workbench.core.mergekit import to_kit
from workbench.core.method import discover
from workbench.core.spec import parse_spec
from workbench.core.stack import laid_out

discover()
HEAD = "{merge_method: passthrough, dtype: float32, slices: ["


def test_a_tall_model_of_two() -> None:
    spec = read(f"{HEAD} {{sources: [{{model: ./a, layer_range: [0, 3]}}]}}, {{sources: [{{model: ./b, layer_range: [1, 4]}}]}}]}}")
    assert spec.base == "./a" and [given.model for given in spec.models] == ["./a", "./b"] and spec.merge.name == "passthrough"
    assert [(given.layers, given.models) for given in spec.stack] == [((0, 3), ["./a"]), ((1, 4), ["./b"])] and not spec.vary


def test_the_source_outweighs_the_slice_and_the_slice_the_file() -> None:
    spec = read("""
merge_method: linear
parameters: {weight: 0.1}
slices:
- sources: [{model: ./a, layer_range: [0, 2]}, {model: ./b, layer_range: [0, 2], parameters: {weight: 0.4}}]
- sources: [{model: ./a, layer_range: [0, 1], parameters: {weight: 0.5}}, {model: ./b, layer_range: [0, 1]}]
  parameters: {weight: 0.3}
""")
    assert [given.weight for given in spec.models] == [[0.1, 0.1, 0.5], [0.4, 0.4, 0.3]]
    assert spec.at("x", 1.0)[1] == [0.5, 0.3] and spec.at("x", 0.5)[1] == [0.1, 0.4]


def test_so_do_the_knobs() -> None:
    spec = read("""
merge_method: passthrough
parameters: {scale: 0.1}
slices:
- sources: [{model: ./a, layer_range: [0, 1]}]
- sources: [{model: ./a, layer_range: [0, 1]}]
  parameters: {scale: 0.2}
- sources: [{model: ./a, layer_range: [0, 1], parameters: {scale: 0.3}}]
  parameters: {scale: 0.2}
""")
    assert spec.vary == {"scale": [0.1, 0.2, 0.3]}


def test_layers_that_add_nothing_where_they_are_there_again() -> None:
    zero = "{scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: [0.5, 0.0]}, {value: 1}]}"
    again = f"{{sources: [{{model: ./a, layer_range: [1, 3], parameters: {zero}}}]}}"
    spec = read(f"{HEAD} {{sources: [{{model: ./a, layer_range: [0, 3]}}]}}, {again}]}}")
    assert spec.vary == {
        "scale": [
            {"filter": "o_proj", "value": [1.0, 1.0, 1.0, 0, 0]},
            {"filter": "down_proj", "value": [1.0, 1.0, 1.0, 0.5, 0.0]},
            {"value": 1.0},
        ]
    }
    scales = [spec.at(f"model.layers.{layer}.self_attn.o_proj.weight", layer / 4)[0].scale for layer in range(5)]
    assert scales == [1, 1, 1, 0, 0]


def test_a_list_goes_over_each_slice_there_and_over_all_here() -> None:
    both = "sources: [{model: ./a, layer_range: [0, 3]}, {model: ./b, layer_range: [0, 3]}]"
    spec = read(f"{{merge_method: slerp, base_model: ./a, parameters: {{t: [0, 1]}}, slices: [{{{both}}}, {{{both}}}]}}")
    assert spec.vary == {"t": [0, 0.5, 1, 0, 0.5, 1]} and [given.models for given in spec.stack] == [[], []]
    once = read(f"{{merge_method: slerp, base_model: ./a, parameters: {{t: [0, 1]}}, slices: [{{{both}}}]}}")
    assert once.vary == {"t": [0, 1]} and [given.layers for given in once.stack] == [(0, 3)]


def test_a_layer_of_its_own_depth_has_its_own_number_exactly() -> None:
    """49 · (1/49) is less than 1 on a machine."""
    weights = [float(place) for place in range(50)]
    spec = parse_spec(
        {"kind": "merge", "base": "./a", "models": [{"model": "./a", "weight": [w / 10 for w in weights]}], "merge": "linear"}
    )
    assert [spec.at("x", place / 49)[1][0] for place in range(50)] == [w / 10 for w in weights]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("slices", "sentence"),
    [
        ("{sources: [{model: ./a, layer_range: [0, 2]}, {model: ./b, layer_range: [2, 4]}]}", "other layers of each model"),
        ("{sources: [{model: ./a}]}, {sources: [{model: ./b, layer_range: [0, 1]}]}", "slices.0: each source needs layer_range"),
        ("{sources: [{model: ./a, layer_range: [2, 2]}]}", "stack.0: layers [2, 2] hold no layer"),
        ("{sources: [{model: ./a, layer_range: [0, 1]}], base_model: ./b}", "slices.0: base_model is not read here"),
        ("{sources: [{model: ./a, layer_range: [0, 1], layers: 3}]}", "slices.0.sources: layers of ./a is not read here"),
        (
            "{sources: [{model: ./a, layer_range: [0, 1], parameters: {scale: [{filter: up, value: 0}, {value: 1}]}}]}, "
            "{sources: [{model: ./a, layer_range: [0, 1], parameters: {scale: [{filter: down, value: 0}, {value: 1}]}}]}",
            "parameter 'scale' has other filters in one slice than in another",
        ),
        (
            "{sources: [{model: ./a, layer_range: [0, 1]}, {model: ./a, layer_range: [0, 1]}]}, "
            "{sources: [{model: ./a, layer_range: [0, 1]}]}",
            "slices.0: ./a is there twice",
        ),
        (
            "{sources: [{model: ./a, layer_range: [0, 1], parameters: {scale: x}}]}, {sources: [{model: ./a, layer_range: [0, 1]}]}",
            "parameter 'scale' differs between the slices, and only a number can",
        ),
    ],
)
def test_what_a_stack_cannot_say_is_refused_in_a_sentence(slices: str, sentence: str) -> None:
    found = mistakes(f"{HEAD} {slices}]}}")
    assert any(sentence in one for one in found), found


def test_embeddings_that_mergekit_would_take_of_fewer_models_are_refused() -> None:
    first, second = (f"{{sources: [{{model: {name}, layer_range: [0, 2], parameters: {{weight: 1}}}}]}}" for name in ("./a", "./b"))
    found = mistakes(f"{{merge_method: linear, slices: [{first}, {second}]}}")
    assert len(found) == 1 and "name all of them in the first and the last slice" in found[0]


@pytest.mark.parametrize(
    "given",
    [
        {"merge": "passthrough", "stack": [{"layers": [0, 3], "models": ["./a"]}, {"layers": [1, 2], "models": ["./b"]}]},
        {"merge": {"method": "slerp", "t": [0, 0.1, 0.2, 0.9, 1]}, "stack": [{"layers": [0, 2]}, {"layers": [1, 4]}]},
        {
            "merge": {"method": "task_arithmetic", "scale": [{"filter": "mlp", "value": [0.0, 1.0, 0.0]}, {"value": 0.5}]},
            "stack": [{"layers": [0, 2]}, {"layers": [1, 2]}],
        },
        {"merge": "task_arithmetic", "stack": [{"layers": [0, 2]}, {"layers": [1, 3], "models": ["./base"]}, {"layers": [2, 4]}]},
        {"merge": "linear", "stack": [{"layers": [1, 3]}]},
    ],
    ids=["tall", "slerp", "filters", "base", "some"],
)  # fmt: skip
def test_what_is_written_of_a_stack_reads_back(given: dict) -> None:
    models = [("./a", 0.5 if given["merge"] != "passthrough" else 1.0), ("./b", 1.0)]
    base = "./a" if given["merge"] in ("passthrough", "linear") else "./base"
    inputs = [{"model": model, "weight": weight} for model, weight in models]
    spec = parse_spec({"kind": "merge", "base": base, "models": inputs, "dtype": "bfloat16", **given})
    layout = laid_out(spec.stack, base, ["./a", "./b"], spec.merge.most)
    slices = [(one.layers, takers) for one, takers in zip(spec.stack, layout.takers, strict=True)]
    written = to_kit(spec.merge, spec.vary, base, models, "bfloat16", slices)
    assert written is not None and read(written) == spec


def test_the_same_model_twice_is_written_twice() -> None:
    written = to_kit(read("{merge_method: linear, models: [{model: ./a}]}").merge, {}, "./a", [("./a", 0.2), ("./a", 0.3)], None)
    assert [given.weight for given in read(written or "").models] == [0.2, 0.3]


def test_a_part_of_a_list_is_the_numbers_of_its_layers() -> None:
    assert within([0, 1], 0, 5, 5) == [0, 0.25, 0.5, 0.75, 1] and within([0, 1], 3, 2, 5) == [0.75, 1] and within([0, 1], 4, 1, 5) == 1
    assert within(0.3, 1, 2, 5) == 0.3 and within([{"filter": "a", "value": [0, 1]}, {"value": 2}], 4, 1, 5) == [
        {"filter": "a", "value": 1}, {"value": 2},
    ]  # fmt: skip
