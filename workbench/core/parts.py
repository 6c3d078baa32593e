"""What specs are made of: the base of them all, methods by name, and the parts that stand inside a spec.

Methods stand in a spec by name with their knobs (`adapter: {method: lora, rank: 16}`); this module finds them in the registry
and knows none of them. Reading a spec gathers every mistake before it complains (`SpecError`). The specs: `core/spec.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import SHELVES, Method, find, knob
from workbench.core.mistakes import sentences
from workbench.core.varied import Varied, mistakes, numbers


def _chosen(shelf_name: str) -> Any:
    """The type of a spec's field that holds a method of that shelf, written as its name or as a mapping with its knobs."""

    def read(value: Any) -> Any:
        if isinstance(value, Method):
            return value
        given = {"method": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not isinstance(given.get("method"), str):
            raise ValueError("write the method's name, or a mapping with 'method' and its knobs")
        try:
            method = find(shelf_name, given["method"])
        except WorkbenchError as error:
            raise ValueError(str(error)) from error
        return method(**{name: knob_value for name, knob_value in given.items() if name != "method"})

    return Annotated[
        Method,
        BeforeValidator(read),
        PlainSerializer(lambda method: method.chosen(), return_type=dict),
        WithJsonSchema({"type": "object", "description": f"a method of the shelf {shelf_name!r} with its knobs"}),
    ]


ChosenSelector, ChosenAdapter, ChosenLoss = _chosen("selectors"), _chosen("adapters"), _chosen("losses")
ChosenUpdate, ChosenProbe, ChosenNoise = _chosen("updates"), _chosen("probes"), _chosen("noises")
ChosenMerge, ChosenDecoder, ChosenInspection = _chosen("merges"), _chosen("decoders"), _chosen("inspections")


class Spec(BaseModel):
    """What all specs share: they are frozen, refuse unknown fields, and go to YAML and back unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Spec":
        """The spec, or a `SpecError` with one sentence for each mistake."""
        try:
            return cls(**given)
        except ValidationError as error:
            raise SpecError(sentences(error, _names())) from error


class MixPart(Spec):
    """A further data set of a mixture."""

    path: str = Field(description="a data set of the workspace, a demo data set, or a file")
    weight: float = Field(1.0, ge=0, le=1000, description="its tokens for one token of a set of weight 1; 0 leaves it out")
    columns: dict[str, str] = Field(default_factory=dict, description="columns by role where detection is wrong")


class DataSpec(Spec):
    """Which rows are learnt from, and which of their tokens."""

    path: str = knob("quickstart", help="a data set of the workspace, a demo data set, or a file")
    train_on: Literal["answers", "last_answer", "everything"] = knob(
        "answers", help="which tokens are learnt: every answer, only the last one, or questions too"
    )
    task: str = Field("", description="column that says which task a row belongs to: the loss of each is then plotted apart")
    columns: dict[str, str] = Field(default_factory=dict, description="columns by role where detection is wrong: {prompt: q, answer: a}")
    selectors: list[ChosenSelector] = Field(default_factory=list, description="steps that drop rows, in order")
    mix: list[MixPart] = Field(default_factory=list, description="further data sets that are learnt from; their rows pass no steps")
    weight: float = Field(1.0, ge=0, le=1000, description="this set's tokens for one token of a set of weight 1, in a mixture")
    balance: str = knob(
        "",
        label="draw classes equally",
        help="column by whose classes rows are drawn equally often; small ones come again and again and are learnt by heart the sooner, "
        "so cut the large ones first. Empty takes each row once",
    )
    validation_share: float = knob(0.1, ge=0, le=0.5, help="share of the rows that is never trained on and gives the validation loss")
    most_rows: int = knob(
        0,
        ge=0,
        label="rows learnt from",
        help="at most so many, drawn at random once the validation rows are apart; fewer are part of more, and 0 takes all. "
        "Runs with more and more rows tell what still more would bring",
    )
    max_length: int = knob(256, ge=8, le=131_072, help="longest row in tokens; what is beyond is cut off", unit="tokens", log=True)

    @model_validator(mode="after")
    def _can_be_mixed(self) -> "DataSpec":
        paths = [part.path for part in self.parts()]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        wrong = [f"the mixture names {path!r} twice; change its weight instead" for path in twice]
        if not any(part.weight for part in self.parts()):
            wrong.append("every weight of the mixture is 0; give one of the sets a weight")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def parts(self) -> list["DataSpec"]:
        """Each set of the mixture as a recipe of its own, this one first."""
        own = self.model_copy(update={"mix": []})
        more = [{"path": part.path, "weight": part.weight, "columns": part.columns, "selectors": []} for part in self.mix]
        return [own, *(own.model_copy(update=part) for part in more)]


class StopSpec(Spec):
    """When a run ends before its last step; 0 never does."""

    patience: int = knob(0, ge=0, help="evaluations in a row without a lower validation loss", unit="evaluations")
    target: float = knob(0.0, ge=0, help="validation loss that is good enough", unit="nats per token")
    unsafe: int = knob(0, ge=0, help="readings of step safety with r of 1 or more, in all", unit="readings")
    minutes: float = knob(0.0, ge=0, help="time spent in steps", unit="minutes")
    tokens: int = knob(0, ge=0, help="tokens read in training", unit="tokens", log=True)
    keep_best: bool = knob(
        False, help="in the end go back to where the validation loss was lowest; a checkpoint then holds what was learnt twice"
    )
    not_finite: int = knob(10, ge=1, help="steps in a row whose loss or gradient is no finite number; the run then fails", more=True)


class Change(Spec):
    """Settings that a run takes on while it works."""

    at: int = Field(ge=1, description="the first step that goes by them")
    set: dict[str, Any] = Field(min_length=1, description="settings by dotted name, as on the command line: {update.lr: 1e-4}")


class MergeInput(Spec):
    """One tuned model and its weight."""

    model: str = Field(description="a run, a model of the workspace, a folder, or a hub id")
    weight: Varied = Field(1.0, description="its share in the merge: a number, a list from the first block to the last, or filters by name")

    @field_validator("weight")
    @classmethod
    def _is_a_weight(cls, given: Varied) -> Varied:
        wrong = list(mistakes("weight", given))
        if not wrong:
            strange = (number for number in numbers(given) if not isinstance(number, int | float) or not -10 <= number <= 10)
            wrong = [f"{number!r} is no weight; write a number from -10 to 10" for number in strange]
        if wrong:
            raise ValueError("; ".join(wrong))
        return given


class Slice(Spec):
    """Some layers of the models, merged, on top of those of the slice before."""

    layers: tuple[int, int] = Field(
        description="the models' layers from the first to the one before the last number: [0, 4] is four of them"
    )
    models: list[str] = Field(default_factory=list, description="which of the models take part, or the base; empty takes all models")


def _names() -> set[str]:
    """Every name that may stand in a spec, for the guess at what was meant."""
    models = [*_below(Spec), *(method for methods in SHELVES.values() for method in methods.values())]
    return {name for model in models for name in model.model_fields}


def _below(spec: type[Spec]) -> Iterator[type[Spec]]:
    for kind in spec.__subclasses__():
        yield kind
        yield from _below(kind)
