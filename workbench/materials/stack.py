"""A model with its layers in another order, some of them twice or not at all: the names of its tensors, and its config.

Nothing is read or copied here: a tensor of the result lies where the layer lies that it is made of, and a layer that is there twice is
read twice. Which layers, says `core/stack.py`. Knows no method. transformers is asked for what a config leaves unsaid, and is imported
for that alone, because it takes seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from workbench.materials.family import Member
from workbench.materials.lora import Lora
from workbench.materials.models import LAYER, layer_of

COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
PICKED = ("mlp_only_layers", "moe_layers", "attn_layer_indices", "full_attn_idxs", "cross_attention_layers")  # lists of layers by number
T = TypeVar("T")


def layers_of(member: Member) -> int:
    """How many layers the model has."""
    return 1 + max((layer for name in member.entries if (layer := layer_of(name)) is not None), default=-1)


def towers(member: Member) -> list[str]:
    """What stands before the number of a layer: one beginning for a plain decoder, more where a model has several stacks of layers."""
    return sorted({name[: found.start(1)] for name in member.entries if (found := LAYER.match(name))})


def unclear(member: Member) -> str:
    """Why it is not known which layers there are to stack; empty where it is."""
    found, layers = towers(member), layers_of(member)
    if len(found) != 1:
        what = f"has layers in {len(found)} places ({', '.join(found)})" if found else "has no layers that are numbered"
        return f"{member.label} {what}, and it is not known here which to stack. Leave `stack` out."
    told = _count(member.config)
    if told != layers:
        says = "does not say how many layers there are" if told is None else f"says {told} layers"
        return f"The config.json of {member.label} {says}, and its files hold {layers}, so it would not fit a stack. Leave `stack` out."
    return ""


def stacked(member: Member, sources: Sequence[int]) -> Member:
    """The model whose layer k is the member's layer `sources[k]`, with the rest as it was."""
    lora = Lora(renumbered(member.lora.factors, sources), renumbered(member.lora.replaced, sources))
    return replace(member, entries=renumbered(member.entries, sources), lora=lora, single=renumbered(member.single, sources))


def renumbered(held: Mapping[str, T], sources: Sequence[int]) -> dict[str, T]:
    """What is held by the names of tensors, by the names in the result; the order of the names is kept."""
    places: dict[int, list[int]] = {}
    for place, source in enumerate(sources):
        places.setdefault(source, []).append(place)
    found: dict[str, T] = {}
    for name, value in held.items():
        layer = LAYER.match(name)
        if layer is None:
            found[name] = value
            continue
        for place in places.get(int(layer[1]), ()):
            found[f"{name[: layer.start(1)]}{place}{name[layer.end(1) :]}"] = value
    return found


def stacked_config(config: Mapping[str, Any], sources: Sequence[int]) -> dict[str, Any]:
    """The config.json of the result: the number of layers, and every list with one entry a layer (`layer_types` and its like).

    Where a family works out such a list by a rule (every sixth layer looks far, the first ones look everywhere), the rule would hit
    other layers in the result, so the list is written out. `max_window_layers`, how many of the first layers look everywhere, becomes
    how many do so in the result.
    """
    count = _count(config)
    if count is None or list(sources) == list(range(count)):
        return dict(config)
    ruled = {name: value for name, value in _full(config).items() if "layer" in name}
    found = {**config, **dict.fromkeys((name for name in COUNTS if config.get(name) == count), len(sources))}
    for name, value in {**ruled, **config}.items():
        if name in PICKED and isinstance(value, list):
            found[name] = [place for place, source in enumerate(sources) if source in value]
        elif isinstance(value, list) and len(value) == count and not name.endswith(("_token_id", "_ids", "architectures")):
            found[name] = [value[source] for source in sources]
    if isinstance(config.get("max_window_layers"), int):
        wide = [source < config["max_window_layers"] for source in sources]
        found["max_window_layers"] = [*wide, False].index(False)
    return found


def misfits(config: Mapping[str, Any], wanted: Mapping[str, Any], sources: Sequence[int]) -> Iterator[str]:
    """Which layers transformers would build otherwise in the result than they are (dense ones as experts, …), a sentence each.

    A family that transformers does not know is not looked at.
    """
    try:
        before, after = _built(config), _built(wanted)
    except (ValueError, KeyError):
        return
    for place, source in enumerate(sources):
        if after.get(place) != before.get(source):
            yield (
                f"stack: layer {place} of the result would be built unlike layer {source}, which it is copied from: this family tells its "
                "layers apart by their number. Stack them so that each comes where its kind is expected."
            )


def _count(config: Mapping[str, Any]) -> int | None:
    return next((config[name] for name in COUNTS if name in config), None)


def _full(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what its family works out; as it is where transformers does not know the family."""
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**config).to_dict()
    except (ValueError, KeyError):
        return dict(config)


def _built(config: Mapping[str, Any]) -> dict[int, dict[str, tuple[int, ...]]]:
    """By layer the names and shapes of the parameters that transformers makes for a config; no number is made (meta device)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from workbench.materials.opening import ALONE

    with ALONE, torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), trust_remote_code=False)
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, parameter in model.named_parameters():
        layer = LAYER.match(name)
        if layer is not None:
            found.setdefault(int(layer[1]), {})[name[layer.end(1) :]] = tuple(parameter.shape)
    return found
