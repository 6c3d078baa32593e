"""Error-driven retrieval: what the model gets wrong decides what is taken, nothing of the target is, and reasons name both."""

import math
import random

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.retrieval import Retrieval

DRAW = random.Random(0)


def row(question: str, answer: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def about(topic: str, count: int = 12) -> Example:
    """Words of a topic among words that all topics have."""
    words = [f"{topic}{DRAW.randrange(30)}" if DRAW.random() < 0.5 else f"and{DRAW.randrange(20)}" for _ in range(2 * count)]
    return row(" ".join(words[:count]), " ".join(words[count:]))


TOPICS = ("sea", "law", "sun", "bee")
POOL = [about(TOPICS[place % 4]) for place in range(160)]
TARGET = [about(TOPICS[place % 4]) for place in range(24)]
COSTS = {one.as_text(): (40.0, 10.0) if place % 4 == 2 else (40.0 + place, 100.0) for place, one in enumerate(TARGET)}
AROUND = Given(sets={"exam": TARGET}, surprise=COSTS)


def chosen(pool: list[Example], around: Given = AROUND, **knobs: object) -> Selection:
    return drain(Retrieval(target="exam", **knobs).keep(pool, around))


def test_what_the_model_gets_wrong_is_what_is_taken() -> None:
    """Six of the 24 rows of the target are wrong, all of one topic of four: the rows of that topic are taken."""
    found = chosen(POOL, share=0.2)
    taken = [place for place, stays in enumerate(found.kept) if stays]
    assert len(taken) == 32 and sum(place % 4 == 2 for place in taken) >= 0.9 * 32
    everything = chosen(POOL, share=0.2, quantile=0.0)
    assert sum(place % 4 == 2 for place, stays in enumerate(everything.kept) if stays) <= 12


def test_as_many_are_taken_as_are_asked_for_or_can_be() -> None:
    for share, count in ((0.05, 8), (0.5, 80), (1.0, 160)):
        assert sum(chosen(POOL, share=share).kept) == count
    found = chosen([*POOL[:10], row("zzz", "yyy")], share=1)
    assert found.kept == [True] * 10 + [False] and math.isnan(found.scores[10])
    assert found.reasons == {10: "shares no word with the rows of exam that the model gets most wrong"}


def test_nothing_of_the_target_is_taken() -> None:
    question, answer = TARGET[2].question(), TARGET[2].answer()
    copies = [row(question.upper().replace(" ", ", "), "Another answer."), row("Well.", f"{question} {answer}"), TARGET[5]]
    found = chosen([*copies, *POOL], share=1)
    assert found.kept == [False] * 3 + [True] * 160 and all(map(math.isnan, found.scores[:3]))
    assert [found.reasons[place] for place in range(3)] == [
        f"is a near copy of row {number} of exam, which is kept apart" for number in (3, 3, 6)
    ]
    changed = question.split()
    changed[-1] = "else"  # seven of the eight groups of five words are left
    assert not chosen([row(" ".join(changed), ""), *POOL], share=1).kept[0]
    assert chosen([row(" ".join(changed), ""), *POOL], share=1, alike=0.9).kept[0]


def test_rows_too_short_for_groups_are_copies_where_they_say_the_same() -> None:
    target = [row("7 + 5?", "12"), row("What is 8 + 3?", "11")]
    around = Given(sets={"exam": target}, surprise={one.as_text(): (2.0, 1.0) for one in target})
    pool = [row("7, 5", "12."), row("7 + 5?", "12 it is"), row("what is 8 3", "11"), row("What is 8 + 4?", "12")]
    pool += [row("Tell me, what is 8 + 3?", "11, of course"), row("Tell me, what is 8 + 3?", "It is 11")]
    assert chosen(pool, around, share=1).kept == [False, True, False, True, False, True]


def test_mistakes_take_turns_from_the_worst_on() -> None:
    target = [row("a question of apples", "apples"), row("a question of pears", "pears"), row("a question of plums", "plums")]
    costs = {one.as_text(): (cost, 2.0) for one, cost in zip(target, (2.0, 5.0, 9.0), strict=True)}
    pool = [row(f"some more {fruit}", fruit) for fruit in ("apples", "pears", "plums") for _ in range(3)]
    around = Given(sets={"exam": target}, surprise=costs)
    assert chosen(pool, around, share=1 / 9, quantile=0.0).kept.index(True) == 0
    assert chosen(pool, around, share=1 / 9, quantile=0.1).kept.index(True) == 6, "the worst comes first"
    two = chosen(pool, around, share=4 / 9, quantile=0.5)
    assert [place for place, stays in enumerate(two.kept) if stays] == [3, 4, 6, 7]
    assert two.reasons[5].startswith("speaks most of what row 2 of exam does (BM25 ") and ", which took rows down to " in two.reasons[5]


def test_the_model_reads_only_where_it_must() -> None:
    assert Retrieval(model="base").reader() == "base" and Retrieval().reader() == "" and Retrieval(quantile=0.0).reader() is None
    nothing = Given(sets={"exam": TARGET}, surprise={one.as_text(): (math.nan, 0.0) for one in TARGET})
    assert sum(chosen(POOL, nothing, quantile=0.0).kept) == 8
    with pytest.raises(WorkbenchError, match="No row of the target has an answer to learn"):
        chosen(POOL, nothing)


def test_rows_of_the_target_without_an_answer_are_no_mistakes() -> None:
    """Of seven rows four have an answer, and half of those are wrong enough, the costlier one first."""
    costs = [(math.nan, 0.0), (3.0, 1.0), (math.nan, 0.0), (1.0, 1.0), (4.0, 1.0), (math.nan, 0.0), (2.0, 1.0)]
    around = Given(sets={"exam": TARGET[:7]}, surprise=dict(zip((one.as_text() for one in TARGET), costs, strict=False)))
    assert drain(Retrieval(quantile=0.5)._wrong(TARGET[:7], around)) == [4, 1]


def test_an_empty_row_is_no_copy_of_an_empty_one() -> None:
    around = Given(sets={"exam": [*TARGET, row("", "")]})
    found = chosen([row("", ""), *POOL], around, quantile=0.0)
    assert found.reasons[0] == "shares no word with the rows of exam that the model gets most wrong"


def test_no_rows_and_no_target() -> None:
    assert chosen([]).kept == [] and Retrieval(target="exam").others() == ["exam"] and Retrieval().others() == []
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(Retrieval().keep(POOL, AROUND))
