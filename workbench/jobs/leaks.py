"""Rows to learn from that hold what models are measured with: which data sets are for measuring, and which rows hold text of them.

What it is: a quick look that narrows a set down to the rows that may hold such text, and the verdict of the step that is for it on these
alone, so that what is found is what the step drops. Questions that stand there word for word are looked for in all rows, what is nearly so
in the first ones. What it is not: the step (`Selector.mends`), or a search for what says the same in other words. Tags as in the
project's notes: [O] our own choice.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.core.asking import EvaluateSpec, ReportSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.spec import TrainSpec, read_spec
from workbench.core.workspace import Workspace
from workbench.jobs.scoring import short
from workbench.jobs.steps import Curated, file_state
from workbench.materials.around import Around
from workbench.materials.corpus import available, digest, load, normalised
from workbench.materials.grams import batches, words
from workbench.materials.overlap import LEAST, Items, asked, items, said
from workbench.materials.rows import Chosen, Example
from workbench.methods.contracts import Selector

MEASURES = frozenset("test tests eval evals evaluation val valid validation dev heldout holdout benchmark bench exam".split())
KNOWN = "known"  # the demo set that tells what tuning takes away
SETS, RUNS = 32, 50  # sets at most, and newest runs whose specs are read [O]
LOOKED = 20_000  # rows of a set that are looked for, and of the set that they are looked for in where it is not word for word [O]
GROUP, COMMON = 13, 10  # words that follow one another, and rows to be measured with in which they may stand and still say something [O]


@dataclass(frozen=True, eq=False)  # one stands for itself: what is found with it is remembered by it
class Apart:
    """What is not to be learnt: by the name of a set the digests of its questions, and of all sets; the groups of words in the long ones,
    and of which set each question is; of each short one its words, and the sets that ask it."""

    sets: Mapping[str, frozenset[int]]
    whole: frozenset[int]
    items: Items
    of: Sequence[str]
    short: Mapping[str, set[str]]


class First(Around):
    """Of every other data set the first rows alone, so that a large one takes no longer."""

    def rows(self, name: str, asks: str) -> Sequence[Example]:
        found = super().rows(name, asks)
        return Chosen(found, range(min(LOOKED, len(found))))


_held = Memory[Apart](4)


def measuring(name: str, workspace: Workspace) -> list[str]:
    """Names of the sets that models are measured with, beside the set `name`; none where that one is for measuring itself.

    Their names say so, or runs asked models their questions and learnt from others.
    """
    if _measures(name):
        return []
    named = [choice.name for choice in available(workspace) if _measures(choice.name)]
    return [other for other in dict.fromkeys([*named, *_asked_by_runs(workspace)]) if other != name][:SETS]


def apart(names: Sequence[str], workspace: Workspace) -> Generator[Progress, None, Apart]:
    """What these sets ask; remembered while their files stay as they are. A set that cannot be had any more is left out."""
    states = dict(_there(names, workspace))
    key = (workspace.home.resolve(), *states.items())
    if (there := _held.get(key)) is not None:
        return there
    texts, of, sets = list[str](), list[str](), dict[str, frozenset[int]]()
    for name in states:
        with suppress(WorkbenchError):  # one that is damaged is told of where it is opened
            rows = load(name, workspace).examples
            own = [asked(row, "question") for row in Chosen(rows, range(min(LOOKED, len(rows))))]
            sets[name] = frozenset(map(mark, own))
            texts, of = [*texts, *own], [*of, *[name] * len(own)]
    short, in_words = defaultdict[str, set[str]](set), list(map(words, texts))
    for name, own in zip(of, in_words, strict=True):
        if LEAST <= len(own) < GROUP:
            short[" ".join(own)].add(name)
    long = (text if len(own) >= GROUP else "" for text, own in zip(texts, in_words, strict=True))
    looked_for = yield from items(long, len(texts), GROUP, COMMON)
    return _held.put(key, Apart(sets, frozenset().union(*sets.values()), looked_for, of, dict(short)))


def _there(names: Sequence[str], workspace: Workspace) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """Those of the sets that can be had, each with the state of its file: what a run asked may have been deleted since."""
    for name in names:
        with suppress(WorkbenchError):
            yield name, file_state(name, workspace)


def mark(text: str) -> int:
    """What stands for a question, however it is spaced."""
    return digest(normalised(text))


def leaks(
    data: Curated, rows: Sequence[int], same: Mapping[int, Collection[int]], kept_apart: Apart, step: type[Selector], workspace: Workspace
) -> Generator[Progress, None, dict[str, list[int]]]:
    """Of each set that models are measured with the rows that hold text of it, of those that the step would drop.

    Args:
        rows: what is looked through for what nearly stands there, indices of the data set's examples, ascending.
        same: rows that ask what a row of one of the sets asks, word for word, with the digests of what they ask.
    """
    maybe = {name: {row for row, marks in same.items() if not own.isdisjoint(marks)} for name, own in kept_apart.sets.items()}

    def searched() -> Iterator[str]:
        for row, example in zip(rows, Chosen(data.examples, rows), strict=True):
            for text in _asks(example):
                for name in kept_apart.short.get(text, ()):
                    maybe[name].add(row)
            yield said(example)

    for batch in batches(searched() if kept_apart.sets else ()):
        texts, held = kept_apart.items.touched(batch)
        for text, item in zip(texts.tolist(), held.tolist(), strict=True):
            maybe[kept_apart.of[item]].add(rows[text])
        yield Progress(batch.first + batch.count, len(rows), "rows searched")
    found = dict[str, list[int]]()
    for name, some in ((name, sorted(own)[:LOOKED]) for name, own in maybe.items() if own):
        with suppress(WorkbenchError):  # nothing in the set is its own, so that nothing can be told
            selection = yield from step.mending(name, "question").keep(Chosen(data.examples, some), First(workspace))
            if hits := [some[place] for place in sorted({*selection.reasons, *selection.changed})]:
                found[name] = hits
    return found


def _asks(example: Example) -> list[str]:
    """The words of each turn of the user, and of all of them."""
    turns = [str(turn.get("content") or "") for turn in example.messages if turn["role"] == "user"]
    return [" ".join(words(text)) for text in (turns if len(turns) == 1 else (*turns, asked(example, "question")))]


def _measures(name: str) -> bool:
    return name == KNOWN or bool(MEASURES & set(re.split(r"[^a-z]+", short(name).lower())))


def _asked_by_runs(workspace: Workspace) -> Iterator[str]:
    files = [folder / "spec.yaml" for folder in sorted(workspace.run_folders(), reverse=True)[:RUNS]]
    sets = [_sets_of(file, file.stat().st_mtime_ns) for file in files if file.exists()]
    learnt = {name for names, _ in sets for name in names}
    return (name for _, names in sets for name in names if name not in learnt)


@lru_cache(maxsize=4 * RUNS)
def _sets_of(file: Path, changed: int) -> tuple[list[str], list[str]]:
    """The data sets that a run learnt from, and those whose questions it asked; none where its spec cannot be read any more."""
    try:
        spec = read_spec(file)
    except WorkbenchError:
        return [], []
    learnt = [part.path for part in spec.data.parts()] if isinstance(spec, TrainSpec) else []
    return learnt, [one.data for one in spec.sets] if isinstance(spec, EvaluateSpec | ReportSpec) else []
