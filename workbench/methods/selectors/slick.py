"""SliCK: what a model knows already of what it is to be taught. Prompts: `materials/knowing.py`; answers: `materials/asking.py`.

Tags as in the project's notes: [P] paper, [V] measured by us, [O] our own choice.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from math import nan
from typing import Literal

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Asks
from workbench.materials.around import Around
from workbench.materials.asking import Draws
from workbench.materials.knowing import WHOLE, Quiz, edges, known, unasked
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

LEVELS = {"unknown": "unknown", "weakly": "weakly known", "maybe": "maybe known", "highly": "highly known"}
MUCH = 0.25  # share of what is learnt that may be unknown before it is told


class SliCK(Asks, Selector, title="SliCK: what the model knows", paper="arXiv:2405.05904"):
    """Ask a model the questions of the set, and keep the rows by how well it knows the answers already.

    $$P_0 = \\frac{\\text{greedy answers that are right}}{\\text{greedy answers}}, \\qquad
    P_+ = \\frac{\\text{drawn answers that are right}}{\\text{drawn answers}}$$

    Highly known is what is always answered (P₀ = 1), maybe known what sometimes is (0 < P₀ < 1), weakly known what only chance brings
    (P₀ = 0 < P₊), unknown the rest. A question is asked with several prompts, each with four other questions and their answers before it,
    drawn from the same class where a column names it; each prompt is answered once greedily and several times at a temperature of 0.5 among
    the 40 likeliest tokens. Right is what says the answer but for case, punctuation, articles and spaces: of what counts as wrong so, nine
    in ten are wrong indeed [P].

    New facts are learnt slowly, and once learnt they teach a model to make things up. Test accuracy of models that were tuned on one
    category alone, at the best moment and at the end [P]: highly known 40.5 and 40.0, maybe known 43.6 and 43.2, weakly known 39.2 and
    35.4, unknown 37.5 and 25.8; on all of them 43.5 and 41.8. Over runs it was 36.9 + 7.3 · (share of known rows that were fitted) − 8.3 ·
    (share of unknown ones), R² = 0.86; in other fields of knowledge 36.2 + 3.2 − 3.0, R² = 0.95 [P]. So leave the unknown rows out, give
    them an answer that says so, or stop early: the last is said where over a quarter of what is learnt is unknown [O].

    It is for questions with a short answer that can be known by heart. Rows that are no such question, or have more than 32 tokens of
    answer, are not asked and stay. The paper asks with 10 prompts and 16 draws; 3 and 4 are quick, and call rows unknown that the model
    gets right when it is asked more often [P]. The set teaches a model what its answers look like; a model that says more than the answer
    is wrong here.

    The score is 0 for unknown to 3 for highly known, and half of P₊ on top [O]. With 3 prompts and 4 draws a row costs the demo model
    (2.6 M) 0.1 to 0.2 s of one core, as much as 30 plain readings; the paper's 10 and 16 cost six times as much [V].
    """

    keeps: str = knob("highly, maybe, weakly", help="which of highly, maybe, weakly and unknown stay", label="categories that stay")
    do: Literal["drop", "relabel"] = knob("drop", help="drop the rows of the others, or give them another answer", label="the others")
    says: str = knob("I don't know.", help="the answer that they are given then", label="new answer")
    prompts: int = knob(3, ge=1, le=20, help="prompts that each question is asked with; the paper takes 10")
    samples: int = knob(4, ge=1, le=64, help="answers drawn for each prompt beside the greedy one; the paper takes 16")
    temperature: float = knob(0.5, gt=0, le=2, step=0.1, help="how evenly answers are drawn", more=True)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self.readings(self.prompts, self.samples)

    def wanted(self) -> set[int]:
        """The categories that stay, 0 for unknown to 3; a `WorkbenchError` where one is named that there is not."""
        named = re.findall(r"\w+", self.keeps.lower())
        unknown = [name for name in named if name not in LEVELS]
        if unknown or not named:
            said = f"names {', '.join(unknown)}, which is no category" if unknown else "names no category, so no row would stay"
            raise WorkbenchError(f"{self.title()}: 'categories that stay' {said}. There are: {', '.join(LEVELS)}.")
        return {list(LEVELS).index(name) for name in named}

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        stays = self.wanted()
        quiz = Quiz((WHOLE,) * self.prompts, self.shots, self.column, Draws(self.samples, self.temperature, self.seed))
        counts, without = yield from known(examples, around, quiz, self.model, self.title())
        levels = [-1 if row in without else level(*count) for row, count in enumerate(counts)]
        scores = [nan if own < 0 else own + drawn / many / 2 for own, (_, _, drawn, many) in zip(levels, counts, strict=True)]
        others = {row: _why(levels[row], counts[row]) for row, own in enumerate(levels) if own >= 0 and own not in stays}
        reasons = {row: f"could not be asked: {why}" for row, why in without.items()} if self.not_asked == "go" else {}
        changed = dict[int, Example]()
        if self.do == "drop":
            reasons |= others
        else:
            for row, example in enumerate(examples if others else ()):
                if row % 1000 == 0:
                    yield Progress(row, len(examples), "rows written")
                if row in others:
                    changed[row] = _saying(example, self.says)
        cuts = edges(scores, levels, stays) if self.do == "drop" else ()
        what = "what the model knows, 0 unknown to 3 highly known" + unasked(without, self.not_asked == "stay")
        kept = [row not in reasons for row in range(len(levels))]
        return Selection(kept, reasons, scores, cuts, what + _warning(levels, kept, changed), changed)


def level(right: int, asked: int, drawn: int, draws: int) -> int:
    """3 highly, 2 maybe, 1 weakly known, 0 unknown: from the greedy answers that are right, all of them, and the drawn ones likewise."""
    if right:
        return 3 if right == asked else 2
    return 1 if drawn else 0


def _why(own: int, count: Sequence[int]) -> str:
    right, asked, drawn, many = count
    return f"is {list(LEVELS.values())[own]}: {right} of {asked} greedy answers and {drawn} of {many} drawn ones are right"


def _warning(levels: Sequence[int], kept: Sequence[bool], changed: dict[int, Example]) -> str:
    """What is said where much of what will be learnt is unknown to the model."""
    learnt = [own for row, (own, stays) in enumerate(zip(levels, kept, strict=True)) if stays and own >= 0 and row not in changed]
    share = learnt.count(0) / len(learnt) if learnt else 0.0
    return f"; {100 * share:.0f} % of the questions that stay are unknown to it: stop early" if share > MUCH else ""


def _saying(example: Example, answer: str) -> Example:
    """The row with another last answer, and without the thoughts that led to the one before."""
    last = {key: value for key, value in example.messages[-1].items() if key != "reasoning_content"}
    return replace(example, messages=(*example.messages[:-1], {**last, "content": answer}))
