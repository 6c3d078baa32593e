"""What a method is: a frozen value whose fields are its knobs, registered by being imported.

A shelf's contract (`methods/contracts.py`) subclasses `Method` with `shelf=`; a method subclasses its contract with
`title=` and `paper=`. From the fields come the form in the browser, the flag of the command line, the JSON in the
database, the docs and the error message; nothing is said twice. This module knows no shelf and no method by name.
"""

import importlib
import inspect
import math
import pkgutil
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from workbench.core.errors import WorkbenchError


def knob(
    default: Any,
    *,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: str = "",
    label: str = "",
    log: bool = False,
    step: float | None = None,
    more: bool = False,
    names: Literal["", "data", "model", "module"] = "",
) -> Any:
    """A field of a method or a spec: its default, its range and one line of help.

    `unit` and `label` are shown beside it; `log` marks a number that is felt on a logarithmic scale (a learning rate);
    `step` is the slider's grain; `more` folds it away with what most people never touch; `names` says what a text is the name of.
    """
    lo, hi = ge if gt is None else gt, le if lt is None else lt
    shown = {"lo": lo, "hi": hi, "unit": unit, "label": label, "log": log, "step": step, "more": more, "names": names}
    return Field(default, description=help, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra={"knob": shown})


@dataclass(frozen=True)
class Knob:
    """One knob as a form, a flag or a docs row needs it; read from the field, never written by hand."""

    name: str
    label: str
    kind: Literal["bool", "int", "float", "choice", "text"]
    default: Any
    help: str
    lo: float | None = None
    hi: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    log: bool = False
    step: float | None = None
    more: bool = False
    names: str = ""

    @property
    def range(self) -> str:
        """The allowed values in words: `1 to 256`, `at least 0`, `one of a, b`."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.lo is not None and self.hi is not None:
            return f"{self.lo:g} to {self.hi:g}"
        if self.lo is not None:
            return f"at least {self.lo:g}"
        return f"at most {self.hi:g}" if self.hi is not None else {"bool": "yes or no", "text": "text"}.get(self.kind, "any number")


def knobs_of(model: type[BaseModel]) -> list[Knob]:
    """The knobs of a method or a spec as they are written, its own before its shelf's. Fields without `knob()` are left out."""
    own_first = sorted(model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__)
    return [
        _knob_of(name, field)
        for name, field in own_first
        if isinstance(field.json_schema_extra, dict) and "knob" in field.json_schema_extra
    ]


def _knob_of(name: str, field: FieldInfo) -> Knob:
    shown: dict[str, Any] = dict(field.json_schema_extra["knob"])  # type: ignore[index,arg-type,call-overload]
    kind, choices = _kind_of(name, field.annotation)
    shown["label"] = shown["label"] or name.replace("_", " ")
    return Knob(
        name=name,
        kind=kind,
        default=field.get_default(call_default_factory=True),
        help=field.description or "",
        choices=choices,
        **shown,
    )


def _kind_of(name: str, annotation: Any) -> tuple[Any, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    kinds = {bool: "bool", int: "int", float: "float", str: "text"}
    if annotation not in kinds:
        raise TypeError(f"knob {name!r} has type {annotation}; a knob is a bool, int, float, str or Literal")
    return kinds[annotation], ()


SHELVES: dict[str, dict[str, type["Method"]]] = {}
"""The one registry: shelf → name → class. Filled by importing, read through `shelf()` and `find()`."""


class Method(BaseModel):
    """A published idea as a value: fields are knobs, the docstring is what the browser shows, the shelf's verb does the work."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shelf: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Class arguments are read below, once pydantic has built the fields."""

    @classmethod
    def __pydantic_init_subclass__(cls, shelf: str = "", paper: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if shelf:
            cls.shelf = shelf
            SHELVES.setdefault(shelf, {})
            return
        cls.name, cls.paper = cls.__module__.rpartition(".")[2], paper
        known = SHELVES[cls.shelf].setdefault(cls.name, cls)
        if known is not cls and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__module__} holds two methods, {known.__name__} and {cls.__name__}: one paper, one file")
        SHELVES[cls.shelf][cls.name] = cls

    @classmethod
    def title(cls) -> str:
        return cls.model_config.get("title") or cls.name

    @classmethod
    def doc(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the docstring."""
        return " ".join(cls.doc().split("\n\n")[0].split())

    @classmethod
    def link(cls) -> str:
        """Where the paper is read, or an empty string when there is none."""
        return re.sub(r"^arXiv:", "https://arxiv.org/abs/", cls.paper)

    def costs(self) -> str:
        """What it costs beyond the usual, as a sentence for somebody who is about to start; empty for nothing."""
        return ""

    def chosen(self) -> dict[str, Any]:
        """The method as it stands in a spec: its name and every knob."""
        return {"method": self.name, **self.model_dump()}


def discover(package: str = "workbench.methods") -> None:
    """Import every module below `package`, once; a module that fails to import stops the program with its own traceback."""
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, prefix=package + "."):
        importlib.import_module(module.name)


def shelf(name: str) -> dict[str, type[Method]]:
    """The methods of one shelf by name, sorted."""
    if name not in SHELVES:
        raise KeyError(f"there is no shelf {name!r}; the shelves are {', '.join(sorted(SHELVES))}")
    return dict(sorted(SHELVES[name].items()))


def find(shelf_name: str, name: str) -> type[Method]:
    """The method's class; an unknown name is an error that lists what there is."""
    methods = shelf(shelf_name)
    if name not in methods:
        kind = shelf_name.removesuffix("es") if shelf_name.endswith("sses") else shelf_name.removesuffix("s")
        raise WorkbenchError(f"there is no {kind} called {name!r}; there are: {', '.join(methods)}")
    return methods[name]


def as_number(text: str) -> float:
    """A number as people write it (`3e-4`, `0.01`), finite, or a sentence that says what is expected."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise WorkbenchError(f"{text!r} is not a number; write it like 0.0003 or 3e-4")
    return value
