"""mergekit's YAML, read as a merge spec and written from one. The format is mergekit 0.1.5's; which of its methods and parameters a
merge answers to stands in the merge itself (`Merge.kit`, `kit_defaults`, `kit_knobs`). Its slices: `core/kitslices.py`.

What is not read here is refused in a sentence and never left out silently: modules, sources of one slice with different layers, and a
parameter that differs between models where our knob is one for all. mergekit computes in the `dtype` it is given; here the arithmetic
is always float32, so results differ from it by its rounding. Outside the layers mergekit takes a list's first number; here the final
norm and the head take its last (`core/varied.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from workbench.core.errors import SpecError
from workbench.core.kitslices import KitSlice, Sources, mapping, over_all, read_slices, within
from workbench.core.method import Method, shelf
from workbench.core.parts import Slice
from workbench.core.stack import laid_out
from workbench.core.stack import mistakes as unstacked

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
    "tokenizer",
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
    shared = mapping(given.get("parameters"), "parameters", mistakes)
    if given.get("chat_template") not in (None, "auto"):
        mistakes.append("chat_template: templates are taken from the base; leave it out")
    kind, fixed = _method(given["merge_method"], mistakes)
    slices, base = read_slices(given, mistakes), given.get("base_model")
    if not base:
        if slices and slices[0].sources and kind is not None:
            base = slices[0].sources[0][0]  # mergekit takes config and tokenizer from an input then
        else:
            mistakes.append("base_model is missing")
    on_base = kind is None or _on_base(kind, {kind.kit_base: bool(given.get("base_model"))})
    slices = [KitSlice(one.layers, _tuned(on_base, one.sources, base), one.parameters) for one in slices]
    models = _named(on_base, slices, base)
    tokenizer = _tokenizer(given, [base, *models], mistakes)
    merge, weights = _knobs(kind, fixed, shared, slices, models, mistakes)
    if kind is not None and isinstance(kind.kit_base, str):
        merge[kind.kit_base] = on_base
    stack = _stack(kind, slices, str(base), models, mistakes)
    if mistakes:
        raise SpecError(list(dict.fromkeys(mistakes)))
    numbers = given.get("out_dtype") or given.get("dtype")
    found = {
        "kind": "merge",
        "base": str(base),
        "models": [{"model": str(model), "weight": weight} for model, weight in zip(models, weights, strict=True)],
        "merge": merge,
        "dtype": numbers if numbers in NUMBERS else "as base",
    }
    return found | ({"stack": stack} if stack else {}) | ({"tokenizer": tokenizer} if tokenizer else {})


def to_kit(
    method: Method,
    vary: Mapping[str, Any],
    base: str,
    models: Sequence[tuple[str, Any]],
    numbers: str | None,
    slices: Sequence[tuple[tuple[int, int], Sequence[int]]] = (),
    tokenizer: str | None = None,
) -> str | None:
    """The same merge as mergekit's YAML, None where it has no such method.

    `models`: (path, weight) of each; `numbers`: dtype of the result; `slices`: layers and the places of the models that take part, the
    base's after the last; `tokenizer`: base, union, or a path.
    """
    own = method.model_dump()
    name = next((name for name, fixed in method.kit.items() if fixed.items() <= own.items()), None)
    if name is None:
        return None
    back = {target: (source, values) for source, (target, values) in _targets(method).items()}
    held = {**own, **vary}
    usual = {**type(method)().model_dump(), **method.kit_defaults}
    parameters = {}
    for knob, value in held.items():
        if knob in back:
            source, values = back[knob]
            theirs = {ours: name for name, ours in values.items()}
            if values and (isinstance(value, list) or value not in theirs):
                return None
            parameters[source] = theirs[value] if values else value
        elif knob not in (method.kit_base, *method.kit[name]) and value != usual[knob]:
            return None  # a knob of ours that it has not
    on_base = _on_base(type(method), held)
    of = {"base_model": base} if on_base else {}
    if slices:
        body = _sliced(slices, [*models, (base, None)], parameters, on_base)
    else:
        body = {"models": [{"model": path, "parameters": {"weight": weight}} for path, weight in models], "parameters": parameters}
    found = {"merge_method": name, **of, **body, **({"tokenizer_source": tokenizer} if tokenizer else {}), "dtype": "float32"}
    return yaml.safe_dump(found | ({"out_dtype": numbers} if numbers else {}), sort_keys=False, allow_unicode=True)


def _tokenizer(given: Mapping[str, Any], known: Sequence[Any], mistakes: list[str]) -> str | None:
    """Where the tokens come from, said in either of mergekit's two ways; None where it is not said."""
    own = given.get("tokenizer")
    held = mapping(own, "tokenizer", mistakes)
    if held.get("tokens"):
        mistakes.append("tokenizer.tokens: rows of single tokens are not chosen here; leave it out, and each token gets its owners' rows")
    for name in sorted(map(str, set(held) - {"source", "tokens"})):
        mistakes.append(f"tokenizer.{name} is not read here; remove it")
    source = given.get("tokenizer_source") if own is None else held.get("source", "union")
    if source in (None, "base", "union") or source in known:
        return source
    mistakes.append(f"tokenizer {source!r} is none of the models; write base, union, or one of them")
    return None


