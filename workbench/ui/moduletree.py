"""The modules of the base as a tree with their shapes, from which a knob that names modules is filled by clicks.

Markup and lists of names alone. What it is not: the modules (`jobs/anatomy.py`), or what is made of their names (`methods/adapters/`).
Buttons are `[data-pick=NAME]`; those that are named are pressed.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.method import find, knobs_of
from workbench.jobs.anatomy import Module


def knob_for(adapter: Mapping[str, Any]) -> str:
    """The adapter's knob that names modules, or an empty string."""
    return next((knob.name for knob in knobs_of(find("adapters", adapter["method"])) if knob.names == "module"), "")


def named(text: str) -> list[str]:
    """The names in a list with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def toggled(text: str, name: str) -> str:
    """The list with the name, or without it if it was there."""
    held = named(text)
    return ", ".join([own for own in held if own != name] if name in held else [*held, name])


def tree(modules: Sequence[Module], text: str, every: bool = True) -> str:
    """Branches by the part of a block, leaves with shape; outside the blocks last. Only matrices in blocks can be named if not `every`."""
    branches = dict[str, list[Module]]()
    for module in modules:
        branches.setdefault(module.path.rpartition(".")[0] if module.blocks else "outside the blocks", []).append(module)
    held, shown = set(named(text)), " open" if text else ""
    rows = "".join(
        _branch(branch or "block", own, held, every) for branch, own in sorted(branches.items(), key=lambda item: not item[1][0].blocks)
    )
    return (
        f'<details class="module-tree"{shown}><summary>Choose modules of this model by name</summary>'
        f'<div role="group" aria-label="modules of the model">{rows}</div></details>'
    )


def _branch(branch: str, modules: Sequence[Module], held: set[str], every: bool) -> str:
    leaves = (_leaf(module, bool({module.call, module.path} & held), every or _matrix(module)) for module in modules)
    return f"<h4>{html.escape(branch)}</h4>{''.join(leaves)}"


def _matrix(module: Module) -> bool:
    """Whether it is a matrix inside the blocks."""
    return len(module.shape) == 2 and bool(module.blocks)


def _leaf(module: Module, chosen: bool, can_be: bool) -> str:
    shape, state = " × ".join(f"{side:,}" for side in module.shape), f'aria-pressed="{str(chosen).lower()}"'
    return (
        f'<button type="button" class="leaf" data-pick="{html.escape(module.call)}" {state}{"" if can_be else " disabled"}>'
        f"<b>{html.escape(module.path.rpartition('.')[2])}</b><span>{shape}{_where(module.blocks)}</span></button>"
    )


def _where(blocks: Sequence[int]) -> str:
    """` · blocks 0–5`; those that are alike need not be neighbours."""
    if not blocks:
        return ""
    whole = list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    told = f"{blocks[0]}–{blocks[-1]}" if whole and len(blocks) > 1 else ", ".join(map(str, blocks))
    return f" · block{'s' if len(blocks) > 1 else ''} {told}"
