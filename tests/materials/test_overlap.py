"""What texts hold of items: shares are those of a plain count over sets, templates say nothing, copies stand for one."""

import random

import pytest

from workbench.core.job import drain
from workbench.materials import grams
from workbench.materials.grams import batches
from workbench.materials.overlap import Items, asked, items, said
from workbench.materials.rows import Example

DRAW = random.Random(0)


def of(texts: list[str], size: int, common: int = 10) -> Items:
    return drain(items(texts, len(texts), size, common))


def held(looked_for: Items, texts: list[str]) -> dict[int, tuple[int, float]]:
    """text → (item, share)"""
    return {
        text: (item, share)
        for batch in batches(texts)
        for found in [looked_for.found(batch)]
        for text, item, share in zip(found.text.tolist(), found.item.tolist(), found.share.tolist(), strict=True)
    }


def plain(text: str, size: int) -> set[tuple[str, ...]]:
    said = text.split()
    size = min(size, len(said))
    return {tuple(said[place : place + size]) for place in range(len(said) - size + 1)}


def test_the_share_is_that_of_a_plain_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "TEXTS", 7)
    looked_for = [" ".join(DRAW.choices("abcd", k=DRAW.randrange(5, 12))) for _ in range(12)]
    texts = [" ".join(DRAW.choices("abcd", k=DRAW.randrange(40))) for _ in range(300)]
    found = held(of(looked_for, 6, common=100), texts)
    for row, text in enumerate(texts):
        known = {item: plain(item, 6) for item in reversed(looked_for)}
        stands = {size: plain(text, size) if len(text.split()) >= size else set() for size in (5, 6)}
        shares = [len(known[item] & stands[min(6, len(item.split()))]) / len(known[item]) for item in looked_for]
        assert found.get(row, (0, 0.0))[1] == max(shares)
        assert row not in found or found[row][0] == shares.index(max(shares)), "of equals the first"
    assert 20 < len(found) < 300


def test_what_many_items_share_is_looked_for_in_none() -> None:
    template = "please answer the following question as briefly as you can "
    looked_for = [template + f"where is the city number{place} and who lives there" for place in range(12)]
    others = [" ".join(f"other{place}word{number}" for number in range(5)) for place in range(24)]
    texts = [template + "what is a river", f"well {looked_for[3]} indeed"]
    assert held(of(looked_for, 5), texts) == {1: (3, 1.0)}
    assert held(of([*looked_for, *others], 5, common=12), texts)[0][1] > 0
    assert held(of([*looked_for, *others[1:], *others[1:]], 5, common=12), texts) == {1: (3, 1.0)}, "no more than a third, copies aside"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_items_show_their_template_too(count: int) -> None:
    template = "please answer the following question as briefly as you can "
    looked_for = of([f"{template} item{place} asks what it asks of you{place}" for place in range(count)], 5)
    assert bool(held(looked_for, [template])) == (count < 3)
    assert held(looked_for, ["item0 asks what it asks of you0"])[0][0] == 0


def test_copies_among_the_items_are_one() -> None:
    copies = of(["What is the name of the river?"] * 50, 5, common=1)
    assert held(copies, ["so what is the name of the river today"]) == {0: (0, 1.0)}


def test_short_items_are_looked_for_whole_and_shorter_ones_are_not() -> None:
    looked_for = of(["who built the old mill", "who built it"], 13)
    texts = ["tell me who built the old mill please", "who built the old", "who built it", "built the old mill who"]
    assert held(looked_for, texts) == {0: (0, 1.0)} and looked_for.lengths == {5}


def test_what_stands_there_twice_counts_once() -> None:
    assert held(of(["a b c d e f g h"], 5), ["a b c d e then a b c d e"]) == {0: (0, 0.25)}
    assert held(of(["la " * 20], 5), ["la la la la la"]) == {0: (0, 1.0)}, "an item that repeats itself is no template"


def test_where_there_is_nothing_nothing_is_found() -> None:
    for looked_for in (of([], 5), of(["", "a"], 5)):
        assert held(looked_for, ["a b c d e f", ""]) == {} and len(looked_for.held) == 0
    assert held(of(["a b c d e"], 5), []) == {}


def test_the_place_is_where_the_first_group_of_the_named_item_begins() -> None:
    looked_for = of(["a b c d e f", "v w x y z v w"], 5)
    (batch,) = batches(["nothing", "so a b c d e then v w x y z v w"])
    found = looked_for.found(batch)
    assert found.item.tolist() == [1] and found.text.tolist() == [1]
    assert batch.words[int(found.place) : int(found.place) + int(found.length)] == ["v", "w", "x", "y", "z"]


def test_a_row_says_what_its_turns_say() -> None:
    row = Example(({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}, {"role": "assistant", "content": None}))
    assert said(row) == "Be kind.\nWho?\n" and asked(row, "question") == "Who?" and asked(row, "row") == said(row)
    assert asked(row, "answer") == said(row) and asked(Example(text="A tale."), "question") == "A tale."
