"""Specs of jobs that ask models and change nothing: comparing, inspecting, evaluating. The others: `core/spec.py`."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from workbench.core.errors import WorkbenchError
from workbench.core.marking import Scorer, compiled
from workbench.core.method import knob
from workbench.core.parts import ChosenDecoder, ChosenInspection, Spec

FINDING = ("inspect", "evaluate", "report", "claim")
"""Kinds of runs that find something and make nothing."""


class Exchange(Spec):
    """One question of a talk, and what each model answered."""

    prompt: str = Field(min_length=1, max_length=20_000)
    answers: dict[str, str] = Field(description="what was answered, by the model's reference; each model remembers its own")


class CompareSpec(Spec):
    """One prompt, up to four models, the same seed and sampling."""

    kind: Literal["compare"] = "compare"
    name: str = Field("", max_length=80)
    models: list[str] = Field(
        min_length=1, max_length=4, description="the models that answer; the first is the base that the others are held against"
    )
    prompt: str = Field(min_length=1, max_length=20_000)
    system: str = Field("", max_length=20_000, description="a system message put before the prompt")
    history: list[Exchange] = Field(default_factory=list, max_length=100, description="the talk so far, the oldest question first")
    decoder: ChosenDecoder = Field(default_factory=lambda: {"method": "plain"}, validate_default=True)
    temperature: float = knob(0.0, ge=0, le=5, help="0 always takes the likeliest token", step=0.05)
    max_tokens: int = knob(64, ge=1, le=4096, help="longest answer", unit="tokens", log=True)
    token_view: bool = knob(True, help="in the end every model reads every answer: what each would have said at each place")
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the sampling; all models draw with the same numbers")


class InspectSpec(Spec):
    """What tuning did to some models of one base."""

    kind: Literal["inspect"] = "inspect"
    name: str = Field("", max_length=80)
    models: list[str] = Field(min_length=1, max_length=16, description="the tuned models: runs, merges, folders or hub ids")
    base: str = Field("", description="what they were tuned from; empty takes what the first of them says")
    inspection: ChosenInspection = Field(default_factory=lambda: {"method": "weight_change"}, validate_default=True)
    max_length: int = knob(256, ge=8, le=131_072, help="longest row in tokens; what is beyond is cut off", unit="tokens", log=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows are drawn")

    @model_validator(mode="after")
    def _names_each_once(self) -> "InspectSpec":
        twice = sorted({model for model in self.models if self.models.count(model) > 1})
        if twice:
            raise ValueError("\n".join(f"models names {model!r} twice; one of each is enough" for model in twice))
        return self


class EvaluationSet(Spec):
    """Questions of a data set, and what counts as a right answer."""

    data: str = knob("", help="a data set of the workspace, a demo data set, or a file", names="data")
    scorer: Scorer = knob(
        "exact match",
        help="right is what says the same but for case and spaces, what has it somewhere in it, or what it finds as a regular expression",
    )
    column: str = knob("", help="column with the right answer; empty takes the row's own", label="right answer in")
    pattern: str = knob(
        "", help="regular expression of the part that counts, for example ####\\s*(\\S+); the last one found is taken", more=True
    )
    by: str = knob(
        "skill", help="column by whose entries the rows are told apart; a set without it is one task", more=True, label="tasks by"
    )
    most_rows: int = knob(64, ge=1, le=100_000, help="at most so many rows, drawn at random", label="rows asked", log=True)

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, given: str) -> str:
        try:
            compiled(given, "pattern")
        except WorkbenchError as error:
            raise ValueError(str(error)) from error
        return given


class EvaluateSpec(Spec):
    """How often models answer the questions of some data sets rightly."""

    kind: Literal["evaluate"] = "evaluate"
    name: str = Field("", max_length=80)
    models: list[str] = Field(min_length=1, max_length=8, description="the models that are asked; the others are held against the first")
    sets: list[EvaluationSet] = Field(
        default_factory=list,
        description="what they are asked; empty without tasks takes what the runs held back, and for the demo model its own skills",
    )
    tasks: list[str] = Field(
        default_factory=list, description="standard tasks by lm-eval's names, for example arc_easy; it must be installed"
    )
    most_rows: int = knob(
        100, ge=1, le=1_000_000, help="at most so many rows of each standard task", label="rows of a task", log=True, more=True
    )
    max_tokens: int = knob(48, ge=1, le=4096, help="longest answer", unit="tokens", log=True)
    max_length: int = knob(
        256, ge=8, le=131_072, help="longest row in tokens, for the loss; what is beyond is cut off", unit="tokens", log=True
    )
    batch_size: int = knob(8, ge=1, le=256, help="questions that are answered together", log=True, more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows are drawn", more=True)


class ReportSpec(Spec):
    """What a model learnt and what it lost: its answers beside its base's, and where in the network the change sits."""

    kind: Literal["report"] = "report"
    name: str = Field("", max_length=80)
    model: str = Field(min_length=1, description="the tuned model: a run, a merge, a folder or a hub id")
    base: str = Field("", description="what it was tuned from; empty takes what it says")
    sets: list[EvaluationSet] = Field(
        default_factory=list, description="what both are asked; empty takes what the run held back, and for the demo model its own skills"
    )
    inspections: list[ChosenInspection] = Field(
        default_factory=lambda: [{"method": "weight_change"}, {"method": "kl_from_base"}], validate_default=True
    )
    max_tokens: int = knob(48, ge=1, le=4096, help="longest answer", unit="tokens", log=True)
    max_length: int = knob(256, ge=8, le=131_072, help="longest row in tokens; what is beyond is cut off", unit="tokens", log=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows are drawn", more=True)

    @model_validator(mode="after")
    def _inspects_each_once(self) -> "ReportSpec":
        names = [inspection.name for inspection in self.inspections]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError("\n".join(f"inspections names {name!r} twice; one of each is enough" for name in twice))
        return self
