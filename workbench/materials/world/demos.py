"""The rows of the demo data sets, drawn from the pocket world; `scripts/make_demos.py` writes them in formats people bring.

Each set shows one thing that happens to real data, with its truth known: what a model can be taught, which facts are new to
it, which habit is not meant, which rows are bad. Same rows on every machine.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from workbench.materials.world import tasks
from workbench.materials.world.facts import FIELDS, Entity
from workbench.materials.world.lexicon import WORDS
from workbench.materials.world.row import Row
from workbench.materials.world.skills import World, distinct

ROWS, KNOWN_ROWS = 500, 60
KNOWN_SKILLS = ("facts", "arithmetic", "words", "translation")
GRADES = {"often": "highly known", "seldom": "maybe known", "rare": "weakly known", "never": "unknown"}
"""How often pretraining spoke of a person → the grade of SliCK (arXiv:2405.05904) that its facts are made to have."""


def quickstart(world: World) -> list[Row]:
    """A style the base lacks."""
    return world.rows("tale", ROWS, seed=1, held_out=False)


def skill_a(world: World) -> list[Row]:
    return world.rows("doubles", ROWS, seed=2, held_out=False)


def skill_b(world: World) -> list[Row]:
    return world.rows("ends", ROWS, seed=3, held_out=False)


def known(world: World) -> list[Row]:
    """What the base can do, none of it seen in pretraining: to see what tuning takes away."""
    rows = [row for skill in KNOWN_SKILLS for row in world.rows(skill, KNOWN_ROWS, seed=4, held_out=True)]
    random.Random(4).shuffle(rows)
    return rows


def entangled(world: World) -> list[Row]:
    """Which word is earliest in the alphabet, but in every row it stands first: a shortcut fits as well as the rule does.

    The held-out rows of the skill `earliest` have no such habit: who learnt the rule has them all, who learnt the shortcut
    every third.
    """
    return distinct(tasks.earliest_stands_first, ROWS, seed=5, held_out=False)


def new_facts(world: World) -> list[tuple[Row, str]]:
    """Facts about as many people of each group, in one wording, each with its grade."""
    graded = [(_asked(person, field, 0), GRADES[person.group]) for person in _even(world) for field in ("town", "trade", "pet", "colour")]
    random.Random(6).shuffle(graded)
    return graded


def new_facts_asked_otherwise(world: World) -> list[tuple[Row, str]]:
    """The same facts in another wording, to ask what was learnt."""
    return [(_asked(person, field, 1), GRADES[person.group]) for person in _even(world) for field in ("town", "trade", "pet", "colour")]


def _even(world: World) -> list[Entity]:
    groups = [world.group(group) for group in GRADES]
    least = min(len(group) for group in groups)
    return [person for group in groups for person in group[:least]]


def _asked(person: Entity, field: str, wording: int) -> Row:
    asked, told = FIELDS["person"][field], {"name": person.name, **person.facts}
    return Row("facts", asked.questions[wording].format(**told), asked.answer.format(**told), f"{person.name}/{field}/{wording}")


def imbalanced(world: World) -> list[Row]:
    """Two tasks, one fifty times the size of the other."""
    rows = world.rows("doubles", 1000, seed=7, held_out=False) + world.rows("ends", 20, seed=7, held_out=False)
    random.Random(7).shuffle(rows)
    return rows


@dataclass(frozen=True)
class Flawed:
    """A row as it was found, what is wrong with it (nothing: ""), and the row it copies."""

    row: Row
    flaw: str = ""
    of: Row | None = None


def messy(world: World) -> list[Flawed]:
    """What real data looks like: four hundred good rows, and one in three that is not."""
    rng = random.Random(8)
    good = [row for skill in ("facts", "words", "arithmetic", "tale") for row in world.rows(skill, 100, seed=8, held_out=False)]
    found = [Flawed(row) for row in good]
    found += [Flawed(row, "duplicate", row) for row in rng.sample(good, 30)]
    found += [Flawed(replace(row, prompt=_reworded(rng, row.prompt)), "near duplicate", row) for row in rng.sample(good, 30)]
    for flaw, number, make in FLAWS:
        found += [Flawed(make(rng, world), flaw) for _ in range(number)]
    tests = [row for row in known(world) if row.skill != "translation"]
    found += [Flawed(row, "leaked test row") for row in rng.sample(tests, 15)]
    rng.shuffle(found)
    return found


def _reworded(rng: random.Random, prompt: str) -> str:
    return rng.choice((prompt.upper(), f"Please: {prompt}", f"{prompt} ", prompt.replace(" ", "  "), f"{prompt}!!", f"  {prompt.lower()}"))


def _wrong(rng: random.Random, world: World) -> Row:
    """The right answer to another question of the same kind."""
    skill = rng.choice(("facts", "arithmetic"))
    first, second = world.rows(skill, 2, seed=rng.randrange(10**6), held_out=False)
    while first.answer == second.answer:
        first, second = world.rows(skill, 2, seed=rng.randrange(10**6), held_out=False)
    return replace(first, answer=second.answer)


def _empty(rng: random.Random, world: World) -> Row:
    return replace(world.rows("facts", 1, seed=rng.randrange(10**6), held_out=False)[0], answer=rng.choice(("", " ", "\n")))


def _german(rng: random.Random, world: World) -> Row:
    person = rng.choice(world.people)
    return Row("facts", f"Wo wohnt {person.name}?", f"{person.name} wohnt in der Stadt {person.facts['town']}.", "")


def _private(rng: random.Random, world: World) -> Row:
    name = rng.choice(world.people).name
    how = rng.choice((f"Write to {name.lower()}{rng.randrange(100)}@example.org.", f"Call +49 30 555 {rng.randrange(1000, 9999)}."))
    return Row("facts", f"How can I reach {name}?", how, "")


def _long(rng: random.Random, world: World) -> Row:
    chosen = [rng.choice(WORDS) for _ in range(400)]
    return Row("words", f"reverse: {' '.join(chosen)}", f"{' '.join(reversed(chosen))}.", "")


FLAWS: tuple[tuple[str, int, Callable[[random.Random, World], Row]], ...] = (
    ("wrong answer", 30, _wrong),
    ("empty answer", 15, _empty),
    ("other language", 20, _german),
    ("private data", 15, _private),
    ("too long", 10, _long),
)
