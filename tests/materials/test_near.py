"""Near texts: likeness is estimated within its error, copies are found whatever the order, and strangers are not."""

import random

import pytest
import torch

from workbench.core.job import drain
from workbench.materials import near
from workbench.materials.near import NUMBERS, joined, pairs, signatures


def words(draw: random.Random, count: int) -> list[str]:
    return [f"w{draw.randrange(10**6)}" for _ in range(count)]


def of(texts: list[str], size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return drain(signatures(texts, len(texts), str.split, size))


def test_the_share_that_agrees_is_the_share_of_common_groups() -> None:
    """Sets of single words with a known likeness; 99 of 100 estimates lie within three standard deviations."""
    draw, off = random.Random(0), 0
    for number in range(200):
        common, own = words(draw, 100 + number), [words(draw, 50) for _ in range(2)]
        two = [" ".join(draw.sample(common + one, len(common) + 50)) for one in own]
        signs, _ = of(two, size=1)
        likeness = len(common) / (len(common) + 100)
        off += abs(float((signs[0] == signs[1]).float().mean()) - likeness) > 3 * (likeness * (1 - likeness) / NUMBERS) ** 0.5
    assert off <= 6


def test_equal_texts_have_equal_signatures_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    texts = [" ".join(words(draw, draw.randrange(1, 60))) for _ in range(30)]
    whole, there = of([*texts, *texts])
    assert torch.equal(whole[:30], whole[30:]) and there.all()
    monkeypatch.setattr(near, "TEXTS", 7)
    monkeypatch.setattr(near, "WORDS", 10)
    assert torch.equal(of([*texts, *texts])[0], whole)


def test_a_group_is_its_words_in_their_order() -> None:
    signs, _ = of(["a b c d e f g", "g f e d c b a", "a b c d e f g"])
    assert torch.equal(signs[0], signs[2]) and (signs[0] == signs[1]).float().mean() < 0.1
    short, _ = of(["a b", "b a", "a b", "a"])
    assert torch.equal(short[0], short[2]) and not torch.equal(short[0], short[1]), "fewer words than a group are one group"


def test_groups_do_not_reach_into_the_next_text() -> None:
    signs, _ = of(["a b c d e f", "x"])
    other, _ = of(["a b c d e f", "y"])
    assert torch.equal(signs[0], other[0])


def test_texts_without_words_are_like_none() -> None:
    signs, there = of(["", " ", "a b c d e", ""])
    assert there.tolist() == [False, False, True, False]
    assert len(pairs(signs, there)[0]) == 0
    assert [len(part) for part in pairs(*of([]))] == [0, 0]


def test_planted_copies_are_found_and_strangers_are_not() -> None:
    """Three words of a hundred replaced leave 0.75 of the groups; four of five such copies are found at 0.6."""
    draw, texts, planted = random.Random(2), [], {}
    for number in range(300):
        if number % 10 == 9:
            source = draw.randrange(number)
            said = texts[source].split()
            for place in draw.sample(range(100), 3):
                said[place] = f"other{draw.randrange(10**6)}"
            planted[number] = source
            texts.append(" ".join(said))
        else:
            texts.append(" ".join(words(draw, 100)))
    signs, there = of(texts)
    two, alike = pairs(signs, there)
    found = {tuple(pair) for pair in two[alike >= 0.6].tolist()}
    assert sum((source, copy) in found for copy, source in planted.items()) >= 0.8 * len(planted)
    first = joined(len(texts), two[alike >= 0.6]).tolist()
    alone = [number for number in range(300) if number not in planted and number not in planted.values()]
    assert all(first[number] == number for number in alone)


def test_joined_texts_are_one_group_over_any_number_of_pairs() -> None:
    assert joined(6, torch.tensor([[1, 4], [4, 5], [2, 3]])).tolist() == [0, 1, 2, 2, 1, 1]
    assert joined(3, torch.empty(0, 2, dtype=torch.int64)).tolist() == [0, 1, 2]
    assert joined(0, torch.empty(0, 2, dtype=torch.int64)).tolist() == []


def test_a_band_that_many_share_makes_a_chain_and_not_all_pairs() -> None:
    signs, there = of(["the same words in every one of them"] * 50)
    two, alike = pairs(signs, there)
    assert len(two) <= 2 * 49 and (alike == 1).all() and len(set(joined(50, two).tolist())) == 1
    assert (two[:, 0] < two[:, 1]).all(), "the earlier one first"
    assert pairs(signs[:4], there[:4])[0].tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]], "with the first and the one before"


def test_a_pair_has_a_band_that_is_equal_number_by_number() -> None:
    signs = torch.arange(2 * NUMBERS, dtype=torch.int32).view(2, NUMBERS)
    bands = signs[:1].view(near.BANDS, -1)
    there = torch.ones(2, dtype=torch.bool)
    assert not len(pairs(torch.cat([signs[:1], bands.flip(1).view(1, -1)]), there)[0]), "the same numbers in another order"
    signs[1, :8] = signs[0, :8]
    two, alike = pairs(signs, there)
    assert two.tolist() == [[0, 1]] and alike.tolist() == [8 / NUMBERS]


def test_what_is_no_text_for_a_file_has_a_signature_and_a_lone_word_is_not_the_word_again_and_again() -> None:
    signs, there = of(["a", "a a a a a", "\ud800 a b c d"])
    assert there.all() and not torch.equal(signs[0], signs[1])


def test_few_words_are_held_at_once_and_every_row_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()

    class Counted(near._Known):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(near, "_Known", Counted)
    monkeypatch.setattr(near, "TEXTS", 4)
    monkeypatch.setattr(near, "WORDS", 10)
    texts = [f"{number}a {number}b {number}c" for number in range(12)]
    assert [(told.done, told.total) for told in signatures(texts, 12, str.split, 2)] == [(4, 12), (8, 12), (12, 12)]
    assert len(made) == 4 and all(len(known) <= 12 for known in made)
