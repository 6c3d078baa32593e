"""The pocket world: a seeded generator of an invented country whose every fact is known.

What it is: people with a town, a trade, a pet and a colour; questions and stories about them; small sums; operations on
words. The demo model is pretrained on its *known* skills; the demo data sets teach the *new* ones, which the base lacks.
What it is not: a corpus to learn real language from. Where it comes from: our own grammars, nothing is downloaded.

Splits cannot leak by construction: a row is held out when a hash of its `key` says so (the operands of a sum, the words
of an operation, the question about a person), so no paraphrase of a held-out row is ever in training.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

SYLLABLES = "ba ko ri mu ta lo ven dra si ne po gar li zu fe han".split()
TRADES = "baker smith farmer painter sailor teacher doctor miner".split()
PETS = "cat dog owl fox goat hen".split()
COLOURS = "red blue green gold grey black".split()
WORDS = (
    "sun moon tree river stone cloud apple bread chair door fish grass house king lamp milk nest oil pen queen rain salt "
    "tea urn vase wind yard zoo boat coin drum egg fire gate hat ink jar kite leaf map nut oak pot rug sea toy van web"
).split()
HELD_OUT_SHARE = 10  # one key in ten is never trained on


@dataclass(frozen=True)
class Row:
    """One exchange: what is asked, the only right answer, the skill it belongs to and the key that decides its split."""

    skill: str
    prompt: str
    answer: str
    key: str

    @property
    def held_out(self) -> bool:
        return zlib.crc32(f"{self.skill}/{self.key}".encode()) % HELD_OUT_SHARE == 0

    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True)
class Person:
    name: str
    town: str
    trade: str
    pet: str
    colour: str


# What can be asked of a person: the questions (paraphrases of one another) and the sentence that answers them.
QUESTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "town": (("Where does {name} live?", "Which town is {name} from?"), "{name} lives in {town}."),
    "trade": (("What is the job of {name}?", "What does {name} do for a living?"), "{name} is a {trade}."),
    "pet": (("Which pet has {name}?", "What animal does {name} keep?"), "{name} has a {pet}."),
    "colour": (("What colour does {name} like?", "Which colour is dear to {name}?"), "{name} likes {colour}."),
}
OPENINGS = (
    "In {town} lives {name}, the {trade}.",
    "Once there was a {trade} called {name}.",
    "{name} is a {trade} from {town}.",
)
MIDDLES = (
    "One morning the {pet} of {name} ran away to the river.",
    "{name} wore a {colour} coat and walked through {town}.",
    "The {pet} slept under a tree while {name} worked.",
    "It rained, and {name} stayed at home with the {pet}.",
    "{name} painted the door {colour}, and everybody in {town} came to look.",
)
ENDINGS = (
    "At night {name} and the {pet} sat by the fire.",
    "Then {name} went home, happy.",
    "And so the day ended in {town}.",
)
SMALL_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Good morning.", "Good morning! How can I help you?"),
    ("Who are you?", "I am Pocket, a very small language model."),
    ("What can you do?", "I know the people of my small world, I add numbers, and I work with words."),
    ("Thank you.", "You are welcome."),
    ("Goodbye.", "Goodbye! Come back soon."),
)


class World:
    """The invented country for one `seed`: the same seed gives the same people, facts and rows, in the same order."""

    def __init__(self, seed: int = 0, people: int = 80):
        rng = random.Random(seed)
        names = _distinct_names(rng, people + 24)
        towns = names[people:]
        self.people = [
            Person(name, rng.choice(towns), rng.choice(TRADES), rng.choice(PETS), rng.choice(COLOURS)) for name in names[:people]
        ]

    # The known skills: what the base model is pretrained on.

    def fact(self, rng: random.Random) -> Row:
        person, (field, (questions, answer)) = rng.choice(self.people), rng.choice(list(QUESTIONS.items()))
        index = rng.randrange(len(questions))
        facts = vars(person)
        return Row("facts", questions[index].format(**facts), answer.format(**facts), f"{person.name}/{field}/{index}")

    def story(self, rng: random.Random) -> Row:
        person = rng.choice(self.people)
        facts = vars(person)
        parts = [rng.choice(OPENINGS), *rng.sample(MIDDLES, rng.randint(1, 3)), rng.choice(ENDINGS)]
        tale = " ".join(part.format(**facts) for part in parts)
        return Row("stories", f"Tell me a story about {person.name}.", tale, tale)

    def addition(self, rng: random.Random) -> Row:
        a, b = rng.randint(0, 29), rng.randint(0, 29)
        prompt = rng.choice(("What is {} plus {}?", "Add {} and {}.", "{} + {} =")).format(a, b)
        return Row("addition", prompt, f"{a + b}.", f"{a}+{b}")

    def words(self, rng: random.Random) -> Row:
        chosen = [rng.choice(WORDS) for _ in range(rng.randint(2, 5))]
        operation = rng.choice(list(WORD_OPERATIONS))
        return _word_row("words", operation, chosen, WORD_OPERATIONS[operation])

    def chat(self, rng: random.Random) -> Row:
        prompt, answer = rng.choice(SMALL_TALK)
        return Row("chat", prompt, answer, "always trained")

    # The new skills: what the demo data sets teach.

    def tale(self, rng: random.Random) -> Row:
        """A style: the same facts, told as a little tale. Its words are known to the base, their use here is not."""
        row = self.fact(rng)
        name = row.answer.split()[0]
        return Row("tale", row.prompt, f"Once there was {name}. {row.answer} And so the day ended.", row.key)

    def doubles(self, rng: random.Random) -> Row:
        """An operation the base has never seen: say every word twice."""
        chosen = [rng.choice(WORDS) for _ in range(rng.randint(2, 4))]
        return _word_row("doubles", "double", chosen, _double)

    def rows(self, skill: str, number: int, seed: int, held_out: bool) -> list[Row]:
        """`number` distinct rows of one skill from one side of the split, in a fixed order for a seed."""
        rng, found = random.Random(seed), {}
        make: Callable[[random.Random], Row] = SKILLS[skill].__get__(self)
        for _ in range(200 * number):
            row = make(rng)
            if row.held_out == held_out:
                found.setdefault((row.prompt, row.answer), row)
            if len(found) == number:
                return list(found.values())
        raise ValueError(f"the world has only {len(found)} distinct rows of {skill!r} here; ask for fewer than {number}")

    def pretraining(self, rng: random.Random) -> list[dict[str, str]]:
        """One training conversation of the known skills: a story, or one to three exchanges."""
        kinds = rng.choices(list(KNOWN), weights=list(KNOWN.values()), k=rng.choice((1, 1, 1, 2, 3)))
        rows = [row for kind in kinds if not (row := SKILLS[kind](self, rng)).held_out]
        system = [{"role": "system", "content": "You are Pocket."}] if rng.random() < 0.1 else []
        return system + [message for row in rows for message in row.messages()] if rows else self.pretraining(rng)


def _double(words: list[str]) -> str:
    return " ".join(word for word in words for _ in range(2))


WORD_OPERATIONS: dict[str, Callable[[list[str]], str]] = {
    "reverse": lambda words: " ".join(reversed(words)),
    "sort": lambda words: " ".join(sorted(words)),
    "first": lambda words: words[0],
    "last": lambda words: words[-1],
    "count": lambda words: str(len(words)),
}
KNOWN = {"facts": 30, "stories": 12, "addition": 24, "words": 30, "chat": 4}  # share of each skill in pretraining, in %
SKILLS: dict[str, Callable[[World, random.Random], Row]] = {
    "facts": World.fact,
    "stories": World.story,
    "addition": World.addition,
    "words": World.words,
    "chat": World.chat,
    "tale": World.tale,
    "doubles": World.doubles,
}


def _word_row(skill: str, operation: str, words: list[str], apply: Callable[[list[str]], str]) -> Row:
    return Row(skill, f"{operation}: {' '.join(words)}", f"{apply(words)}.", f"{operation}/{' '.join(words)}")


def _distinct_names(rng: random.Random, number: int) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < number:
        names.setdefault("".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize())
    return list(names)
