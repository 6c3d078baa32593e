"""Specs of jobs that ask models and change nothing: comparing, inspecting, evaluating. The others: `core/spec.py`."""

from typing import Literal

from pydantic import Field

from workbench.core.method import knob
from workbench.core.parts import ChosenDecoder, Spec


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
