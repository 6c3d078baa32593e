"""mergekit's YAML: read as a merge spec and written from one; what is not understood is refused, all at once."""

from pathlib import Path

import pytest
import yaml
from kit_files import mistakes, read

from workbench.core.mergekit import to_kit
from workbench.core.method import Method, discover, find, shelf
from workbench.core.spec import parse_spec, read_spec

discover()


def test_a_file_as_its_documentation_has_it() -> None:
    spec = read("""
models:
  - model: ./base
  - model: ./one
    parameters: {weight: 0.5}
  - model: ./two
    parameters:
      weight:
        - filter: mlp
          value: [0.1, 0.9]
        - value: 0.3
merge_method: task_arithmetic
base_model: ./base
parameters: {lambda: [0.2, 1.0], int8_mask: true}
dtype: bfloat16
""")
    assert spec.base == "./base" and [given.model for given in spec.models] == ["./one", "./two"]
    assert spec.merge.name == "task_arithmetic" and spec.vary == {"scale": [0.2, 1.0]} and spec.dtype == "bfloat16"
    assert spec.models[0].weight == 0.5
    assert spec.at("model.layers.1.mlp.up_proj.weight", 0.5)[1] == [0.5, pytest.approx(0.5)]
    assert spec.at("model.layers.1.self_attn.q_proj.weight", 0.5)[1] == [0.5, 0.3]


def test_a_method_without_a_base_takes_its_files_from_the_first_model() -> None:
    given = "{merge_method: linear, models: [{model: ./a, parameters: {weight: 1}}, {model: ./b, parameters: {weight: 3}}], dtype: float32}"
    spec = read(given)
    assert spec.base == "./a" and [(given.model, given.weight) for given in spec.models] == [("./a", 1), ("./b", 3)]
    assert spec.merge.normalise and not read(given.replace("dtype: float32", "parameters: {normalize: false}")).merge.normalise


def test_what_mergekit_does_untold_is_done_too() -> None:
    """Its Model Stock lets the ratio leave 0 to 1, where ours keeps it inside unless told otherwise."""
    spec = read("{merge_method: model_stock, base_model: ./base, models: [{model: ./a}, {model: ./b}]}")
    assert spec.merge.clamp is False and find("merges", "model_stock")().clamp is True


@pytest.mark.parametrize("name", ["nuslerp", "multislerp"])
def test_a_base_that_mergekit_may_be_told_or_not_is_a_knob(name: str) -> None:
    models = "[{model: ./a, parameters: {weight: 0.3}}, {model: ./b, parameters: {weight: 0.7}}]"
    alone, on_base = (read(f"{{merge_method: {name}, models: {models}, {more}}}") for more in ("dtype: float32", "base_model: ./base"))
    assert (alone.base, alone.merge.on_base) == ("./a", False) and [given.model for given in alone.models] == ["./a", "./b"]
    assert (on_base.base, on_base.merge.on_base) == ("./base", True) and [given.weight for given in on_base.models] == [0.3, 0.7]
    for spec in (alone, on_base):
        written = to_kit(spec.merge, {}, spec.base, [(given.model, given.weight) for given in spec.models], None)
        assert written is not None and ("base_model" in yaml.safe_load(written)) is spec.merge.on_base
        assert read(written) == spec.model_copy(update={"dtype": "float32"})


def test_an_angle_for_each_row_is_what_mergekit_calls_not_flat() -> None:
    given = "{merge_method: nuslerp, models: [{model: ./a}, {model: ./b}], parameters: {nuslerp_flatten: false}}"
    assert read(given).merge.per_row and not read(given.replace("false", "true")).merge.per_row


def test_one_slice_over_all_is_the_models_themselves() -> None:
    sources = "[{model: ./a, layer_range: [0, 6]}, {model: ./b, layer_range: [0, 6]}]"
    spec = read(f"{{merge_method: task_arithmetic, base_model: ./base, slices: [{{sources: {sources}}}]}}")
    assert [given.model for given in spec.models] == ["./a", "./b"]