def _sliced(
    slices: Sequence[tuple[tuple[int, int], Sequence[int]]],
    models: Sequence[tuple[str, Any]],
    parameters: Mapping[str, Any],
    on_base: bool,
) -> dict[str, Any]:
    """Slices and parameters of a file; the base is the last of `models`, and stands in each slice where the method starts from it."""
    layers = sum(stop - first for (first, stop), _ in slices)
    written, done = [], 0
    for (first, stop), takers in slices:
        span = done, stop - first, layers
        places = [*([len(models) - 1] if on_base else []), *(place for place in takers if not on_base or place != len(models) - 1)]
        sources = []
        for path, weight in (models[place] for place in places):
            own = {} if weight is None else {"parameters": {"weight": within(weight, *span)}}
            sources.append({"model": path, "layer_range": [first, stop], **own})
        graded = {name: within(value, *span) for name, value in parameters.items() if isinstance(value, list)}
        written.append({"sources": sources, **({"parameters": graded} if graded else {})})
        done += stop - first
    return {"slices": written, "parameters": {name: value for name, value in parameters.items() if not isinstance(value, list)}}


def _on_base(kind: Any, knobs: Mapping[Any, Any]) -> bool:
    """Whether mergekit is told the base, which for some methods is a choice and a knob here."""
    return bool(knobs[kind.kit_base]) if isinstance(kind.kit_base, str) else kind.kit_base


def _tuned(on_base: bool, sources: Sources, base: Any) -> Sources:
    """The models without the base, where it is listed only because the method starts from it."""
    if not on_base:
        return sources
    return [(model, own) for model, own in sources if own or model != base] or sources


def _named(on_base: bool, slices: Sequence[KitSlice], base: Any) -> list[Any]:
    """The models of the spec: those of the only slice, or all that some slice names."""
    if len(slices) == 1:
        return [model for model, _ in slices[0].sources]
    sources = [source for one in slices for source in one.sources]
    return list(dict.fromkeys(model for model, own in sources if own or model != base or not on_base)) or [base]


def _stack(kind: Any, slices: Sequence[KitSlice], base: str, models: Sequence[Any], mistakes: list[str]) -> list[dict[str, Any]]:
    """The spec's stack; nothing where all layers are merged as they are."""
    if not any(one.layers for one in slices):
        return []
    names = [str(model) for model in models]
    named = [[str(model) for model, _ in one.sources] for one in slices]
    stack = [Slice(layers=one.layers or (0, 0), models=[] if own == names else own) for one, own in zip(slices, named, strict=True)]
    wrong = list(unstacked(stack, base, names))
    mistakes += wrong
    if not (wrong or mistakes) and not laid_out(stack, base, names, kind.most).plain:
        mistakes.append(
            "slices: mergekit merges what lies outside the layers of the first slice's models and of the last one's, and here all models "
            "take part in it; name all of them in the first and the last slice"
        )
    return [{"layers": list(one.layers), "models": one.models} for one in stack]


def _method(name: Any, mistakes: list[str]) -> tuple[type[Method] | None, Mapping[str, Any]]:
    for kind in shelf("merges").values():
        if str(name) in kind.kit:
            return kind, kind.kit[str(name)]
    known = sorted(theirs for kind in shelf("merges").values() for theirs in kind.kit)
    mistakes.append(f"merge_method {name!r} is not read here; there are: {', '.join(known)}")
    return None, {}


def _knobs(
    kind: type[Method] | None,
    fixed: Mapping[str, Any],
    shared: Mapping[str, Any],
    slices: Sequence[KitSlice],
    models: Sequence[Any],
    mistakes: list[str],
) -> tuple[dict[str, Any], list[Any]]:
    """The merge as plain values, and the weight of each model."""
    if kind is None:
        return {}, []
    merge, targets = {"method": kind.name, **kind.kit_defaults, **fixed}, _targets(kind)
    sources = [own for one in slices for _, own in one.sources]
    for name in dict.fromkeys([*shared, *(name for one in slices for name in one.parameters), *(name for own in sources for name in own)]):
        if name in ("weight", *IGNORED):
            continue
        if name not in targets:
            mistakes.append(f"parameter {name!r} is not known to {kind.title()} here; it has: {', '.join(targets) or 'none'}")
            continue
        target, translated = targets[name]
        usual = next((theirs for theirs, ours in translated.items() if ours == merge.get(target)), merge.get(target))
        usual = kind.model_fields[target].default if usual is None else usual
        found = over_all(name, [_agreed(name, one, shared, usual, mistakes) for one in slices], slices, mistakes)
        merge[target] = next((ours for theirs, ours in translated.items() if theirs == found), found)
    return merge, _weights(shared, slices, models, mistakes)


def _agreed(name: str, one: KitSlice, shared: Mapping[str, Any], usual: Any, mistakes: list[str]) -> Any:
    """A slice's value of a parameter, which must be one for all its models; the usual one where nothing is said."""
    here = {**shared, **one.parameters}
    values = [own.get(name, here.get(name)) for _, own in one.sources if name in own or name in here] or [here.get(name, usual)]
    if any(value != values[0] for value in values):
        mistakes.append(f"parameter {name!r} differs between the models; here it is one for all of them")
    return values[0]


def _weights(shared: Mapping[str, Any], slices: Sequence[KitSlice], models: Sequence[Any], mistakes: list[str]) -> list[Any]:
    """The weight of each model, over the depth of the result where the slices say it anew."""
    if len(slices) == 1:
        here = {**shared, **slices[0].parameters}
        return [own.get("weight", here.get("weight", 1.0)) for _, own in slices[0].sources]
    found = []
    for model in models:
        said = [
            next(
                (own.get("weight", one.parameters.get("weight", shared.get("weight", 1.0))) for name, own in one.sources if name == model),
                None,
            )
            for one in slices
        ]
        found.append(over_all("weight", said, slices, mistakes) if any(value is not None for value in said) else 1.0)
    return found


def _targets(kind: Any) -> dict[str, tuple[str, Mapping[Any, Any]]]:
    """mergekit's parameter → (our knob, its values → ours; empty where they are the same)."""
    return {name: given if isinstance(given, tuple) else (given, {}) for name, given in kind.kit_knobs.items()}
