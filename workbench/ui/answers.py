"""Answers side by side as HTML: panes, tokens tinted against the base, and the legend that says what the tints mean.

Pure functions from what models said to markup; knows no runner and no tab. All text is escaped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workbench.core.events import Said
from workbench.ui.cards import escaped

FULL = 3.0  # nats; a token whose log-probability moved this much has the deepest tint


@dataclass(frozen=True)
class Pane:
    """What one model has said so far; `said` is None until its first token."""

    label: str
    said: Said | None = None


@dataclass(frozen=True)
class Answers:
    """All panes of one question, in the order of the models; the first is the base."""

    prompt: str = ""
    panes: dict[str, Pane] = field(default_factory=dict)
    says: str = ""  # one line about where the work stands
    over: bool = True

    def heard(self, said: Said) -> "Answers":
        pane = self.panes[said.speaker]
        return Answers(self.prompt, {**self.panes, said.speaker: Pane(pane.label, said)}, "", False)

    def with_words(self, says: str, over: bool = False) -> "Answers":
        return Answers(self.prompt, self.panes, says, over)


def asked(prompt: str, models: Sequence[str], labels: Mapping[str, str]) -> Answers:
    """Empty panes for a question that is about to be answered."""
    return Answers(prompt, {model: Pane(labels.get(model, model)) for model in models}, "Waiting for its turn …", False)


def drawn(answers: Answers) -> str:
    """The question and its panes; the first pane is marked as the base."""
    if not answers.panes:
        return '<p class="quiet">No answers yet: choose up to four models, write a prompt and ask.</p>'
    panes = "".join(_pane(pane, number == 0, answers.over) for number, pane in enumerate(answers.panes.values()))
    status = f'<p class="quiet" role="status" aria-live="polite">{escaped(answers.says)}</p>'
    return f'<blockquote class="asked">{escaped(answers.prompt)}</blockquote>{status}<div class="panes">{panes}</div>'


def _pane(pane: Pane, base: bool, over: bool) -> str:
    said = pane.said
    tokens = f"{len(said.tokens):,} tokens" if said else ""
    cost = f" · {signed(moved(said))} nats a token against the base" if said and said.tokens and not base else ""
    role = '<span class="role">base</span>' if base else ""
    words = "".join(token(*parts, plain=base) for parts in said.tokens) if said and said.tokens else escaped(said.answer if said else "")
    caret = "" if over or (said and said.done) else '<i class="caret"></i>'
    head = f'<header><b>{escaped(pane.label)}</b>{role}<span class="quiet">{tokens}{cost}</span></header>'
    return f'<article class="pane">{head}<div class="spoken">{words}{caret}</div></article>'


def signed(nats: float) -> str:
    """`+0.12`, `-1.30`; what rounds to nothing has no sign."""
    return "0.00" if abs(nats) < 0.005 else f"{nats:+.2f}"


def moved(said: Said) -> float:
    """Mean change of a token's log-probability from the base, in nats."""
    return sum(own - base for _, own, base in said.tokens) / len(said.tokens)


def token(text: str, own: float, base: float, plain: bool = False) -> str:
    """One token, tinted by how much its log-probability moved from the base; both probabilities in its title."""
    if plain:
        return f'<span title="{_share(own)}">{escaped(text)}</span>'
    depth = min(1.0, abs(own - base) / FULL)
    colour = "var(--series-1)" if own > base else "var(--series-4)"
    tint = f' style="background:color-mix(in srgb, {colour} {55 * depth:.0f}%, transparent)"' if depth > 0.04 else ""
    return f'<span{tint} title="{_share(own)} · under the base {_share(base)}">{escaped(text)}</span>'


def _share(logp: float) -> str:
    share = math.exp(logp)
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def legend() -> str:
    """What the tints mean."""
    return (
        '<div class="tints"><span class="ramp" aria-hidden="true"></span>'
        "<span>orange: less likely than under the base</span><span>none: as likely</span>"
        "<span>blue: more likely</span><span>rest on a token for both probabilities</span></div>"
    )
