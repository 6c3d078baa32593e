"""How much of a data set a model knows already: which rows are questions with a short answer, how they are asked, and what came of it.

What it is not: it says nothing to a model itself (`asking.py`, through `around.py`) and drops no row. Before a question stand a few other
questions of the set with their answers, as turns of one conversation: they show how an answer is said, and do not say this one. Tags as in
the project's notes: [P] paper, [O] our own choice.
"""

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.words import count as counted
from workbench.materials.around import Around
from workbench.materials.asking import LONGEST, Draws, plain
from workbench.materials.corpus import digest
from workbench.materials.rendering import Messages
from workbench.materials.rows import Chosen, Example

HELD = 32  # examples of a class among which is drawn [O]
SHORT = (400, 160)  # characters of a question and of an answer that can be an example [O]
WHOLE = "{question}"  # where the question stands in a template
NO_QUESTION = f"it is not one question with an answer of at most {LONGEST} tokens"
NO_ROOM = f"its answer has more than {LONGEST} tokens, or its question with the examples more than the model reads"


@dataclass(frozen=True)
class Exchange:
    """One question and its answer, and the system turn above them, if there is one."""

    system: str
    question: str
    answer: str


@dataclass(frozen=True)
class Quiz:
    """How rows are asked: once with each of the templates, after so many examples, which are of the row's own class where a `column`
    names it."""

    templates: tuple[str, ...]
    shots: int
    column: str
    draws: Draws


def known(
    examples: Sequence[Example], around: Around, quiz: Quiz, reader: str, who: str
) -> Generator[Progress, None, tuple[list[list[int]], dict[int, str]]]:
    """(of each of the N rows: greedy answers that are right, all of them, drawn ones that are right, all of them; why rows are not asked).

    Raises:
        WorkbenchError: no row has the column that is to name classes; `who` asks for it.
    """
    shown, places, without, columns = Shown(quiz.draws.seed), list[int](), dict[int, str](), set[str]()
    for row, example in enumerate(examples):
        if row % 200 == 0:
            yield Progress(row, len(examples), "rows looked at")
        columns |= example.meta.keys()
        one = exchange(example)
        if one is None:
            without[row] = NO_QUESTION
        else:
            places.append(row)
            shown.see(one, _class(example, quiz.column))
    if quiz.column and len(examples) and quiz.column not in columns:
        raise WorkbenchError(
            f"{who} takes examples of the class that the column {quiz.column!r} names, and no row has one. "
            f"Write the name of another in the step, or none. There are: {', '.join(sorted(columns)) or 'none'}."
        )

    def prompts(example: Example) -> list[Messages]:
        one = exchange(example)
        assert one is not None, "only rows that are questions are asked"
        kind = _class(example, quiz.column)
        return [asked(one, shown.before(one.question, kind, turn, quiz.shots), quiz.templates[turn]) for turn in range(len(quiz.templates))]

    counts = torch.zeros(len(examples), 4)
    if places:
        counts[places] = yield from around.answers(Chosen(examples, places), prompts, quiz.draws, reader)
    without |= {row: NO_ROOM for row in places if not counts[row, 1]}
    return counts.long().tolist(), without


def exchange(row: Example) -> Exchange | None:
    """The row as one question with its answer; None where it is more or less than that, or nothing would be left to compare."""
    turns = list(row.messages)
    system = _said(turns.pop(0)) if turns and turns[0]["role"] == "system" else ""
    if [turn["role"] for turn in turns] != ["user", "assistant"] or turns[1].get("tool_calls"):
        return None
    found = Exchange(system, _said(turns[0]), _said(turns[1]))
    brief = len(found.answer) <= 20 * LONGEST  # characters: what is longer has more tokens in any vocabulary, and need not be counted
    return found if brief and plain(found.question) and plain(found.answer) else None


def asked(one: Exchange, examples: Sequence[Exchange], template: str) -> Messages:
    """The conversation that ends with the question; all questions in it are put with the same template."""
    turns = [{"role": "system", "content": one.system}] if one.system else []
    for example in examples:
        turns.append({"role": "user", "content": template.replace(WHOLE, example.question)})
        turns.append({"role": "assistant", "content": example.answer})
    return [*turns, {"role": "user", "content": template.replace(WHOLE, one.question)}]


class Shown:
    """Questions that may stand as examples: of each class, and of all rows, those `HELD` with the smallest digests.

    So the order of the rows does not matter, and a row more or less changes the prompts of few others, which are then not read anew.
    """

    def __init__(self, seed: int):
        self._seed, self._held = seed, defaultdict[str, dict[int, Exchange]](dict)

    def see(self, one: Exchange, kind: str) -> None:
        """Take it in; of those that ask the same the first counts."""
        if len(one.question) > SHORT[0] or len(one.answer) > SHORT[1]:
            return
        own = self._digest(one.question)
        for held in (self._held[""], self._held[kind]):
            held.setdefault(own, one)
            if len(held) > HELD:
                del held[max(held)]

    def before(self, question: str, kind: str, turn: int, count: int) -> list[Exchange]:
        """`count` examples for prompt number `turn` of a question, none of which asks it; its class first, fewer if there are none."""
        own, found = self._digest(question), dict[int, Exchange]()
        odd = digest(f"{own} {turn}") | 1  # one that shuffles: other numbers put the digests in another order
        for held in (self._held[kind], self._held[""]):
            order = sorted(held, key=lambda other: other * odd % 2**64)
            found |= {other: held[other] for other in order if other != own and other not in found}
        return list(found.values())[:count]

    def _digest(self, question: str) -> int:
        return digest(f"{self._seed}\n{plain(question)}")


def edges(scores: Sequence[float], levels: Sequence[int], stays: set[int]) -> tuple[float, ...]:
    """Where lines lie between levels that stay and levels that go: half-way between the rows on either side; a level of −1 is none."""
    found, there = list[float](), sorted({level for level in levels if level >= 0})
    for low, high in pairwise(there):
        if (low in stays) != (high in stays):
            below = max(score for score, level in zip(scores, levels, strict=True) if level == low)
            above = min(score for score, level in zip(scores, levels, strict=True) if level == high)
            found.append((below + above) / 2)
    return tuple(found)


def unasked(without: dict[int, str], stay: bool) -> str:
    """What is said of rows that could not be asked beside the picture; nothing where there are none, or each has a reason of its own."""
    return f"; {counted(len(without), 'row')} could not be asked and stay" if without and stay else ""


def _class(example: Example, column: str) -> str:
    value = example.meta.get(column) if column else None
    return "" if value is None else str(value).strip()


def _said(turn: dict[str, object]) -> str:
    return str(turn.get("content") or "")
