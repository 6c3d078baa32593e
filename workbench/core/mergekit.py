"""mergekit's YAML, read as a merge spec and written from one. The format is mergekit 0.1.5's; which of its methods and parameters a
merge answers to stands in the merge itself (`Merge.kit`, `kit_defaults`, `kit_knobs`).

What is not read here is refused in a sentence and never left out silently: slices that stack layers, modules, tokenizers to be built,
and a parameter that differs between models where our knob is one for all. mergekit computes in the `dtype` it is given; here the
arithmetic is always float32, so results differ from it by its rounding.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from workbench.core.errors import SpecError
from workbench.core.method import Method, shelf

IGNORED = {"int8_mask", "name"}  # of no consequence for what comes out
KNOWN = {
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "chat_template",
    *IGNORED,
}
NUMBERS = ("float32", "bfloat16", "float16")


def is_kit(given: Any) -> bool:
    """Whether a mapping was written for mergekit."""
    return isinstance(given, Mapping) and "merge_method" in given


def from_kit(given: Mapping[str, Any]) -> dict[str, Any]:
    """A merge spec as plain values; everything that is not understood is a `SpecError`, all at once."""
    mistakes = [f"{name} is not read here; remove it" for name in sorted(map(str, set(given) - KNOWN))]
    shared = _mapping(given.get("parameters"), "parameters", mistakes)
    if given.get("tokenizer_source") not in (None, "base"):
        mistakes.append("tokenizer_source: tokenizers are not merged here; use 'base', or leave it out")
    if given.get("chat_template") not in (None, "auto"):
        mistakes.append("chat_template: templates are taken from the base; leave it out")
    kind, fixed = _method(given["merge_method"], mistakes)
    models, base = _models(given, mistakes), given.get("base_model")
    if not base:
        if models and kind is not None:
            base = models[0][0]  # mergekit takes config and tokenizer from an input then
        else:
            mistakes.append("base_model is missing")
    tuned = [(model, own) for model, own in models if own or model != base] or models
    merge, weights = _knobs(kind, fixed, shared, [own for _, own in tuned], mistakes)
    if mistakes:
        raise SpecError(list(dict.fromkeys(mistakes)))
    numbers = given.get("out_dtype") or given.get("dtype")
    shares = [{"model": str(model), "weight": weight} for (model, _), weight in zip(tuned, weights, strict=True)]
    return {"kind": "merge", "base": str(base), "models": shares, "merge": merge, "dtype": numbers if numbers in NUMBERS else "as base"}


def to_kit(method: Method, vary: Mapping[str, Any], base: str, models: Mapping[str, Any], numbers: str | None) -> str | None:
    """The same merge as mergekit's YAML, None where it has no such method. `models`: path → weight; `numbers`: dtype of the result."""
    own = method.model_dump()
    name = next((name for name, fixed in method.kit.items() if fixed.items() <= own.items()), None)
    if name is None:
        return None
    back = {target: (source, values) for source, (target, values) in _targets(method).items()}
    held = {**own, **vary}
    parameters = {}
    for knob, value in held.items():
        if knob in back:
            source, values = back[knob]
            theirs = {ours: name for name, ours in values.items()}
            if values and (isinstance(value, list) or value not in theirs):
                return None
            parameters[source] = theirs[value] if values else value
        elif knob not in method.kit[name] and value != method.kit_defaults.get(knob, type(method).model_fields[knob].default):
            return None  # a knob of ours that it has not
    entries = [{"model": path, "parameters": {"weight": weight}} for path, weight in models.items()]
    of = {"base_model": base} if method.kit_base else {}
    found = {"merge_method": name, **of, "models": entries, "parameters": parameters, "dtype": "float32"}
    return yaml.safe_dump(found | ({"out_dtype": numbers} if numbers else {}), sort_keys=False, allow_unicode=True)


def _method(name: Any, mistakes: list[str]) -> tuple[type[Method] | None, Mapping[str, Any]]:
    for kind in shelf("merges").values():
        if str(name) in kind.kit:
            return kind, kind.kit[str(name)]
    known = sorted(theirs for kind in shelf("merges").values() for theirs in kind.kit)
    mistakes.append(f"merge_method {name!r} is not read here; there are: {', '.join(known)}")
    return None, {}


def _models(given: Mapping[str, Any], mistakes: list[str]) -> list[tuple[Any, dict[str, Any]]]:
    """(reference, its parameters) of every model."""
    entries = given.get("models")
    slices = given.get("slices")
    if entries is None and isinstance(slices, list) and slices:
        if len(slices) > 1:
            mistakes.append("slices: several of them stack layers, which is not done here; merge whole models")
            return []
        entries = _mapping(slices[0], "slices", mistakes).get("sources")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and "model" in entry for entry in entries):
        mistakes.append("models: write a list of entries with 'model', and 'parameters' where they have any")
        return []
    for entry in entries:
        if "+" in str(entry["model"]):
            mistakes.append(f"{entry['model']}: name a run, or merge the adapter into its base first")
    return [(entry["model"], _mapping(entry.get("parameters"), f"parameters of {entry['model']}", mistakes)) for entry in entries]


def _mapping(given: Any, what: str, mistakes: list[str]) -> dict[str, Any]:
    """What should be a mapping, and is none where it is left out."""
    if given is not None and not isinstance(given, Mapping):
        mistakes.append(f"{what}: write names and values, this is {given!r}")
    return dict(given) if isinstance(given, Mapping) else {}


def _knobs(
    kind: type[Method] | None, fixed: Mapping[str, Any], shared: Mapping[str, Any], own: list[dict[str, Any]], mistakes: list[str]
) -> tuple[dict[str, Any], list[Any]]:
    """The merge as plain values, and the weight of each model."""
    if kind is None:
        return {}, []
    merge, targets = {"method": kind.name, **kind.kit_defaults, **fixed}, _targets(kind)
    weights = [of.get("weight", shared.get("weight", 1.0)) for of in own]
    names = dict.fromkeys([*shared, *(name for of in own for name in of)])
    for name in names:
        if name in ("weight", *IGNORED):
            continue
        values = [of.get(name, shared.get(name)) for of in own if name in of or name in shared] or [shared.get(name)]
        if name not in targets:
            mistakes.append(f"parameter {name!r} is not known to {kind.title()} here; it has: {', '.join(targets) or 'none'}")
        elif any(value != values[0] for value in values):
            mistakes.append(f"parameter {name!r} differs between the models; here it is one for all of them")
        else:
            target, translated = targets[name]
            merge[target] = next((ours for theirs, ours in translated.items() if theirs == values[0]), values[0])
    return merge, weights


def _targets(kind: Any) -> dict[str, tuple[str, Mapping[Any, Any]]]:
    """mergekit's parameter → (our knob, its values → ours; empty where they are the same)."""
    return {name: given if isinstance(given, tuple) else (given, {}) for name, given in kind.kit_knobs.items()}
