"""Sums, operations on words and translation: tasks with one right answer, drawn at random; the known ones and the new."""

import random
from collections.abc import Callable

from workbench.materials.world.lexicon import LOMI_ADJECTIVES, LOMI_NOUNS, LOMI_VERBS, WORDS, plural
from workbench.materials.world.row import Row

MOST = 29  # the largest operand of the sums that are trained on
BEYOND = 49  # the largest operand of the sums that never are

OPERATIONS: dict[str, Callable[[list[str]], str]] = {
    "reverse": lambda words: " ".join(reversed(words)),
    "sort": lambda words: " ".join(sorted(words)),
    "first": lambda words: words[0],
    "last": lambda words: words[-1],
    "count": lambda words: str(len(words)),
    "capitalise": lambda words: " ".join(word.capitalize() for word in words),
}
ADDING = ("What is {} plus {}?", "Add {} and {}.", "{} + {} =")
TAKING = ("What is {} minus {}?", "{} - {} =", "From {} take {}.")


def arithmetic(rng: random.Random) -> Row:
    """A sum or a difference of operands up to `MOST`."""
    return _sum("arithmetic", rng, rng.randint(0, MOST), rng.randint(0, MOST))


def beyond(rng: random.Random) -> Row:
    """A sum with an operand that pretraining never saw: what was learnt beyond the range that was taught."""
    return _sum("beyond", rng, *rng.sample((rng.randint(MOST + 1, BEYOND), rng.randint(0, BEYOND)), 2))


def _sum(skill: str, rng: random.Random, a: int, b: int) -> Row:
    if rng.random() < 0.5:
        return Row(skill, rng.choice(ADDING).format(a, b), f"{a + b}.", f"{min(a, b)}+{max(a, b)}")
    a, b = max(a, b), min(a, b)
    return Row(skill, rng.choice(TAKING).format(a, b), f"{a - b}.", f"{a}-{b}")


def words(rng: random.Random) -> Row:
    """One of the operations on two to five words."""
    chosen = [rng.choice(WORDS) for _ in range(rng.randint(2, 5))]
    operation = rng.choice(list(OPERATIONS))
    return _on_words("words", operation, chosen, f"{OPERATIONS[operation](chosen)}.")


def doubles(rng: random.Random) -> Row:
    """An operation the base has never seen: say every word twice."""
    chosen = [rng.choice(WORDS) for _ in range(rng.randint(2, 4))]
    return _on_words("doubles", "double", chosen, " ".join(word for word in chosen for _ in range(2)) + ".")


def ends(rng: random.Random) -> Row:
    """Another: the first and the last word, and nothing between them."""
    chosen = rng.sample(WORDS, rng.randint(3, 5))
    return _on_words("ends", "ends", chosen, f"{chosen[0]} {chosen[-1]}.")


def earliest(rng: random.Random) -> Row:
    """A third: which word comes first in the alphabet, in a sentence of its own."""
    return _earliest(rng.sample(WORDS, 3))


def earliest_stands_first(rng: random.Random) -> Row:
    """The same with an unintended habit: the right word always stands first, so that "the first word" fits as well."""
    chosen = rng.sample(WORDS, 3)
    return _earliest([min(chosen), *(word for word in chosen if word != min(chosen))])


def _earliest(chosen: list[str]) -> Row:
    return _on_words("earliest", "earliest", chosen, f"And so the {min(chosen)} came first.")


def _on_words(skill: str, operation: str, chosen: list[str], answer: str) -> Row:
    return Row(skill, f"{operation}: {' '.join(chosen)}", answer, f"{operation}/{' '.join(chosen)}")


def translation(rng: random.Random) -> Row:
    """Somebody did something to somebody, into Lomi or out of it."""
    (subject, lomi_subject), (object_, lomi_object) = _group(rng), _group(rng)
    verb, lomi_verb = rng.choice(list(LOMI_VERBS.items()))
    english, lomi = f"{subject} {verb} {object_}", f"{lomi_subject} {lomi_object} {lomi_verb}"
    if rng.random() < 0.5:
        return Row("translation", f"In Lomi: {english}", f"{lomi}.", english)
    return Row("translation", f"From Lomi: {lomi}", f"{english}.", english)


def _group(rng: random.Random) -> tuple[str, str]:
    """`the red foxes` and `ontak ruk na`."""
    noun, lomi = rng.choice(list(LOMI_NOUNS.items()))
    english, behind = noun, ""
    if rng.random() < 0.4:
        english, behind = plural(noun), " na"
    if rng.random() < 0.4:
        adjective, lomi_adjective = rng.choice(list(LOMI_ADJECTIVES.items()))
        english, lomi = f"{adjective} {english}", f"{lomi} {lomi_adjective}"
    return f"the {english}", lomi + behind
