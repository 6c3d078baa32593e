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


def tree(modules: Sequence[Module], text: str) -> str:
    """Branches by the part of a block, leaves with shape; outside the blocks last."""
    branches = dict[str, list[Module]]()
    for module in modules:
        branches.setdefault(module.path.rpartition(".")[0] if module.blocks else "outside the blocks", []).append(module)
    held = set(named(text))
    rows = "".join(
        _branch(branch or "block", own, held) for branch, own in sorted(branches.items(), key=lambda item: not item[1][0].blocks)
    )
    return f'<div class="module-tree" role="group" aria-label="modules of the model">{rows}</div>'


def _branch(branch: str, modules: Sequence[Module], held: set[str]) -> str:
    return f"<h4>{html.escape(branch)}</h4>" + "".join(_leaf(module, module.call in held or module.path in held) for module in modules)


def _leaf(module: Module, chosen: bool) -> str:
    shape = " × ".join(f"{side:,}" for side in module.shape)
    return (
        f'<button type="button" class="leaf" data-pick="{html.escape(module.call)}" aria-pressed="{str(chosen).lower()}">'
        f"<b>{html.escape(module.path.rpartition('.')[2])}</b><span>{shape}{_where(module.blocks)}</span></button>"
    )


def _where(blocks: Sequence[int]) -> str:
    """` · blocks 0–5`; those that are alike need not be neighbours."""
    if not blocks:
        return ""
    whole = list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    told = f"{blocks[0]}–{blocks[-1]}" if whole and len(blocks) > 1 else ", ".join(map(str, blocks))
    return f" · block{'s' if len(blocks) > 1 else ''} {told}"
