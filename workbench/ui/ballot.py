"""What stands around the newest answers, as HTML: what can be done with them, voting without names, and the table of ratings.

Pure functions; what a vote is and what it is worth stands in `core/ratings.py`. All text is escaped.
"""

from collections.abc import Sequence
from dataclasses import replace

from workbench.core.errors import WorkbenchError
from workbench.core.ratings import Outcome, Rating
from workbench.core.words import count
from workbench.ui import tokenview
from workbench.ui.answers import LETTERS, Answers, drawn, reads
from workbench.ui.cards import escaped
from workbench.ui.cards import table as plain_table
from workbench.ui.talk import Talk

SKIP = "skip"  # names without a vote
WORDS: dict[Outcome, str] = {"tie": "a tie", "bad": "all are bad"}


def newest(talk: Talk) -> str:
    """The newest turn with its legend above it, its vote and its buttons below it."""
    now = talk.now
    if not now.panes:
        return tools(talk) if talk.past else EMPTY
    legend = tokenview.legend(list(now.names().values()), now.hidden)
    return legend + drawn(now, ballot(now) + reads(now) + tools(talk))


def ballot(answers: Answers) -> str:
    """Buttons to vote while the names are hidden, then what was voted; empty where there is nothing to vote on."""
    if answers.verdict:
        return f'<p class="ballot" role="status">Your vote: {escaped(answers.verdict)}.</p>'
    if not answers.hidden or not answers.over:
        return ""
    names = _button(SKIP, "Show names without a vote", "quiet-button")
    if not answers.answered():
        return f'<div class="ballot" role="group">Not all have answered, so there is nothing to vote on. {names}</div>'
    best = (
        _button(str(place), f"<kbd>{place + 1}</kbd> {letter} is best")
        for place, letter in zip(range(len(answers.panes)), LETTERS, strict=False)
    )
    others = _button("tie", "Tie") + _button("bad", "All bad")
    return f'<div class="ballot" role="group" aria-label="Your vote">{"".join(best)}{others}{names}</div>'


def _button(verdict: str, words: str, style: str = "") -> str:
    return f'<button type="button" class="{style}" data-event="turn" data-do="vote" data-verdict="{verdict}">{words}</button>'


def tools(talk: Talk) -> str:
    """What can be done with the newest turn once it is over, and with the talk."""
    if not talk.now.over:
        return ""
    return f'<div class="turn-tools">{AGAIN + EDIT if talk.now.panes else ""}{FRESH}</div>'


AGAIN = '<button type="button" class="quiet-button" data-event="again" title="Ask the same with the next seed">Regenerate</button>'
EDIT = (
    '<button type="button" class="quiet-button" data-event="turn" data-do="edit" title="Take the question back into the box">Edit</button>'
)
FRESH = '<button type="button" class="quiet-button" data-event="turn" data-do="fresh" title="Forget what was said before">New talk</button>'
EMPTY = (
    '<p class="quiet">No answers yet: choose up to four models, write a prompt and ask. Or '
    '<button type="button" class="link" data-event="turn" data-do="recall">go on with the last talk</button>.</p>'
)


def cast(answers: Answers, verdict: str) -> tuple[Outcome, str, str]:
    """What a button says: how the vote ended, the reference of the best one or nothing, and the same in words with names."""
    if verdict == "tie" or verdict == "bad":
        return verdict, "", WORDS[verdict]
    best = dict(zip(map(str, range(len(answers.panes))), answers.panes, strict=True)).get(verdict)
    if best is None:
        raise WorkbenchError(f"There is no answer number {verdict!r} to vote for. Vote with the buttons below the answers.")
    return "best", best, f"{replace(answers, revealed=True).names()[best]} is best"


def table(ratings: Sequence[Rating], votes: int) -> str:
    """Everybody's figures, and what they mean."""
    columns = ["model", "strength", "Elo", "votes", "best", "shared", "share of its votes", "95 % between", "even would be"]
    rows = [
        [each.label, round(each.strength), round(each.elo), each.votes, each.won, each.shared, f"{each.share:.0%}",
         f"{each.low:.0%} and {each.high:.0%}", f"{each.even:.0%}"]
        for each in ratings
    ]  # fmt: skip
    if not rows:
        return '<p class="quiet">No votes yet: ask two models or more with “Blind” on, and vote below their answers.</p>'
    return f'{plain_table(columns, rows)}<p class="quiet">From {count(votes, "vote")}. {MEANING}</p>'


MEANING = (
    "Strength is fitted to all votes at once, whatever their order; Elo moves vote after vote; 400 points more are ten to one in both. "
    "A tie, and answers that are all bad, divide the vote. A model is known by its reference: the same weights under another name are "
    "another model here. Votes stay when a run is deleted."
)
