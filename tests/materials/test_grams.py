"""Groups of words: a group has one number wherever it stands, none reaches into the next text, and batches change nothing."""

import random

import pytest
import torch

from workbench.materials import grams
from workbench.materials.grams import batches, groups, words


def numbered(texts: list[str], length: int) -> list[list[int]]:
    """Of each text its groups, in order."""
    found: list[list[int]] = [[] for _ in texts]
    for batch in batches(texts):
        for _, hashes, places in groups(batch, {length}):
            for group, text in zip(hashes.tolist(), batch.text[places].tolist(), strict=True):
                found[batch.first + text].append(group)
    return found


def test_words_have_no_case_accents_or_punctuation() -> None:
    assert words("Élan, VITAL! -- naïve_Straße 12.5") == ["elan", "vital", "naive", "strasse", "12", "5"]
    assert words("東京 is big") == ["東", "京", "is", "big"] and words("?! \n") == []


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_group_is_its_words_in_their_order(length: int) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abc", k=draw.randrange(9))) for _ in range(200)]
    of = dict[tuple[str, ...], int]()
    for text, found in zip(texts, numbered(texts, length), strict=True):
        expected = [tuple(text.split()[place : place + length]) for place in range(len(text.split()) - length + 1)]
        assert len(found) == len(expected), "a group lies within its text"
        assert all(of.setdefault(group, number) == number for group, number in zip(expected, found, strict=True))
    assert len(set(of.values())) == len(of) > 2, "different groups have different numbers"


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    texts = [" ".join(f"w{draw.randrange(50)}" for _ in range(draw.randrange(20))) for _ in range(60)]
    whole = numbered(texts, 3)
    for limit, value in (("TEXTS", 7), ("WORDS", 11), ("KNOWN", 3)):
        with monkeypatch.context() as smaller:
            smaller.setattr(grams, limit, value)
            assert numbered(texts, 3) == whole
            many = list(batches(texts))
        assert (len(many) > 1) == (limit != "KNOWN") and sum(batch.count for batch in many) == 60


def test_the_numbers_are_the_same_in_every_process() -> None:
    (batch,) = batches(["the river"])
    assert batch.ids.tolist() == [6834963867258796590, -7594753525624642401]
    ((_, pair, _),) = groups(batch, {2})
    assert torch.equal(pair, batch.ids[:1] * grams.FACTOR + batch.ids[1:])


def test_texts_without_words_have_a_place_and_no_groups() -> None:
    (batch,) = batches(["", "a b", "", "!"])
    assert batch.lengths().tolist() == [0, 2, 0, 0] and list(batches([])) == []
    (empty,) = batches(["", ""])
    assert empty.count == 2 and [len(found) for _, found, _ in groups(empty, {1, 2})] == []


def test_plain_text_has_the_words_that_the_pattern_finds() -> None:
    """Text without accents takes a shorter way; every sign there is stands between letters once."""
    signs = "".join(f"a{chr(code)}B" for code in range(128))
    assert words(signs) == grams.WORD.findall(signs.casefold()) == words(f"{signs} é")[:-1]
