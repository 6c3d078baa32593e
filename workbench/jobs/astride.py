"""Rows that are held back for validation and say nearly the same as one that is trained on.

What says nearly the same is told by near duplicates (`Selection.groups`); in rows that are written in one template most words are the
template's, so that these look alike though each asks something else. Here two rows are one only if they share the words that few rows have
too. What it is not: a step, or a judgement of rows on one side. Tags as in the project's notes: [O] our own choice.
"""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Sequence

from workbench.core.events import Progress
from workbench.materials.grams import words
from workbench.materials.overlap import said
from workbench.materials.rows import Example

SELDOM, OFTEN = 10, 0.01  # rows that a rare word may stand in: so many, or such a share of all where that is more [O]
SHARED = 0.7  # of the rare words of a row that another must have too [O]
MOST = 20  # rows of a group that one row is held against
CALM = 1000  # rows between two signs of life


def astride(
    rows: Sequence[Example], groups: Sequence[int], train: Iterable[int], held: Iterable[int]
) -> Generator[Progress, None, list[int]]:
    """Places of the held rows that say what a row of `train` says; `groups` has of each row the first that says nearly the same."""
    learnt = defaultdict[int, list[int]](list)
    for place in train:
        learnt[groups[place]].append(place)
    pairs = {place: learnt[groups[place]][:MOST] for place in held if groups[place] in learnt}
    if not pairs:
        return []
    often, texts, wanted = Counter[str](), dict[int, set[str]](), {*pairs, *(one for own in pairs.values() for one in own)}
    for place, example in enumerate(rows):
        if place % CALM == 0:
            yield Progress(place, len(rows), "sides compared")
        own = set(words(said(example)))
        often.update(own)
        if place in wanted:
            texts[place] = own
    most = max(SELDOM, OFTEN * len(rows))
    rare = {place: {word for word in own if often[word] <= most} for place, own in texts.items()}
    return [place for place, others in pairs.items() if any(same(rare[place], rare[other]) for other in others)]


def same(one: set[str], other: set[str]) -> bool:
    """Whether most of the rare words of either are the other's too; two rows without any are not known to be."""
    return len(one & other) >= SHARED * max(len(one), len(other), 1)
