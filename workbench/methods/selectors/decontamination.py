"""Decontamination: rows that hold text of a set that is kept to measure with. No paper of its own; the idea is GPT-3's and datatrove's.

What it is not: a search for rows that say the same in other words, or the way to take rows out of the evaluation set instead (`leaked.py`).
Tags as in the project's notes: [K] known, [R] read in other tools' code, [O] our own choice.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, Self

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Part
from workbench.materials.around import Around
from workbench.materials.grams import Batch, batches, words
from workbench.materials.overlap import LEAST, Items, asked, items, said
from workbench.materials.rows import Chosen, Example
from workbench.methods.contracts import Selection, Selector

CALM = 100  # rows between two signs of life
QUOTED = 13  # words of what was found that a reason shows
MOSTLY = 0.7  # of an evaluation row's groups that a row must hold in a new data set that is looked through [O]


class Decontamination(Selector, title="Decontamination"):
    """Drop the rows that hold text of another set, with which the model will be measured: what was learnt by heart is not known.

    $$s(x) = \\max_e \\frac{|G_x \\cap G_e|}{|G_e|}$$

    G are the groups of 13 words that follow one another, as GPT-3 took them [K] (datatrove takes 12 [R]), without case, accents and
    punctuation. s is the share of the groups of an evaluation row e that a row x holds, of the row of which it holds the most. As it
    stands one group is enough to drop a row; ask for a share where chance finds are many. Of an evaluation row with fewer words than a
    group the whole is looked for, if it has five words at least; shorter ones cannot be told from chance and are not looked for [O].
    Rows are searched whole, their system turns and answers included; a question that is looked for is what the user says. What is short
    stands in other questions by chance too: it may be asked to stand alone, as a turn of its own.

    A new data set is looked through with seven tenths of the groups, and with short questions alone: of GSM8K's 7,473 training rows none
    is then found for its test set, of ARC-Easy's 2,251 seven, which ask what a test row asks but for a word or two [V].

    Instead of the row its turns may go: each question that holds the text, with what is said up to the next question. The row goes where
    no answer is left, where a pair of answers loses the question that they are for, and where the text stands in a plain text or reaches
    over several questions [O]. What is kept holds nothing that drops a row.

    Groups that stand in more than ten different evaluation rows, or in more than a third of three or more, are taken for the template
    they are written in, and are not looked for [O]: else one instruction that both sets use would drop everything. Paraphrases and
    translations are not found.

    One pass over both sets. Raise the number of words where short everyday phrases are found; lower it for code and lists.
    """

    mends = ("leaks",)

    against: str = knob("", help="name of the data set that is kept to measure with", names="data", label="evaluation set")
    group: int = knob(13, ge=LEAST, le=50, help="how many words that follow one another are looked for", unit="words")
    compare: Part = knob("question", help="what must not be found; of a row without one, all of it", label="look for")
    least: float = knob(0.0, ge=0, le=1, step=0.01, help="share of an evaluation row's groups that drops a row; at 0 one group does")
    drops: Literal["row", "turns"] = knob("row", help="what goes: the whole row, or the questions that hold it, with their answers")
    short: Literal["anywhere", "alone"] = knob(
        "anywhere",
        help="where an evaluation row with fewer words than a group must stand: anywhere in a row, or alone as a turn",
        label="short rows",
        more=True,
    )
    common: int = knob(10, ge=1, help="in how many evaluation rows a group may stand and still be looked for; a third at most", more=True)

    @classmethod
    def mending(cls, about: str = "", part: Part = "row") -> Self:
        return cls(against=about, compare=part, least=MOSTLY, short="alone")

    def others(self) -> list[str]:
        return [self.against] if self.against else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        kept_apart = around.rows(self.against, self.title())
        alone = self._alone(kept_apart)
        texts = (asked(row, self.compare) for row in kept_apart)
        texts = (text if self.short == "anywhere" or len(words(text)) >= self.group else "" for text in texts)
        looked_for = yield from items(texts, len(kept_apart), self.group, self.common)
        if not len(looked_for.held) and not alone:
            raise WorkbenchError(
                f"No row of the evaluation set has a {self.compare} of {LEAST} words or more that is its own, so there is nothing to look "
                "for. Look for another part of its rows, or let a group stand in more of them."
            )
        scores, reasons = [0.0] * len(examples), dict[int, str]()
        for batch in batches(map(said, examples)):
            self._judge(batch, looked_for, scores, reasons)
            yield Progress(batch.first + batch.count, len(examples), "rows searched")
        for row, example in enumerate(examples if alone else ()):
            if row % CALM == 0:
                yield Progress(row, len(examples), "questions searched")
            if (item := next((alone[said] for said in spoken(example) if said in alone), None)) is not None:
                scores[row], reasons[row] = 1.0, f"says the {self.compare} of row {item + 1} of {self.against or 'the evaluation set'}"
        cuts, changed = line(scores, [row not in reasons for row in range(len(examples))]), dict[int, Example]()
        hits = sorted(reasons) if self.drops == "turns" else []
        for place, (row, example) in enumerate(zip(hits, Chosen(examples, hits), strict=True)):
            if (rest := self._without(example, looked_for, alone)) is not None:
                changed[row] = rest
                del reasons[row]
            if place % CALM == 0:
                yield Progress(place, len(hits), "rows mended")
        kept = [row not in reasons for row in range(len(examples))]
        return Selection(kept, reasons, scores, cuts, "share of an evaluation row that the row holds", changed)

    def _alone(self, kept_apart: Sequence[Example]) -> dict[str, int]:
        """The words of each evaluation row that is shorter than a group, where these must stand alone, and the first row that has them."""
        if self.short == "anywhere":
            return {}
        texts = [words(asked(row, self.compare)) for row in kept_apart]
        return {" ".join(text): row for row, text in reversed(list(enumerate(texts))) if LEAST <= len(text) < self.group}

    def _without(self, example: Example, looked_for: Items, alone: Collection[str]) -> Example | None:
        """The row without the turns that hold too much; None where what is left cannot be learnt, or holds too much itself."""
        parts = exchanges(example.messages)
        clean = [part for part in parts if not self._holds(Example(part), looked_for, alone)]
        rest = replace(example, messages=tuple(chain.from_iterable(clean)))
        answered = any(turn["role"] == "assistant" for turn in rest.messages)
        torn = bool(example.worse) and parts[-1] not in clean
        return rest if answered and not torn and not self._holds(rest, looked_for, alone) else None

    def _holds(self, example: Example, looked_for: Items, alone: Collection[str]) -> bool:
        found = any(bool((looked_for.found(batch).share >= self.least).any()) for batch in batches([said(example)]))
        return found or any(text in alone for text in (spoken(example) if alone else ()))

    def _judge(self, batch: Batch, looked_for: Items, scores: list[float], reasons: dict[int, str]) -> None:
        found = looked_for.found(batch)
        columns = (column.tolist() for column in (found.text, found.item, found.share, found.place, found.length))
        for row, item, share, place, length in zip(*columns, strict=True):
            scores[row] = share
            if share >= self.least:
                quoted = batch.words[place : place + min(length, QUOTED)]
                part = "" if self.compare == "row" else f"the {self.compare} of "
                where = f"{part}row {item + 1} of {self.against or 'the evaluation set'}"
                own = int(looked_for.own[item])
                held = f"{share:.0%}" if share >= 0.01 else f"a part ({share * own:.0f} of {own:,} groups)"
                reasons[row] = f"holds {held} of {where}, as in '{' '.join(quoted)}'"


def spoken(example: Example) -> Iterator[str]:
    """The words of each turn of a row and of all that the user says, of a plain text all of them."""
    turns = [str(turn.get("content") or "") for turn in example.messages]
    yield from (" ".join(words(text)) for text in (*turns, asked(example, "question")))


def exchanges(messages: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], ...]]:
    """The turns from each question to the next one; what stands before the first question is a part of its own."""
    starts = sorted({0, *(place for place, turn in enumerate(messages) if turn["role"] == "user")})
    return [tuple(messages[start:stop]) for start, stop in zip(starts, [*starts[1:], len(messages)], strict=True)]


def line(scores: Sequence[float], kept: Sequence[bool]) -> tuple[float, ...]:
    """Half-way between the highest score that stays and the lowest that goes, where there are both."""
    stays = [score for score, stay in zip(scores, kept, strict=True) if stay]
    goes = [score for score, stay in zip(scores, kept, strict=True) if not stay]
    return ((max(stays) + min(goes)) / 2,) if stays and goes else ()
