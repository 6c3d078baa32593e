"""A spec is the whole job as a value: shown as YAML, stored with the run, diffed, and enough to do it again.

One class for each kind of job, and reading them from plain values, YAML and the command line. Its parts: `core/parts.py`; the specs
of jobs that only ask models: `core/asking.py`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from workbench.core.asking import CompareSpec, EvaluateSpec, InspectSpec, ReportSpec
from workbench.core.claim import ClaimSpec
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.guard import Gauge
from workbench.core.mergekit import from_kit, is_kit
from workbench.core.method import Method, knob
from workbench.core.mistakes import sentences
from workbench.core.pace import Paced
from workbench.core.parts import (
    Change,
    ChosenAdapter,
    ChosenLoss,
    ChosenMerge,
    ChosenNoise,
    ChosenProbe,
    ChosenUpdate,
    DataSpec,
    MergeInput,
    Spec,
    StopSpec,
)
from workbench.core.settings import override, put
from workbench.core.stack import Stack
from workbench.core.stack import mistakes as unstacked
from workbench.core.varied import at as value_at
from workbench.core.varied import mistakes, numbers

CHANGEABLE = ("evaluate_every", "sample_every", "checkpoint_every")
"""What may change while a run works, besides `stop.…` and the update's knobs (the method itself and the groups' paces stay)."""


class TrainSpec(Spec):
    """One training run from base to adapter."""

    kind: Literal["train"] = "train"
    name: str = Field("", max_length=80, description="what the run is called in lists")
    model: str = Field("pocket", description="the base: 'pocket', a model of the workspace, a run, a folder, or a hub id")
    data: DataSpec = Field(default_factory=DataSpec)
    known: str = Field("", description="data set of what must not be forgotten; empty takes the demo model's own skills for the demo model")
    adapter: ChosenAdapter = Field(default_factory=lambda: {"method": "lora"}, validate_default=True)
    loss: ChosenLoss = Field(default_factory=lambda: {"method": "cross_entropy"}, validate_default=True)
    update: ChosenUpdate = Field(default_factory=lambda: {"method": "adamw"}, validate_default=True)
    probes: list[ChosenProbe] = Field(
        default_factory=lambda: [{"method": "gradient_norm"}, {"method": "step_safety"}, {"method": "forgetting"}], validate_default=True
    )
    noises: list[ChosenNoise] = Field(default_factory=list, description="what disturbs the inputs while it learns, in order")
    steps: int = knob(120, ge=1, le=10_000_000, help="optimizer steps", log=True)
    batch_size: int = knob(8, ge=1, le=1024, help="rows in one forward pass", unit="rows", log=True)
    accumulate: int = knob(1, ge=1, le=1024, help="forward passes whose gradients make one step", more=True)
    processes: int = knob(
        1, ge=1, le=64, more=True,
        help="processes that share out the forward passes of each step: a GPU each, or without a GPU an equal part of the cores",
    )  # fmt: skip
    schedule: Literal["linear", "cosine", "constant"] = knob("cosine", help="how the learning rate falls after the warm-up")
    warmup: float = knob(0.05, ge=0, le=0.5, help="share of the steps in which the learning rate rises", more=True)
    packing: bool = knob(False, help="fill each sequence with several short rows instead of padding", more=True)
    group_by_length: bool = knob(False, help="put rows of like length into a batch, so that less is padding", more=True)
    recompute: bool = knob(
        False, help="compute activations anew in the backward pass: less memory, more time", more=True, label="gradient checkpointing"
    )
    precision: Literal["auto", "bfloat16", "float16", "float32"] = knob(
        "auto",
        help="numbers of the frozen weights and of the arithmetic: auto is bfloat16 on a GPU that has it, float16 on an older one, "
        "and without a GPU float32, or bfloat16 for a frozen base that was saved so where the CPU multiplies it; what moves is float32",
        more=True,
    )
    quantization: Literal["none", "nf4"] = knob(
        "none",
        help="hold the frozen matrices in 4 bits while an adapter learns beside them (QLoRA): nf4 takes about a quarter of bfloat16's "
        "memory for the weights, and some time at each step",
        more=True,
    )
    evaluate_every: int = knob(10, ge=1, help="steps between two validation losses", unit="steps", more=True)
    sample_every: int = knob(30, ge=1, help="steps between two rounds of sample answers", unit="steps", more=True)
    checkpoint_every: int = knob(50, ge=1, help="steps between two checkpoints", unit="steps", more=True)
    prompts: list[str] = Field(
        default_factory=list, max_length=8, description="prompts that are answered as it learns; empty takes some from the validation rows"
    )
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the order of the rows, the adapter's start and the sampling", more=True)
    stop: StopSpec = Field(default_factory=StopSpec)
    changes: list[Change] = Field(default_factory=list, description="settings that change on the way: [{at: 40, set: {update.lr: 1e-4}}]")

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainSpec":
        mistakes = [*self._unguarded(), *self._unfed(), *self._too_short(), *self._unshared(), *self._wrong_changes()]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def at(self, step: int) -> "TrainSpec":
        """The spec in force at a step (from 1): this one with the changes up to there made, in the order of their steps."""
        return self.changed(*(change for change in sorted(self.changes, key=lambda change: change.at) if change.at <= step))

    def changed(self, *changes: Change) -> "TrainSpec":
        """This spec with some changes made, and none to come."""
        given = self.model_dump(mode="json") | {"changes": []}
        for change in changes:
            for name, value in change.set.items():
                put(given, name, value)
        return TrainSpec.parse(given)

    def _unguarded(self) -> Iterator[str]:
        if self.update.guard != "monitor" and not any(isinstance(probe, Gauge) for probe in self.probes):
            yield (
                f"update.guard is {self.update.guard!r}, which needs to know how safe a step is; add step_safety to the probes, "
                "or set the guard to monitor"
            )

    def _unfed(self) -> Iterator[str]:
        if self.loss.by_task and not self.data.task:
            yield f"loss {self.loss.name} weighs tasks; say in data.task which column names the task of a row"
        if self.adapter.by_task and not (self.data.task or self.data.balance or self.data.mix):
            yield f"adapter {self.adapter.name} goes by tasks; say in data.task which column names the task of a row, or mix data sets"
        if self.packing and not self.adapter.packs:
            yield f"packing puts several rows into one sequence, and adapter {self.adapter.name} reads one at a time; leave packing off"
        if self.quantization != "none" and not self.adapter.over_rounded:
            yield (
                f"quantization {self.quantization} rounds the matrices, and adapter {self.adapter.name} reads or moves their numbers; "
                "set quantization to none, or take an adapter beside frozen weights, such as lora"
            )
        for asked in (self.loss.judges, self.adapter.earlier, self.adapter.looks_at):
            try:
                asked()
            except WorkbenchError as error:
                yield str(error)

    def _too_short(self) -> Iterator[str]:
        if self.steps < (links := self.adapter.links()):
            yield f"steps is {self.steps}, but the adapter's {links} links need one each; set steps to {links} or more, or take fewer links"

    def _unshared(self) -> Iterator[str]:
        if self.processes > self.accumulate:
            yield (
                f"processes is {self.processes}, but accumulate leaves {self.accumulate} to share out in a step; set accumulate to "
                f"{self.processes} or more (and lower batch_size by as much), or take fewer processes"
            )

    def _wrong_changes(self) -> Iterator[str]:
        for change in self.changes:
            fixed = [name for name in change.set if not may_change(name)]
            yield from (f"changes: {name} cannot change while a run works" for name in fixed)
            if not fixed:
                try:
                    self.at(change.at)
                except SpecError as error:
                    yield from (f"changes at step {change.at}: {mistake}" for mistake in error.mistakes)


def may_change(name: str) -> bool:
    """Whether a setting may change while a run works."""
    part, _, knob_name = name.partition(".")
    return name in CHANGEABLE or part == "stop" or (part == "update" and knob_name not in ("", "method", *Paced.model_fields))


class MergeSpec(Spec):
    """Several tuned models of one base into one model."""

    kind: Literal["merge"] = "merge"
    name: str = Field("merged", min_length=1, max_length=64, description="the merged model's name in the workspace")
    base: str = Field("pocket", description="the model that all of them were tuned from")
    models: list[MergeInput] = Field(min_length=1, description="the tuned models, each with its weight")
    merge: ChosenMerge = Field(default_factory=lambda: {"method": "linear"}, validate_default=True)
    vary: dict[str, list[Any]] = Field(
        default_factory=dict, description="knobs of the merge that differ from tensor to tensor; a list may stand in the merge itself too"
    )
    stack: Stack = Field(
        default_factory=list,
        description="as pocket 0-4, run:0001 2-6: slices of layers (0-4 is 0 to 3), one on top of the other; empty takes all as they are",
    )
    tokenizer: str = knob(
        "same",
        help="same for models of one vocabulary; else base, union, or one of the models: rows are matched by their tokens",
        more=True,
    )
    rows: str = knob("", label="rows to listen to", help="data set to pair by activations; empty takes what the runs held back", more=True)
    dtype: Literal["as base", "float32", "bfloat16", "float16"] = knob(
        "as base", help="number format of the written weights (of an adapter float32, unless named); the arithmetic is float32 or finer"
    )
    device: Literal["auto", "cpu", "cuda"] = knob(
        "auto",
        help="where it is computed: auto takes the GPU, where there is one, for all but merges that only add the models up; those wait "
        "for the disk",
        more=True,
    )
    save: Literal["model", "adapter"] = knob(
        "model", help="a whole model, or one LoRA adapter on the base; for that all models must be LoRA adapters on it", label="written as"
    )
    rank: int = knob(
        0, ge=0, le=4096, label="adapter rank", help="directions kept of each matrix; 0 keeps all, up to the sum of the ranks", more=True
    )
    of: Literal["changes", "factors"] = knob(
        "changes",
        help="what the adapters give to the method: the changes B·A themselves, or A and B apart, as peft's linear and ties; that is rough",
        label="adapter from",
        more=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_stand_apart(cls, given: Any) -> Any:
        """`merge: {method: ties, density: [0.2, 0.8]}` → the list under `vary`, and the knob at its usual value."""
        merge = given.get("merge") if isinstance(given, Mapping) else None
        if not isinstance(merge, Mapping):
            return given
        lists = {name: value for name, value in merge.items() if isinstance(value, list)}
        plain = {name: value for name, value in merge.items() if name not in lists}
        return {**given, "merge": plain, "vary": {**(given.get("vary") or {}), **lists}} if lists else given

    @model_validator(mode="after")
    def _names_what_is_there(self) -> "MergeSpec":
        wrong = [mistake for name, value in self.vary.items() for mistake in self._wrong(name, value)]
        wrong += unstacked(self.stack, self.base, self._references()[1:])
        if self.tokenizer not in ("same", "base", "union", *self._references()):
            known = ", ".join(["same", "base", "union", *self._references()])
            wrong.append(f"tokenizer is {self.tokenizer!r}; it must be one of {known}")
        if self.save == "adapter" and (self.stack or self.tokenizer != "same"):
            wrong.append("an adapter has the layers and the tokens of its base; leave stack and tokenizer out, or set save to model")
        wrong += [
            f"{name} is about an adapter, and this merge writes a whole model; set save to adapter, or leave {name} out"
            for name in ("rank", "of")
            if self.save == "model" and self.model_dump()[name] != MergeSpec.model_fields[name].default
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _references(self) -> list[str]:
        return [self.base, *(given.model for given in self.models)]

    def _wrong(self, name: str, value: list[Any]) -> Iterator[str]:
        """What is wrong with one varied knob: how it is written, or that the method does not take one of its numbers."""
        written = list(mistakes(f"merge.{name}", value))
        yield from written
        for number in () if written else numbers(value):
            try:
                self._with({name: number})
            except ValidationError as error:
                yield from (f"merge.{sentence}" for sentence in sentences(error, set(type(self.merge).model_fields)))

    def at(self, name: str, depth: float | None) -> tuple[Method, list[float]]:
        """The merge and the models' weights for the tensor `name` at this depth."""
        weights = [float(value_at(given.weight, name, depth)) for given in self.models]
        here = {knob_name: value_at(value, name, depth) for knob_name, value in self.vary.items()}
        whole = {knob_name for knob_name, field in type(self.merge).model_fields.items() if field.annotation is int}
        return self._with({knob_name: round(own) if knob_name in whole else own for knob_name, own in here.items()}), weights

    def _with(self, changes: dict[str, Any]) -> Method:
        return type(self.merge)(**{**self.merge.model_dump(), **changes}) if changes else self.merge


