"""A talk: what was asked and answered before, and the newest question. Values that are replaced; knows no page.

Each model remembers its own answers. A turn is `ui/answers.py`'s; what goes to the job is `core.asking.Exchange`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from workbench.core.asking import CompareSpec, Exchange
from workbench.core.events import Said, Table
from workbench.ui.answers import Answers, asked


@dataclass(frozen=True)
class Talk:
    """`past` are the turns that came before, the oldest first; `now` is the newest, empty before the first question."""

    past: tuple[Answers, ...] = ()
    now: Answers = field(default_factory=Answers)

    def onward(self) -> "Talk":
        """The newest turn joins the past; one in which nothing was said is dropped."""
        return Talk((*self.past, self.now.settled())) if self.now.words() else Talk(self.past)

    def without_last(self) -> "Talk":
        """The newest question and what was answered to it are taken back."""
        return Talk(self.past)

    def with_turn(self, now: Answers) -> "Talk":
        return replace(self, now=now)

    def history(self, models: Sequence[str]) -> list[Exchange]:
        """The past as the models that are asked now remember it."""
        turns = ((turn.prompt, turn.words()) for turn in self.past)
        kept = ((prompt, {model: words[model] for model in models if model in words}) for prompt, words in turns)
        return [Exchange(prompt=prompt, answers=words) for prompt, words in kept if words]

    def lot(self, run: str) -> str:
        """What draws the order of the next blind turn: as before while that is hidden, so that A stays A; else anew by the run."""
        return next((turn.run for turn in self.past if turn.hidden), run)

    def revealed(self, verdict: str = "") -> "Talk":
        """With all names; `verdict` says in words what was voted."""
        return Talk(tuple(replace(turn, revealed=True) for turn in self.past), replace(self.now, revealed=True, verdict=verdict))


def recalled(run: str, spec: CompareSpec, said: Sequence[Said], tables: Sequence[Table], labels: Mapping[str, str]) -> Talk:
    """The talk that ended with a comparison on record, with all names told."""
    past = tuple(_turn(spec, exchange.prompt, exchange.answers, labels) for exchange in spec.history)
    now = replace(asked(spec.prompt, spec.models, labels), run=run)
    for answer in said:
        now = now.heard(answer)
    for table in tables:
        now = now.looked_at(table)
    return Talk(past, now.with_words("", over=True))


def _turn(spec: CompareSpec, prompt: str, words: Mapping[str, str], labels: Mapping[str, str]) -> Answers:
    turn = asked(prompt, [model for model in spec.models if model in words], labels)
    for model in turn.panes:
        turn = turn.heard(Said(0, model, prompt, words[model]))
    return replace(turn.with_words("", over=True), base=spec.models[0])
