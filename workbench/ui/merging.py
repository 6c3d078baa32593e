"""The draft of a merge that the Merge tab holds: a `MergeSpec` as plain values, possibly with mistakes in it, and no name yet.

Pure functions: what a person's choices make of it, what it says as a spec and as YAML, and a recipe read back into it. What it is not:
the form (`ui/mergeform.py`), or what a merge does (`ui/taste.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import Knob, find
from workbench.core.spec import MergeSpec, parse_spec
from workbench.core.varied import Varied
from workbench.ui.cards import note

Draft = dict[str, Any]
SHARE = Knob("share", "share", "float", 1.0, "", -1, 2, step=0.05)  # as far as its slider goes
ANY_SHARE = Knob("share", "share", "float", 1.0, "", -10, 10, step=0.05)
NAMED = ("kind", "name")


def started(method: str, base: str = "pocket") -> Draft:
    """The draft with which the tab opens."""
    return {"base": base, "models": [], "merge": find("merges", method)().chosen(), "dtype": "as base"}


def with_models(models: Sequence[str] | None, held: Draft) -> Draft:
    """The draft with these models; one that stays keeps its share."""
    return {**held, "models": [{"model": model, "weight": weight_of(held, model)} for model in models or []]}


def weight_of(held: Draft, model: str) -> Varied:
    """The share of a model; one that is new has the whole of it."""
    return next((given["weight"] for given in held["models"] if given["model"] == model), 1.0)


def with_weights(held: Draft, weights: Mapping[str, float]) -> Draft:
    """The draft with these shares; those that vary from tensor to tensor stay as they are."""
    models = [given if isinstance(given["weight"], list) else {**given, "weight": weights[given["model"]]} for given in held["models"]]
    return {**held, "models": models}


def with_weight(held: Draft, model: str, value: Varied) -> Draft:
    models = [{**given, "weight": value} if given["model"] == model else given for given in held["models"]]
    return {**held, "models": models}


def with_method(held: Draft, name: str) -> Draft:
    """The draft with another method, at its usual settings."""
    return {**held, "merge": find("merges", name)().chosen(), "vary": {}}


def with_knob(held: Draft, name: str, value: Varied) -> Draft:
    """The draft with a knob of its method that varies, or does so no more."""
    vary = {knob: given for knob, given in (held.get("vary") or {}).items() if knob != name}
    return {**held, "vary": {**vary, name: value} if isinstance(value, list) else vary}


def share_knob(value: Varied) -> Knob:
    """The knob of a share; beyond the usual slider it may be any that a spec takes."""
    return SHARE if isinstance(value, list) or -1 <= value <= 2 else ANY_SHARE


def spec_of(held: Draft, name: str) -> MergeSpec:
    """The draft as a spec.

    Raises:
        SpecError: it has mistakes.
    """
    if not held["models"]:
        raise SpecError(["no tuned model is chosen; choose two or more on the left"])
    return parse_spec({"kind": "merge", "name": name, **held})  # type: ignore[return-value]


def recipe(held: Draft, name: str) -> str:
    """The draft as YAML that `python -m workbench merge` takes; one with mistakes as it was typed."""
    try:
        return spec_of(held, name or "merged").to_yaml()
    except WorkbenchError:
        return yaml.safe_dump({"kind": "merge", "name": name, **held}, sort_keys=False, allow_unicode=True, width=100)


def read_recipe(text: str) -> tuple[str, Draft]:
    """(name, draft) of a recipe as YAML, our own or mergekit's.

    Raises:
        SpecError: it is no recipe of a merge, or has mistakes, or the form cannot show it.
    """
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError([f"this is not YAML: {' '.join(str(error).split())}"]) from error
    return taken_up({"kind": "merge", **given} if isinstance(given, dict) and "merge_method" not in given else given)


def taken_up(given: Any) -> tuple[str, Draft]:
    """(name, draft) of a merge as plain values.

    Raises:
        SpecError: as `read_recipe`.
    """
    spec = parse_spec({} if given is None else given)
    if not isinstance(spec, MergeSpec):
        raise SpecError(["this is no recipe of a merge; paste one, or what mergekit reads"])
    return filled(spec)


def filled(spec: MergeSpec) -> tuple[str, Draft]:
    """(name, draft) of a spec, as the form holds it."""
    names = [given.model for given in spec.models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        words = "twice, which this form cannot show; add its shares up, or merge by the command line"
        raise SpecError([f"models names {name!r} {words}" for name in twice])
    held = spec.model_dump(mode="json")
    stack = ", ".join(f"{'+'.join(one.models)} {one.layers[0]}-{one.layers[1]}".strip() for one in spec.stack)
    return spec.name, {**{name: value for name, value in held.items() if name not in NAMED}, "stack": stack}


def unlike(spec: MergeSpec) -> str:
    """In what an adapter will differ from the model that is tried here."""
    if spec.of == "factors":
        return note("This is the merge of the changes. The adapter is made of A and B apart, so it will differ.", "watch")
    if spec.rank:
        return note(f"This is the merge before it is cut to rank {spec.rank}. When it is saved, the run says how much is kept.")
    return ""


def ends_of(spec: MergeSpec) -> tuple[str, str] | None:
    """The fields that the ends of the method's curve stand for, if it has one that can be drawn so."""
    ends = spec.merge.ends
    if not ends or set(ends) & set(spec.vary):
        return None
    return f"merge-{spec.merge.name}-{ends[0]}", f"merge-{spec.merge.name}-{ends[1]}"
