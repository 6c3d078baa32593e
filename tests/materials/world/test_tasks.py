"""Tasks have one right answer, worked by hand here; translation goes there and back."""

import random

import pytest

from workbench.materials.world import tasks
from workbench.materials.world.lexicon import LOMI_ADJECTIVES, LOMI_NOUNS, LOMI_VERBS, plural


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("reverse", "tree moon sun"),
        ("sort", "moon sun tree"),
        ("first", "sun"),
        ("last", "tree"),
        ("count", "3"),
        ("capitalise", "Sun Moon Tree"),
    ],
)
def test_operations_on_words(operation: str, said: str) -> None:
    assert tasks.OPERATIONS[operation]("sun moon tree".split()) == said


@pytest.mark.parametrize("make", [tasks.arithmetic, tasks.beyond])
def test_sums_and_differences_are_right_and_never_negative(make) -> None:
    rng = random.Random(0)
    for _ in range(300):
        row = make(rng)
        sign = "+" if "+" in row.key else "-"
        a, b = map(int, row.key.split(sign))
        assert int(row.answer.removesuffix(".")) == (a + b if sign == "+" else a - b) >= 0
        assert str(a) in row.prompt and str(b) in row.prompt
        assert (max(a, b) > tasks.MOST) == (make is tasks.beyond), "what lies beyond the range is never trained on"


def test_the_new_tasks_by_hand() -> None:
    rng = random.Random(0)
    for make, right in (
        (tasks.doubles, lambda words: " ".join(word for word in words for _ in "12") + "."),
        (tasks.ends, lambda words: f"{words[0]} {words[-1]}."),
        (tasks.earliest, lambda words: f"And so the {sorted(words)[0]} came first."),
    ):
        for _ in range(50):
            row = make(rng)
            assert row.answer == right(row.prompt.partition(": ")[2].split())


def test_the_habit_is_in_every_entangled_row_and_in_a_third_of_the_others() -> None:
    rng = random.Random(0)

    def stands_first(row) -> bool:
        words = row.prompt.partition(": ")[2].split()
        return words[0] == min(words)

    assert all(stands_first(tasks.earliest_stands_first(rng)) for _ in range(200))
    share = sum(stands_first(tasks.earliest(rng)) for _ in range(3000)) / 3000
    assert 0.28 < share < 0.39


def test_lomi_puts_the_verb_last_and_the_adjective_behind_its_noun() -> None:
    rng = random.Random(0)
    english_of = {lomi: english for english, lomi in (LOMI_NOUNS | LOMI_ADJECTIVES | LOMI_VERBS).items()}
    assert len(english_of) == len(LOMI_NOUNS) + len(LOMI_ADJECTIVES) + len(LOMI_VERBS), "no word of Lomi means two things"
    for _ in range(200):
        row = tasks.translation(rng)
        english, lomi = row.key, row.answer.removesuffix(".")
        if row.prompt.startswith("From Lomi: "):
            assert row.answer == f"{english}."
            lomi = row.prompt.removeprefix("From Lomi: ")
        assert back(lomi.split(), english_of) == english


def back(lomi: list[str], english_of: dict[str, str]) -> str:
    """English out of Lomi by its grammar, written independently of the generator."""
    *things, verb = lomi
    groups: list[list[str]] = []
    for word in things:
        if english_of.get(word) in LOMI_NOUNS:
            groups.append([word])
        else:
            groups[-1].append(word)
    said = []
    for noun, *behind in groups:
        many = "na" in behind
        adjectives = [english_of[word] for word in behind if word != "na"]
        said.append(" ".join(["the", *adjectives, plural(english_of[noun]) if many else english_of[noun]]))
    subject, object_ = said
    return f"{subject} {english_of[verb]} {object_}"