def test_everything_that_is_not_understood_is_said_at_once() -> None:
    found = mistakes("""
models: [{model: ./a+./lora, parameters: {weight: 1, density: 0.5}}]
merge_method: task_arithmetic
base_model: ./base
tokenizer_source: ./c
modules: {}
parameters: {gamma: 1}
""")
    for part in (
        "modules is not read",
        "tokenizer './c' is none of the models",
        "./a+./lora",
        "'density' is not known to Task arithmetic",
        "'gamma'",
    ):
        assert any(part in sentence for sentence in found), (part, found)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{merge_method: evolve, base_model: ./b, models: [{model: ./a}]}", "merge_method 'evolve' is not read here; there are: "),
        ("{merge_method: task_arithmetic, base_model: ./b, slices: [{sources: []}, {sources: []}]}", "slices.1: it has no sources"),
        ("{merge_method: task_arithmetic, base_model: ./b, models: ./a}", "write a list of entries"),
        ("{merge_method: task_arithmetic, models: []}", "base_model is missing"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    assert any(sentence in found for found in mistakes(text))


def test_a_parameter_of_each_model_that_is_one_for_all_here() -> None:
    models = "[{model: ./a, parameters: {lambda: 1}}, {model: ./b, parameters: {lambda: 0.5}}]"
    assert "differs between the models" in mistakes(f"{{merge_method: task_arithmetic, base_model: ./base, models: {models}}}")[0]


@pytest.mark.parametrize(
    "text",
    [
        "{method: linear, normalise: false}",
        "{method: task_arithmetic, scale: 0.7}",
        "{method: task_arithmetic, scale: [0.2, 1.0]}",
        "{method: model_stock, clamp: false, filter_wise: true}",
        "{method: ties, density: 0.3, combine: sum}",
        "{method: dare, density: 0.3, rescale: none}",
        "{method: della, density: [0.5, 0.7], rescale: L1, combine: sum}",
        "{method: breadcrumbs, vote: true, outliers: 0.02}",
        "{method: ram, amplify: true, rate: 0.2}",
        "{method: slerp, t: [0.1, 0.9]}",
        "{method: sce}",
    ],
)
def test_what_is_written_reads_back(text: str) -> None:
    models = [{"model": "./a", "weight": 1.0}, {"model": "./b", "weight": 1.0}]
    spec = parse_spec({"kind": "merge", "base": "./base", "models": models, "merge": yaml.safe_load(text), "dtype": "bfloat16"})
    written = to_kit(spec.merge, spec.vary, spec.base, [("./a", 1.0), ("./b", 1.0)], "bfloat16")
    assert written and ("base_model" in written) == spec.merge.kit_base
    assert read(written) == (spec if spec.merge.kit_base else spec.model_copy(update={"base": "./a"}))


def test_what_mergekit_has_not_is_not_written() -> None:
    assert to_kit(find("merges", "lines")(), {}, "./base", [("./a", 1.0)], None) is None
    assert to_kit(find("merges", "task_arithmetic")(deeper=0.5), {}, "./base", [("./a", 1.0)], None) is None
    assert to_kit(find("merges", "ties")(combine="largest"), {}, "./base", [("./a", 1.0)], None) is None
    assert to_kit(find("merges", "ties")(trim="model"), {}, "./base", [("./a", 1.0)], None) is None
    assert to_kit(find("merges", "dare")(combine="ties", rescale="L1"), {}, "./base", [("./a", 1.0)], None) is None
    assert to_kit(find("merges", "model_stock")(), {}, "./base", [("./a", 1.0)], None) is None, "it has no clamp"


@pytest.mark.parametrize("kind", [kind for kind in shelf("merges").values() if kind.kit], ids=lambda kind: kind.name)
def test_what_a_merge_says_of_mergekit_fits_its_own_knobs(kind: type[Method]) -> None:
    for name, fixed in kind.kit.items():
        spec = read(f"{{merge_method: {name}, base_model: ./base, models: [{{model: ./a}}, {{model: ./b}}]}}")
        assert spec.merge.name == kind.name and spec.merge.model_dump().items() >= {**kind.kit_defaults, **fixed}.items()
    for target in kind.kit_knobs.values():
        assert (target[0] if isinstance(target, tuple) else target) in kind.model_fields


def test_a_file_for_mergekit_takes_overrides_of_the_spec_it_becomes(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("{merge_method: ties, base_model: ./base, models: [{model: ./a}, {model: ./b}]}")
    spec = read_spec(file, ["kind=merge", "name=both", "merge.density=0.5"])
    assert spec.name == "both" and spec.merge.density == 0.5 and spec.base == "./base"


@pytest.mark.parametrize(
    "text",
    [
        "{merge_method: [ties], base_model: ./b, models: [{model: ./a}]}",
        "{merge_method: ties, base_model: ./b, models: [{model: ./a}], parameters: [1]}",
        "{merge_method: ties, base_model: ./b, models: [{model: ./a, parameters: 3}]}",
        "{merge_method: ties, base_model: ./b, models: [{model: ./a}], parameters: {normalize: [true, false]}}",
        "{merge_method: ties, base_model: ./b, slices: {sources: []}}",
        "{merge_method: ties, base_model: ./b, slices: [3]}",
        "{merge_method: ties, base_model: ./b, models: [{model: ./a}], 7: x}",
    ],
)
def test_a_broken_file_is_a_sentence_and_no_traceback(text: str) -> None:
    assert mistakes(text)


@pytest.mark.parametrize(
    ("said", "tokenizer"),
    [
        ("", "same"),
        ("tokenizer_source: base", "base"),
        ("tokenizer_source: union", "union"),
        ("tokenizer_source: ./a", "./a"),
        ("tokenizer: {}", "union"),
        ("tokenizer: {source: base}", "base"),
    ],
)
def test_where_the_tokens_come_from(said: str, tokenizer: str) -> None:
    text = f"{{merge_method: task_arithmetic, base_model: ./base, models: [{{model: ./a}}], dtype: float32, {said}}}"
    spec = read(text)
    assert spec.tokenizer == tokenizer
    told = None if tokenizer == "same" else tokenizer
    assert read(to_kit(spec.merge, {}, "./base", [("./a", 1.0)], "float32", tokenizer=told) or "") == spec


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("tokenizer: {source: union, tokens: {a: {source: ./a}}}", "tokenizer.tokens: rows of single tokens are not chosen here"),
        ("tokenizer: {pad_to_multiple_of: 8}", "tokenizer.pad_to_multiple_of is not read here"),
        ("tokenizer: [1]", "tokenizer: write names and values"),
        ("tokenizer_source: [1]", "is none of the models"),
    ],
)
def test_tokens_that_are_chosen_one_by_one_are_refused(said: str, sentence: str) -> None:
    found = mistakes(f"{{merge_method: task_arithmetic, base_model: ./base, models: [{{model: ./a}}], {said}}}")
    assert any(sentence in one for one in found), found
