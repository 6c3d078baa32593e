"""A spec goes to YAML and back unchanged, and all its mistakes come at once, each as a sentence that says where."""

from pathlib import Path

import pytest
import yaml

from workbench.core.asking import CompareSpec
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import discover, find
from workbench.core.settings import override, setting
from workbench.core.spec import MergeSpec, TrainSpec, parse_spec, read_spec

discover()
DEMOS = sorted((Path(__file__).parents[2] / "assets" / "demos").glob("*.yaml"))


@pytest.mark.parametrize(
    "spec",
    [
        TrainSpec(),
        TrainSpec(adapter="full", loss={"method": "dft", "power": 0.5}, data={"path": "x.csv", "columns": {"prompt": "q"}}),
        MergeSpec(models=[{"model": "run:0001"}, {"model": "run:0002", "weight": 0.5}]),
        MergeSpec(models=[{"model": "run:0001"}], save="adapter", rank=8, of="factors"),
        CompareSpec(models=["pocket"], prompt="Straße?\n - 'x': \"y\""),
    ],
    ids=["defaults", "chosen", "merge", "adapter", "compare"],
)
def test_yaml_there_and_back(spec: TrainSpec) -> None:
    assert parse_spec(yaml.safe_load(spec.to_yaml())) == spec


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_the_demo_specs_are_right(path: Path) -> None:
    spec = read_spec(path)
    assert parse_spec(yaml.safe_load(spec.to_yaml())) == spec


def test_a_method_is_written_as_its_name_or_with_its_knobs() -> None:
    spec = TrainSpec(adapter={"method": "lora", "rank": 4})
    assert TrainSpec(adapter="lora").adapter == find("adapters", "lora")()
    assert spec.adapter.rank == 4 and spec.model_dump()["adapter"]["rank"] == 4


def test_all_mistakes_come_at_once() -> None:
    wrong = {
        "adapter": {"method": "lora", "rank": 0, "rnk": 3},
        "loss": "nothing",
        "steps": 0,
        "stepz": 4,
        "data": {"validation_share": 0.9, "train_on": "q"},
        "update": {"method": "adamw", "lr": "fast"},
        "probes": ["step_safety", {"every": 3}],
    }
    with pytest.raises(SpecError) as error:
        parse_spec(wrong)
    assert set(error.value.mistakes) == {
        "adapter.rank is 0; it must be at least 1",
        "adapter.rnk is not known here; look for a slip of the pen (did you mean 'rank'?)",
        "loss: there is no loss called 'nothing'; there are: " + ", ".join(sorted(find_names("losses"))),
        "steps is 0; it must be at least 1",
        "stepz is not known here; look for a slip of the pen (did you mean 'steps'?)",
        "data.validation_share is 0.9; it must be at most 0.5",
        "data.train_on is 'q'; it must be 'answers', 'last_answer' or 'everything'",
        "update.lr is 'fast': input should be a valid number, unable to parse string as a number",
        "probes.1: write the method's name, or a mapping with 'method' and its knobs",
    }
    assert str(error.value).startswith("The spec has 9 mistakes:\n")


def find_names(shelf: str) -> list[str]:
    from workbench.core.method import SHELVES

    return list(SHELVES[shelf])


@pytest.mark.parametrize(
    "given, sentence",
    [
        ([1, 2], "a spec is a mapping"),
        ({"kind": "fly"}, "kind is 'fly'"),
        ({"kind": "merge"}, "models is missing"),
        (
            {"kind": "merge", "models": [{"model": "a"}], "rank": 8},
            "rank is about an adapter, and this merge writes a whole model; set save",
        ),
        ({"kind": "merge", "models": [{"model": "a"}], "of": "factors"}, "of is about an adapter, and this merge writes a whole model"),
        ({"kind": "merge", "models": [{"model": "a"}], "save": "adapter", "rank": -1}, "rank is -1; it must be at least 0"),
        ({"kind": "compare", "models": ["a"] * 5, "prompt": "x"}, "models"),
        ({"steps": float("inf")}, "steps"),
        ({"update": {"method": "adamw", "lr": float("nan")}}, "update.lr is nan; it must be a finite number"),
    ],
)
def test_each_mistake_is_a_sentence(given: object, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence.replace(".", r"\.")):
        parse_spec(given)


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("update: {method: adamw, lr: 1e-4}")
    assert read_spec(tmp_path / "a.yaml").update.lr == 1e-4


def test_values_are_set_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("adapter: lora")
    spec = read_spec(tmp_path / "a.yaml", ["adapter.rank=8", "steps=3", "data.path=x", "prompts=[a, b]"])
    assert (spec.adapter.rank, spec.steps, spec.data.path, spec.prompts) == (8, 3, "x", ["a", "b"])
    with pytest.raises(SpecError, match="not of the form name=value"):
        override({}, ["steps"])
    with pytest.raises(SpecError, match="holds a single value"):
        override({"steps": 3}, ["steps.x=3"])
    assert setting(" update.lr =0.5") == ("update.lr", 0.5) and setting("name=a=b") == ("name", "a=b"), "the first = parts them"
    for wrong, says in (("=3", "not of the form name=value"), ("steps=[1", r"steps: '\[1' is no value")):
        with pytest.raises(SpecError, match=says):
            setting(wrong)


@pytest.mark.parametrize(
    "content, sentence", [("a: [1", "is not YAML"), ("", "a spec is a mapping"), ("\xff\xfe".encode("latin-1"), "cannot be read")]
)
def test_a_broken_file_is_a_sentence(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WorkbenchError, match=sentence):
        read_spec(path)
    with pytest.raises(WorkbenchError, match="There is no spec file"):
        read_spec(tmp_path / "b.yaml")