SPECS: dict[str, type[Spec]] = {
    "train": TrainSpec, "merge": MergeSpec, "compare": CompareSpec, "inspect": InspectSpec, "evaluate": EvaluateSpec, "report": ReportSpec,
    "claim": ClaimSpec,
}  # fmt: skip


def parse_spec(given: Any) -> Spec:
    """A spec of any kind from plain values; `kind` says which, and may be left out of a training spec. mergekit's YAML is read too."""
    if is_kit(given):
        given = from_kit(given)
    if not isinstance(given, Mapping):
        raise SpecError([f"a spec is a mapping of names to values, this is {type(given).__name__}"])
    kind = given.get("kind", "train")
    if kind not in SPECS:
        raise SpecError([f"kind is {kind!r}; it must be one of {', '.join(SPECS)}"])
    return SPECS[kind].parse(given)


def read_spec(path: Path, overrides: list[str] = ()) -> Spec:  # type: ignore[assignment]
    """A spec from a YAML file; `overrides` are `dotted.name=value` as on the command line."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkbenchError(
            f"There is no spec file {path}. Give the path of a YAML file, for example assets/demos/quickstart.yaml."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"The spec file {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise WorkbenchError(f"{path} is not YAML: {' '.join(str(error).split())}. Mend that place and run it again.") from error
    return parse_spec(override(from_kit(given) if is_kit(given) else given, overrides))
