"""Mastery levels: how often a model answers a question rightly, however it is put. Prompts: `materials/knowing.py`.

Tags as in the project's notes: [P] paper, [A] abstract only, [V] measured by us, [REC] our reconstruction, [O] our own choice.
"""

import re
from collections.abc import Generator, Sequence
from math import nan

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Asks
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.asking import Draws
from workbench.materials.knowing import WHOLE, Quiz, edges, known, unasked
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

TEMPLATES = (WHOLE, f"Answer this question: {WHOLE}", f"{WHOLE} What is right?")
LEVELS = 5


class Mastery(Asks, Selector, title="Mastery levels, after the idea of Ye and others", paper="arXiv:2409.15825"):
    """Ask a model each question in several wordings, and keep the rows by the share of its answers that are right.

    $$R = \\frac{\\text{drawn answers that are right}}{\\text{wordings} \\cdot \\text{draws}}, \\qquad
    D_0: R = 0, \\quad D_1: R \\le \\tfrac{1}{4}, \\quad D_2: R \\le \\tfrac{1}{2}, \\quad D_3: R \\le \\tfrac{3}{4}, \\quad D_4: R \\le 1$$

    The authors put each question in 21 wordings [P]; ten draws for each at a temperature of 0.7 and the edges of the levels are ours
    [REC]. Three wordings are built in; write your own, for they must fit the questions of the set. Before each question stand four others
    with their answers, in the same wording, which show how an answer is said [O]. Right is what says the answer but for case, punctuation,
    articles and spaces.

    How well a model knew what it is taught decides much: 60 rows can be enough to make it answer, and which levels are best differs from
    model to model [A]; 240 rows taught more than 1,920 by up to 14 %, and the mix of levels moves answers by over 12 % [A: Analyzing the
    Effects of Supervised Fine-Tuning on Model Knowledge, EMNLP 2025]. So try more than one choice. That work also finds that up to 90 % of
    what training changes in the weights adds nothing, and puts it back: that half belongs to merging and is not here.

    It is for questions with a short answer that can be known by heart. Rows that are no such question, or have more than 32 tokens of
    answer, are not asked and stay. At these numbers a row takes about as long as reading fifty rows.
    """

    levels: str = knob("1, 2, 3, 4", help="which of the levels 0 (never right) to 4 (nearly always) stay", label="levels that stay")
    templates: str = knob("", help="one a line or between bars |, {question} where it stands; empty takes three", label="wordings")
    samples: int = knob(10, ge=1, le=64, help="answers drawn for each wording")
    temperature: float = knob(0.7, gt=0, le=2, step=0.1, help="how evenly answers are drawn", more=True)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self.readings(len(self._own() or TEMPLATES), self.samples)

    def wanted(self) -> set[int]:
        """The levels that stay; a `WorkbenchError` where one is named that there is not."""
        named = re.findall(r"\w+", self.levels.upper())
        wrong = [name for name in named if not re.fullmatch(r"D?[0-4]", name)]
        if wrong or not named:
            said = f"names {', '.join(wrong)}, which is no level" if wrong else "names none, so no row would stay"
            raise WorkbenchError(f"{self.title()}: 'levels that stay' {said}. There are 0 to {LEVELS - 1}; write them like 1, 2.")
        return {int(name[-1]) for name in named}

    def wordings(self) -> tuple[str, ...]:
        """The templates; a `WorkbenchError` where one has no place for the question."""
        for line in self._own():
            if WHOLE not in line:
                raise WorkbenchError(f"{self.title()}: the wording {line!r} does not say where the question stands. Write {WHOLE} there.")
        return self._own() or TEMPLATES

    def _own(self) -> tuple[str, ...]:
        return tuple(line.strip() for line in re.split(r"[\n|]", self.templates) if line.strip())

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        stays, wordings = self.wanted(), self.wordings()
        quiz = Quiz(wordings, self.shots, self.column, Draws(self.samples, self.temperature, self.seed))
        counts, without = yield from known(examples, around, quiz, self.model, self.title())
        levels = [-1 if row in without else level(count[2], count[3]) for row, count in enumerate(counts)]
        scores = [nan if own < 0 else count[2] / count[3] for own, count in zip(levels, counts, strict=True)]
        reasons = {row: f"could not be asked: {why}" for row, why in without.items()} if self.not_asked == "go" else {}
        for row, (own, score) in enumerate(zip(levels, scores, strict=True)):
            if own >= 0 and own not in stays:
                reasons[row] = f"is of level {own}: {number(100 * score)} % of {counts[row][3]} drawn answers are right"
        what = "share of the drawn answers that are right" + unasked(without, self.not_asked == "stay")
        kept = [row not in reasons for row in range(len(levels))]
        return Selection(kept, reasons, scores, edges(scores, levels, stays), what)


def level(right: int, draws: int) -> int:
    """0 for none, else in which quarter the share of right answers lies, 1 to 4; an edge belongs to the quarter below it."""
    return -(-4 * right // draws)
