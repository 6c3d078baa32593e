"""The tokens of an answer as HTML: tints, what a card says of each, where answers part, and how far the models are apart on the way.

Pure functions from what a comparison measured to markup and to the numbers that `Workbench.tokens` in assets/page.js shows in the card;
knows no runner and no tab. All text is escaped.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from workbench.core.events import Table
from workbench.ui.cards import escaped

FULL = 3.0  # nats; a token whose log-probability moved this much has the deepest tint
FAR = 2.0  # nats of KL that have the deepest tint, and the darkest place of a strip
DEEPEST = 55  # per cent of the colour
COLUMNS = 96  # places of a strip; a longer answer shows the farthest of several tokens in one
FORK = '<i class="fork" title="here the answer parts from that of the base"></i>'
TABLE = "tokens of "  # begins the name of a table that holds what is drawn here


@dataclass(frozen=True)
class Held:
    """What one model held of a token at its place, in nats: its log-probability, and the divergence of what the speaker expected there
    against what this model did. `likeliest`: (text, probability) of the tokens that this model held likeliest."""

    model: str
    logp: float
    kl: float
    likeliest: tuple[tuple[str, float], ...]


Place = tuple[Held, ...]
"""All models at one token."""


def places(table: Table) -> tuple[Place, ...]:
    """A table in long form, a row for each token and model, as what the models held at each token in turn."""
    found: dict[int, list[Held]] = {}
    for row in table.rows:
        cell = dict(zip(table.columns, row, strict=True))
        likeliest = tuple((text, share) for text, share in cell["likeliest"])
        found.setdefault(cell["place"], []).append(Held(cell["model"], cell["logp"], cell["kl"], likeliest))
    return tuple(tuple(found[place]) for place in sorted(found))


def parted(first: Sequence[str], other: Sequence[str], whole: bool = True) -> int | None:
    """The first place at which `other` has another token than `first`; None where it has not. Of `whole` answers a shorter one parts
    where it ends; of answers that still grow nobody knows yet."""
    for place, (here, there) in enumerate(zip_longest(first, other)):
        if here is None or there is None:
            return place if whole else None
        if here != there:
            return place
    return None


def token(text: str, own: float, base: float, plain: bool = False, far: Sequence[float] = (), number: int | None = None) -> str:
    """One token, tinted by how much its log-probability moved from the base; `plain` ones are the base's own.

    far: KL to each pane in the order in which they are shown, for the other way to tint. number: its place, where there is a card for
    it; without one both probabilities stand in its title.
    """
    style = [] if plain else _moved(own, base)
    style += [f"--k{pane}:{DEEPEST * min(1.0, kl / FAR):.0f}%" for pane, kl in enumerate(far) if kl > 0.04 * FAR]
    styled = f' style="{";".join(style)}"' if style else ""
    if number is None:
        under = "" if plain else f" · under the base {share(math.exp(base))}"
        return f'<span{styled} title="{share(math.exp(own))}{under}">{escaped(text)}</span>'
    return f'<span{styled} data-n="{number}" tabindex="{-1 if number else 0}">{escaped(text)}</span>'


def _moved(own: float, base: float) -> list[str]:
    depth = min(1.0, abs(own - base) / FULL)
    colour = "var(--series-1)" if own > base else "var(--series-4)"
    return [f"background:color-mix(in srgb, {colour} {DEEPEST * depth:.0f}%, transparent)"] if depth > 0.04 else []


def share(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 else "under 0.1%"


def shown(text: str) -> str:
    """A token as a card writes it: its blanks can be seen, and what adds nothing to the text says so."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(part of a letter)"


def cards(told: Sequence[tuple[str, Place]], names: Mapping[str, str], own: str) -> str:
    """What the card of each token says, as data beside the tokens; never markup. [token, [[model, probability, KL, likeliest], …]],
    the model that speaks first."""
    said = [[shown(text), [_line(held, names) for held in sorted(place, key=lambda held: held.model != own)]] for text, place in told]
    return f'<data class="held" hidden>{_inert(json.dumps(said, ensure_ascii=False, separators=(",", ":")))}</data>'


def _line(held: Held, names: Mapping[str, str]) -> list[object]:
    likeliest = [[shown(text), share(probability)] for text, probability in held.likeliest]
    return [names.get(held.model, held.model), share(math.exp(held.logp)), f"{held.kl:.2f}", likeliest]


def _inert(text: str) -> str:
    """JSON without a sign that markup or a template could read. It is of lists alone, so these signs stand inside strings only."""
    for sign in "<>&{$`":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def strip(told: Sequence[Place], names: Mapping[str, str], own: str) -> str:
    """The answer from left to right, a row for each other model: the darker, the farther that model is from the one that speaks."""
    models = [model for model in names if model != own or any(held.kl > 0.01 for place in told for held in place if held.model == own)]
    far = {model: [held.kl for place in told for held in place if held.model == model] for model in models}
    rows = "".join(_row(names[model], values) for model, values in far.items() if values)
    return f'<div class="strips">{rows}</div>' if rows else ""


def _row(name: str, values: Sequence[float]) -> str:
    width = math.ceil(len(values) / COLUMNS)
    farthest = [max(values[begin : begin + width]) for begin in range(0, len(values), width)]
    rects = "".join(
        f'<rect x="{place}" width="1.02" height="1" fill-opacity="{min(1.0, kl / FAR):.2f}"/>'
        for place, kl in enumerate(farthest) if kl > 0.01 * FAR
    )  # fmt: skip
    says = f"KL to {name}: {sum(values) / len(values):.2f} nats a token, at most {max(values):.2f} at token {values.index(max(values)) + 1}"
    picture = f'<svg viewBox="0 0 {len(farthest)} 1" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'
    return f'<p title="{escaped(says)}"><span>KL to {escaped(name)}</span>{picture}<b>{sum(values) / len(values):.2f}</b></p>'


def legend(names: Sequence[str], hidden: bool = False) -> str:
    """By what tokens are tinted, to choose, and what the tints and marks mean. The choice is the page's own (assets/tabs.css)."""
    if hidden:
        return '<p class="quiet">Blind: names, tints and which one is the base are told after your vote.</p>'
    if len(names) < 2:
        return '<p class="quiet">Rest on a token, tap it or walk with the arrow keys to see what else was likely there.</p>'
    ways = [("moved", "change against the base"), *((f"k{pane}", f"KL to {name}") for pane, name in enumerate(names))]
    radios = "".join(
        f'<label><input type="radio" name="tint" value="{value}"{" checked" if value == "moved" else ""}>{escaped(words)}</label>'
        for value, words in ways
    )
    return (
        f'<fieldset class="tint-by"><legend>Tint tokens by</legend>{radios}</fieldset><div class="tints">'
        '<span class="by-moved"><i class="ramp"></i>orange: less likely than under the base, blue: more likely</span>'
        '<span class="by-far"><i class="ramp"></i>the stronger, the farther that model is from the one that speaks</span>'
        "<span>strips: KL to each of the others along the answer, and its mean in nats</span>"
        '<span><i class="fork"></i>here the answer parts from that of the base</span>'
        "<span>rest on a token, tap it or walk with the arrow keys to see what else was likely</span></div>"
    )
