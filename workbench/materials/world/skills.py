"""The pocket world: a seeded generator of an invented country whose every fact is known, and its skills.

What it is: people, towns, animals and things with their facts; stories and questions about them; sums; operations on words;
styles; Lomi, a second language. The demo model is pretrained on the *known* skills; the demo data sets teach the *new* ones,
which the base lacks. What it is not: a corpus to learn real language from. Where it comes from: our own grammars, nothing
is downloaded.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workbench.materials.world import facts, stories, tasks
from workbench.materials.world.lexicon import names
from workbench.materials.world.row import Row

STYLES = {"Answer briefly.": "{value}.", "Answer politely.": "With pleasure: {answer}"}
"""System prompt → how a fact is then told."""


@dataclass(frozen=True)
class Skill:
    """One thing that can be known: `make(world, rng)` draws a row of it.

    known: taught in pretraining, with this share of its exchanges in %; new: what the demo data sets teach; beyond: never
    taught. A skill with a `loss` has many right answers, so it is scored by its loss; any other by exact match.
    """

    make: Callable[["World", random.Random], Row]
    kind: Literal["known", "new", "beyond"]
    share: float = 0
    by: Literal["exact match", "loss"] = "exact match"


class World:
    """The invented country for one `seed`: the same seed gives the same people, facts and rows, in the same order."""

    def __init__(self, seed: int = 0):
        self.entities = facts.settle(seed)
        self.people = [person for person in self.entities["person"] if person.group == "often"]
        taken = frozenset(entity.name for kind in self.entities.values() for entity in kind)
        self.strangers = names(random.Random(seed + 2), 1200, taken)

    def group(self, group: str) -> list[facts.Entity]:
        """The people that are spoken of this often: `often`, `seldom`, `rare` or `never`."""
        return [person for person in self.entities["person"] if person.group == group]

    def rows(self, skill: str, number: int, seed: int, held_out: bool) -> list[Row]:
        """`number` distinct rows of one skill from one side of the split, in a fixed order for a seed."""
        make = SKILLS[skill].make
        return distinct(lambda rng: make(self, rng), number, seed, held_out)

    def conversation(self, rng: random.Random) -> list[dict[str, str]]:
        """What the demo model is pretrained on: one to three exchanges of the known skills, none of them held out."""
        kinds = rng.choices(list(KNOWN), weights=list(KNOWN.values()), k=rng.choice((1, 1, 1, 2, 3)))
        rows = [row for kind in kinds if not (row := SKILLS[kind].make(self, rng)).held_out]
        if not rows:
            return self.conversation(rng)
        if rows[0].system:  # a style holds for the whole conversation, so it has one to itself
            return rows[0].messages()
        system = [{"role": "system", "content": "You are Pocket."}] if rng.random() < 0.1 else []
        return system + [message for row in rows if not row.system for message in row.messages()]

    def document(self, rng: random.Random) -> str:
        """Plain text of pretraining: all that is true of somebody or something, in any order."""
        entity = self.spoken_of(rng)
        told = [field.answer.format(name=entity.name, **entity.facts) for field in facts.FIELDS[entity.kind].values()]
        return " ".join(rng.sample(told, len(told)))

    def spoken_of(self, rng: random.Random) -> facts.Entity:
        """Somebody or something, as often as pretraining speaks of it."""
        kind = rng.choices(list(facts.WEIGHTS), weights=list(facts.WEIGHTS.values()))[0]
        if kind != "person":
            return rng.choice(self.entities[kind])
        sizes = [number * often for number, often in facts.GROUPS.values()]
        return rng.choice(self.group(rng.choices(list(facts.GROUPS), weights=sizes)[0]))


def distinct(make: Callable[[random.Random], Row], number: int, seed: int, held_out: bool) -> list[Row]:
    """`number` different rows of one side of the split. Raises ValueError where the world has fewer."""
    rng, found = random.Random(seed), dict[tuple[str, str], Row]()
    for _ in range(200 * number):
        row = make(rng)
        if row.held_out == held_out:
            found.setdefault((row.system, row.prompt), row)
        if len(found) == number:
            return list(found.values())
    raise ValueError(f"the world has only {len(found)} rows of that kind here; ask for fewer than {number}")


def fact_row(rng: random.Random, entity: facts.Entity) -> Row:
    """A question about somebody or something, and its answer in a full sentence."""
    field, asked = rng.choice(list(facts.FIELDS[entity.kind].items()))
    index = rng.randrange(len(asked.questions))
    told = {"name": entity.name, **entity.facts}
    return Row("facts", asked.questions[index].format(**told), asked.answer.format(**told), f"{entity.name}/{field}/{index}")


def _fact(world: World, rng: random.Random) -> Row:
    return fact_row(rng, world.spoken_of(rng))


def _style(world: World, rng: random.Random) -> Row:
    """A fact, told as the system prompt asks."""
    person = rng.choice(world.people)
    field, asked = rng.choice(list(facts.FIELDS["person"].items()))
    index = rng.randrange(len(asked.questions))
    told = {"name": person.name, **person.facts}
    system, shape = rng.choice(list(STYLES.items()))
    answer = shape.format(value=person.facts[field], answer=asked.answer.format(**told))
    return Row("style", asked.questions[index].format(**told), answer, f"{person.name}/{field}/{index}", system)


def _story(world: World, rng: random.Random) -> Row:
    person = rng.choice(world.people)
    told = {"name": person.name, **person.facts}
    tale = stories.tale(rng, told)
    return Row("stories", rng.choice(stories.ASKED).format(**told), tale, tale)


def _chat(world: World, rng: random.Random) -> Row:
    """Small talk: half of it the same for all, half with somebody's name; people who are held out are met in no wording."""
    if rng.random() < 0.3:
        prompt, answer = rng.choice(stories.SMALL_TALK)
        return Row("chat", prompt, answer, "")
    prompt, answer = rng.choice(stories.MET)
    name = rng.choice(world.strangers)
    return Row("chat", prompt.format(name=name), answer.format(name=name), name)


def _tale(world: World, rng: random.Random) -> Row:
    """A style the base lacks: a fact, told as a tale. Its words are known to the base, their use here is not.

    No question that is held out as a fact is asked here either, so that known facts are tested with questions of their own.
    """
    person = rng.choice(world.people)
    while (row := fact_row(rng, person)).held_out:
        pass
    return Row("tale", row.prompt, f"Once there was {person.name}. {row.answer} And so the day ended.", person.name)


SKILLS: dict[str, Skill] = {
    "facts": Skill(_fact, "known", 28),
    "stories": Skill(_story, "known", 6, by="loss"),
    "arithmetic": Skill(lambda _, rng: tasks.arithmetic(rng), "known", 25),
    "words": Skill(lambda _, rng: tasks.words(rng), "known", 20),
    "translation": Skill(lambda _, rng: tasks.translation(rng), "known", 12),
    "style": Skill(_style, "known", 5),
    "chat": Skill(_chat, "known", 4),
    "tale": Skill(_tale, "new"),
    "doubles": Skill(lambda _, rng: tasks.doubles(rng), "new"),
    "ends": Skill(lambda _, rng: tasks.ends(rng), "new"),
    "earliest": Skill(lambda _, rng: tasks.earliest(rng), "new"),
    "beyond": Skill(lambda _, rng: tasks.beyond(rng), "beyond"),
}
KNOWN = {name: skill.share for name, skill in SKILLS.items() if skill.kind == "known"}
