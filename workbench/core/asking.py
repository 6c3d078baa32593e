"""Specs of jobs that ask models and change nothing: comparing, inspecting, evaluating. The others: `core/spec.py`."""

from typing import Literal

from pydantic import Field, model_validator

from workbench.core.method import knob
from workbench.core.parts import ChosenDecoder, ChosenInspection, Spec


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
