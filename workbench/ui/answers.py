"""Answers side by side: what is known of one question so far, and its panes as HTML.

Values that are replaced, never changed, and pure functions from them to markup; knows no runner and no tab. The tokens are drawn by
`ui/tokenview.py`, votes by `ui/ballot.py`. All text is escaped.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from workbench.core.events import Said, Table
from workbench.core.words import count
from workbench.ui import tokenview
from workbench.ui.cards import escaped

LETTERS = "ABCD"


@dataclass(frozen=True)
class Pane:
    """What one model has said so far; `said` is None until its first token, `places` is empty until all have been looked at."""

    label: str
    said: Said | None = None
    places: tuple[tokenview.Place, ...] = ()

    def texts(self) -> list[str]:
        return [text for text, _, _ in self.said.tokens] if self.said else []


@dataclass(frozen=True)
class Answers:
    """All panes of one question in the order in which they are shown; `base` is the model that the others are held against.

    blind: the panes stand in an order drawn by lot under letters, and until `revealed` nothing tells who is who.
    """

    prompt: str = ""
    panes: dict[str, Pane] = field(default_factory=dict)
    says: str = ""  # one line about where the work stands
    over: bool = True
    base: str = ""
    blind: bool = False
    revealed: bool = False
    verdict: str = ""  # what was voted, in words
    run: str = ""  # the comparison it comes from
    template: str = ""  # the prompt as the model reads it

    @property
    def hidden(self) -> bool:
        return self.blind and not self.revealed

    def heard(self, said: Said) -> "Answers":
        pane = replace(self.panes[said.speaker], said=said)
        return replace(self, panes={**self.panes, said.speaker: pane}, says="", over=False)

    def looked_at(self, table: Table) -> "Answers":
        """A table of the job's; one that is not about a pane's tokens says nothing here."""
        speaker = table.name.removeprefix(tokenview.TABLE)
        if speaker not in self.panes:
            return self
        return replace(self, panes={**self.panes, speaker: replace(self.panes[speaker], places=tokenview.places(table))})

    def with_words(self, says: str, over: bool = False) -> "Answers":
        return replace(self, says=says, over=over)

    def shuffled(self, lot: str) -> "Answers":
        """Under letters, in the order that `lot` draws: the same lot, the same order."""
        order = random.Random(lot).sample(list(self.panes), len(self.panes))
        return replace(self, panes={model: self.panes[model] for model in order}, blind=True)

    def names(self) -> dict[str, str]:
        """What each model is called above its pane: its label, its letter while that is hidden, and both once it is not."""
        labels = {model: pane.label for model, pane in self.panes.items()}
        if not self.blind:
            return labels
        letters = dict(zip(labels, LETTERS, strict=False))
        return letters if self.hidden else {model: f"{letter} · {labels[model]}" for model, letter in letters.items()}

    def answered(self) -> bool:
        """Whether every model has said something, be it the end at once."""
        return bool(self.panes) and all(pane.said for pane in self.panes.values())

    def words(self) -> dict[str, str]:
        """What was answered, by model."""
        return {model: pane.said.answer for model, pane in self.panes.items() if pane.said}

    def settled(self) -> "Answers":
        """Without what only the newest answers show, to be kept in a talk."""
        bare = {model: Pane(pane.label, pane.said and replace(pane.said, tokens=[])) for model, pane in self.panes.items()}
        return replace(self, panes=bare, over=True)


def asked(prompt: str, models: Sequence[str], labels: Mapping[str, str]) -> Answers:
    """Empty panes for a question that is about to be answered; the first model is the base."""
    panes = {model: Pane(labels.get(model, model)) for model in models}
    return Answers(prompt, panes, "Waiting for its turn …", over=False, base=next(iter(models), ""))


def drawn(answers: Answers, below: str = "") -> str:
    """The question, its panes and what stands `below` them."""
    status = f'<p class="quiet" role="status" aria-live="polite">{escaped(answers.says)}</p>'
    return f"{_question(answers)}{status}{_panes(answers)}{below}"


def past(talk: Iterable[Answers]) -> str:
    """What was asked and answered before, the oldest first."""
    return "".join(f'<section class="turn">{_question(turn)}{_panes(turn)}</section>' for turn in talk)


def _question(answers: Answers) -> str:
    """The question as it was typed, and as the models were asked it where the decoder puts it in other words."""
    put = next((pane.said.prompt for pane in answers.panes.values() if pane.said), answers.prompt)
    words = "" if put == answers.prompt else f'<p class="quiet">The models were asked: “{escaped(put)}”</p>'
    return f'<blockquote class="asked">{escaped(answers.prompt)}</blockquote>{words}'


def reads(answers: Answers) -> str:
    """The prompt as the model reads it, folded; not while it would tell who answered what before."""
    if not answers.template or answers.hidden or not answers.over:
        return ""
    return f'<details class="fold"><summary>What the model reads</summary><pre tabindex="0">{escaped(answers.template)}</pre></details>'


def _panes(answers: Answers) -> str:
    return f'<div class="panes">{"".join(_pane(answers, model) for model in answers.panes)}</div>'


def _pane(answers: Answers, model: str) -> str:
    pane, names = answers.panes[model], answers.names()
    waiting = not answers.over and not (pane.said and pane.said.done)
    caret = '<i class="caret"></i>' if waiting else ""
    base = '<span class="role">base</span>' if model == answers.base and not answers.hidden else ""
    head = f'<header><b>{escaped(names[model])}</b>{base}<span class="quiet">{_cost(answers, model)}</span></header>'
    told = [] if answers.hidden else list(zip(pane.texts(), pane.places, strict=False))
    more = tokenview.strip(pane.places, names, model) + tokenview.cards(told, names, model) if told else ""
    return f'<article class="pane">{head}<div class="spoken">{_spoken(answers, model)}{caret}</div>{more}</article>'


def _cost(answers: Answers, model: str) -> str:
    """How long the answer is, and how far its tokens moved from the base."""
    said = answers.panes[model].said
    if not said or not said.tokens:
        return ""
    tokens = count(len(said.tokens), "token")
    return tokens if answers.hidden or model == answers.base else f"{tokens} · {signed(moved(said))} nats a token against the base"


def _spoken(answers: Answers, model: str) -> str:
    """The answer token by token, with the data of their cards; text alone while the names are hidden."""
    pane = answers.panes[model]
    if not pane.said or answers.hidden or not pane.said.tokens:
        return escaped(pane.said.answer) if pane.said else ""
    whole = answers.over or all(each.said and each.said.done for each in answers.panes.values())
    mark = tokenview.parted(answers.panes[answers.base].texts(), pane.texts(), whole)
    spoken = []
    for number, (text, own, base) in enumerate(pane.said.tokens):
        place = pane.places[number] if number < len(pane.places) else ()
        kl = {held.model: held.kl for held in place}
        far = [kl.get(other, 0.0) for other in answers.panes]
        spoken.append(tokenview.FORK if number == mark else "")
        spoken.append(tokenview.token(text, own, base, model == answers.base, far, number if place else None))
    spoken.append(tokenview.FORK if mark == len(pane.said.tokens) else "")
    return "".join(spoken)


def signed(nats: float) -> str:
    """`+0.12`, `-1.30`; what rounds to nothing has no sign."""
    return "0.00" if abs(nats) < 0.005 else f"{nats:+.2f}"


def moved(said: Said) -> float:
    """Mean change of a token's log-probability from the base, in nats."""
    return sum(own - base for _, own, base in said.tokens) / len(said.tokens)
