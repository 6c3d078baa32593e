"""The ways to tune, for who chooses among many: families by what they do to a matrix, each opened to its adapters, with what of the model
would move.

Markup alone. What it is not: a list of adapters, which is the registry's; it knows families (`Adapter.family`), and no adapter by name.
Buttons are `[data-pick=NAME]`; those of presets, settings to start from, count from 0.
"""

import html
from collections.abc import Mapping, Sequence

from workbench.core.method import Method, knobs_of, shelf
from workbench.jobs.presets import Preset

FROZEN = '<rect x="{x}" y="6" width="44" height="44" rx="3" class="still"/>'
BESIDE = (
    FROZEN.format(x=2) + '<text x="53" y="33">+</text>'
    '<rect x="66" y="6" width="11" height="44" rx="3" class="moves"/><rect x="83" y="6" width="44" height="11" rx="3" class="moves"/>'
)
TURNED = (
    FROZEN.format(x=2) + '<text x="53" y="33">·</text>'
    '<path d="M74 40A20 20 0 1 1 110 40" class="turn"/><path d="M104 34L110 46L116 33Z" class="moves"/>'
)
PART = FROZEN.format(x=42) + "".join(
    f'<rect x="{x}" y="{y}" width="9" height="9" class="moves"/>' for x, y in ((46, 10), (68, 10), (57, 21), (73, 31), (46, 37))
)
WHOLE = '<rect x="42" y="6" width="44" height="44" rx="3" class="moves"/><path d="M42 21H86M42 36H86M57 6V50M72 6V50" class="grid"/>'
FAMILIES = {
    "beside": (BESIDE, "Beside frozen weights", "low-rank matrices or small modules that are added; small files"),
    "turned": (TURNED, "Turning and scaling", "frozen weights whose inputs or outputs are turned or scaled; fewest numbers"),
    "part": (PART, "Some of the weights", "entries, rows, columns or blocks of the weights themselves; no cost when answering"),
    "whole": (WHOLE, "Whole tensors", "the weights themselves, all or some, or added blocks; learns most, saved as a model"),
}


def families(chosen: str, shares: Mapping[str, float]) -> str:
    """All families, the one of the chosen adapter open and that adapter first. `shares` of the model by adapter may lack some."""
    members = dict[str, list[str]]()
    for name, method in sorted(shelf("adapters").items(), key=lambda item: item[0] != chosen):
        members.setdefault(method.family, []).append(name)  # type: ignore[attr-defined]
    return f'<div class="families">{"".join(_family(name, members[name], chosen, shares) for name in FAMILIES if name in members)}</div>'


def starts(presets: Sequence[Preset]) -> str:
    """A button for each preset, with why."""
    buttons = (
        f"<button data-pick={place}><b>{html.escape(preset.name)}</b><span>{html.escape(preset.why)}</span></button>"
        for place, preset in enumerate(presets)
    )
    return f'<div class="starts">{"".join(buttons)}</div>'


def _family(family: str, names: list[str], chosen: str, shares: Mapping[str, float]) -> str:
    drawing, title, does = FAMILIES[family]
    known, ways = shelf("adapters"), f"{len(names)} ways" if len(names) > 1 else "1 way"
    return (
        f'<details name="family"{" open" if chosen in names else ""}><summary>'
        f'<svg viewBox="0 0 130 56" aria-hidden="true">{drawing}</svg><b>{title} <i>{ways}</i></b><span>{does}</span></summary>'
        f'<div class="ways">{"".join(_way(name, known[name], name == chosen, shares.get(name)) for name in names)}</div></details>'
    )


def _way(name: str, method: type[Method], pressed: bool, share: float | None) -> str:
    moves = "" if share is None else f"<i>{_percent(share)}</i>"
    reads = "<em>reads rows first</em>" if any(knob.name == "rows" for knob in knobs_of(method)) else ""
    return (
        f"<button data-pick={name} aria-pressed={str(pressed).lower()}>"
        f"<b>{html.escape(method.title())}</b>{moves}<span>{html.escape(method.summary())} {reads}</span></button>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
