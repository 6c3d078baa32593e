"""What is true in the pocket world: its people, towns, animals and things, and every way in which it is asked and told.

How often a person is spoken of in pretraining grades what the model knows of it (`GROUPS`), so that the four grades of
knowledge in SliCK (arXiv:2405.05904: highly known, maybe known, weakly known, unknown) are true by construction.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.materials.world.lexicon import COLOURS, FOODS, GOODS, PETS, PLACES, RIVERS, STUFFS, TRADES, WORDS, names

GROUPS = {"often": (80, 1.0), "seldom": (24, 0.03), "rare": (24, 0.005), "never": (24, 0.0)}
"""Group of people → (how many, how often one of them is spoken of, against one that is spoken of often)."""
TOWNS = 24


@dataclass(frozen=True)
class Entity:
    """Somebody or something: its kind, its name, what is true of it by field, and for a person how often it is spoken of."""

    kind: str
    name: str
    facts: Mapping[str, str]
    group: str = "often"


@dataclass(frozen=True)
class Field:
    """One thing that can be asked: questions (paraphrases of one another) and the sentence that answers all of them."""

    answer: str
    questions: tuple[str, ...]


FIELDS: dict[str, dict[str, Field]] = {
    "person": {
        "town": Field(
            "{name} lives in {town}.",
            ("Where does {name} live?", "Which town is {name} from?", "In which town does {name} live?", "Where is the home of {name}?"),
        ),
        "trade": Field(
            "{name} is a {trade}.",
            (
                "What is the job of {name}?",
                "What does {name} do for a living?",
                "What is the trade of {name}?",
                "What work does {name} do?",
            ),
        ),
        "pet": Field(
            "{name} has a {pet}.",
            ("Which pet has {name}?", "What animal does {name} keep?", "What pet does {name} have?", "Which animal lives with {name}?"),
        ),
        "colour": Field(
            "{name} likes {colour}.",
            (
                "What colour does {name} like?",
                "Which colour is dear to {name}?",
                "What is the best colour for {name}?",
                "Which colour does {name} wear?",
            ),
        ),
        "born": Field(
            "{name} was born in the year {born}.",
            ("When was {name} born?", "In which year was {name} born?", "What is the birth year of {name}?"),
        ),
        "friend": Field(
            "The friend of {name} is {friend}.",
            ("Who is the friend of {name}?", "Who is dear to {name}?", "With whom does {name} play?"),
        ),
    },
    "town": {
        "river": Field(
            "{name} lies on the {river} River.",
            ("On which river lies {name}?", "Which river runs through {name}?", "What is the river of {name}?"),
        ),
        "founded": Field(
            "{name} was built in the year {founded}.",
            ("When was {name} built?", "In which year was {name} built?", "How old is {name}?"),
        ),
        "goods": Field(
            "{name} sells {goods}.",
            ("What does {name} sell?", "What can one buy in {name}?", "Which goods come from {name}?"),
        ),
    },
    "animal": {
        "food": Field(
            "The {name} eats {food}.", ("What does the {name} eat?", "What is the food of the {name}?", "What does one give the {name}?")
        ),
        "bed": Field(
            "The {name} sleeps in the {bed}.",
            ("Where does the {name} sleep?", "Where is the bed of the {name}?", "Where is the {name} at night?"),
        ),
    },
    "thing": {
        "stuff": Field(
            "The {name} is made of {stuff}.", ("What is the {name} made of?", "Of what does one make the {name}?", "What is in the {name}?")
        ),
        "maker": Field("The {maker} makes the {name}.", ("Who makes the {name}?", "Whose work is the {name}?", "Who sells the {name}?")),
    },
}
WEIGHTS = {"person": 80, "town": 12, "animal": 3, "thing": 5}  # how often each kind is spoken of, in %


def settle(seed: int) -> dict[str, list[Entity]]:
    """Everybody and everything by kind, the same for a seed."""
    rng = random.Random(seed)
    often = GROUPS["often"][0]
    drawn = names(rng, often + TOWNS)
    towns = drawn[often:]
    people = [_person(rng, name, towns, "often") for name in drawn[:often]]
    rng = random.Random(seed + 1)  # of its own, so that more fields leave the facts above as they are
    more = names(rng, sum(number for number, _ in GROUPS.values()) - often, frozenset(drawn))
    groups = [group for group, (number, _) in GROUPS.items() if group != "often" for _ in range(number)]
    people += [_person(rng, name, towns, group) for name, group in zip(more, groups, strict=True)]
    return {
        "person": [_with_life(rng, person, people) for person in people],
        "town": [
            Entity("town", town, {"river": rng.choice(RIVERS), "founded": str(rng.randint(10, 99)), "goods": rng.choice(GOODS)})
            for town in towns
        ],
        "animal": [Entity("animal", pet, {"food": rng.choice(FOODS), "bed": rng.choice(PLACES)}) for pet in PETS],
        "thing": [Entity("thing", thing, {"stuff": rng.choice(STUFFS), "maker": rng.choice(TRADES)}) for thing in WORDS[-16:]],
    }


def _person(rng: random.Random, name: str, towns: list[str], group: str) -> Entity:
    facts = {"town": rng.choice(towns), "trade": rng.choice(TRADES), "pet": rng.choice(PETS), "colour": rng.choice(COLOURS)}
    return Entity("person", name, facts, group)


def _with_life(rng: random.Random, person: Entity, people: list[Entity]) -> Entity:
    """A birth year, and a friend of the same group: who is never spoken of must not be named as somebody's friend."""
    friends = [other.name for other in people if other.group == person.group and other is not person]
    facts = {**person.facts, "born": str(rng.randint(10, 99)), "friend": rng.choice(friends)}
    return Entity("person", person.name, facts, person.group)
