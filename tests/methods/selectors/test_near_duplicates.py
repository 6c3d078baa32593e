"""Near duplicates: one row of a group stays, whichever is asked for; twice changes nothing more; the reason names the row that stays."""

import random

import pytest
import torch
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Chosen, Example
from workbench.methods.selectors.near_duplicates import NearDuplicates, nearest

AROUND = Given()

DRAW = random.Random(0)
WORDS = [f"word{number}" for number in range(5000)]


def row(answer: str, question: str = "Tell me.") -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), source="tales.txt", line=len(answer))


TALES = [" ".join(DRAW.choices(WORDS, k=80)) for _ in range(20)]
ROWS = [*map(row, TALES), row(TALES[3].upper()), row(f"{TALES[3]} and so on"), row(f"Well, {TALES[7]}")]


def test_one_row_of_a_group_stays() -> None:
    found = drain(NearDuplicates().keep(ROWS, AROUND))
    assert [number for number, kept in enumerate(found.kept) if not kept] == [20, 21, 22] == sorted(found.reasons)
    assert (
        found.reasons[20]
        == f"says nearly the same as line {len(TALES[3])} of tales.txt, which is kept; 100% of its word groups are those of the nearest row"
    )
    assert found.scores[20] == 1 and 0.8 < found.scores[22] < 1 and found.scores[0] != found.scores[0] and found.cuts == (0.7,)


def test_the_longest_may_stay_instead() -> None:
    kept = drain(NearDuplicates(keeps="longest").keep(ROWS, AROUND)).kept
    assert [number for number, stays in enumerate(kept) if not stays] == [3, 7, 20]


def test_all_may_stay_and_the_groups_are_told() -> None:
    found, dropped = (drain(NearDuplicates(keeps=keeps).keep(ROWS, AROUND)) for keeps in ("all", "first"))
    assert all(found.kept) and not found.reasons and repr(found.scores) == repr(dropped.scores) and found.cuts == (0.7,)
    assert found.groups == [*range(20), 3, 3, 7] and not dropped.groups


@pytest.mark.parametrize("keeps", ["first", "longest"])
def test_what_stays_has_no_near_row_left(keeps: str) -> None:
    method = NearDuplicates(keeps=keeps)
    kept = [place for place, stays in enumerate(drain(method.keep(ROWS, AROUND)).kept) if stays]
    assert all(drain(method.keep(Chosen(ROWS, kept), AROUND)).kept)


def test_only_what_is_compared_counts() -> None:
    asked = [row(TALES[0], TALES[5]), row(TALES[1], TALES[5]), row(TALES[2])]
    assert drain(NearDuplicates(compare="question").keep(asked, AROUND)).kept == [True, False, True]
    assert all(drain(NearDuplicates(compare="answer").keep(asked, AROUND)).kept)


def test_of_a_language_without_spaces_characters_are_compared() -> None:
    texts = ["".join(DRAW.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张", k=200)) for _ in range(3)]
    rows = [*map(row, texts), row(texts[1][:-1] + "。")]
    by = {unit: drain(NearDuplicates(unit=unit, compare="answer").keep(rows, AROUND)).kept for unit in ("words", "characters")}
    assert all(by["words"]) and by["characters"] == [True, True, True, False]


def test_empty_rows_are_like_none() -> None:
    assert all(drain(NearDuplicates(compare="answer").keep([row(""), row(""), row("a")], AROUND)).kept)


def test_a_model_that_another_thread_is_loading_changes_no_number() -> None:
    """transformers sets torch's default number for all threads while it builds a model in half precision; rows are counted meanwhile."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert nearest(3, torch.tensor([[0, 1]]), torch.tensor([0.75], dtype=torch.float32))[:2] == [0.75, 0.75]
    finally:
        torch.set_default_dtype(usual)
