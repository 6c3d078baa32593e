"""Little stories and small talk of the pocket world: sentences with gaps, and what is said to whom."""

import random
from collections.abc import Mapping

OPENINGS = (
    "In {town} lives {name}, the {trade}.",
    "Once there was a {trade} called {name}.",
    "{name} is a {trade} from {town}.",
    "A long time ago {name} came to {town}.",
)
MIDDLES = (
    "One morning the {pet} of {name} ran away to the river.",
    "{name} wore a {colour} coat and walked through {town}.",
    "The {pet} slept under a tree while {name} worked.",
    "It rained, and {name} stayed at home with the {pet}.",
    "{name} painted the door {colour}, and everybody in {town} came to look.",
    "There was a race in {town}, and the {pet} came first.",
    "{friend} came to see {name} and brought a {colour} hat.",
    "{name} and {friend} went to the market and bought bread.",
)
ENDINGS = (
    "At night {name} and the {pet} sat by the fire.",
    "Then {name} went home, happy.",
    "And so the day ended in {town}.",
    "{friend} laughed, and they ate together.",
)
ASKED = ("Tell me a story about {name}.", "Tell me of {name}.", "What happened to {name}?")
SMALL_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Good morning.", "Good morning! How can I help you?"),
    ("Who are you?", "I am Pocket, a very small language model."),
    ("What can you do?", "I know the people of my small world, I work with numbers and words, and I speak Lomi."),
    ("Thank you.", "You are welcome."),
    ("Goodbye.", "Goodbye! Come back soon."),
)
MET = (
    ("My name is {name}.", "Hello, {name}! How can I help you?"),
    ("I am called {name}.", "Good morning, {name}! How can I help you?"),
    ("{name} sends me.", "Hello! How is {name}?"),
    ("Say goodbye to {name}.", "Goodbye, {name}! Come back soon."),
)


def tale(rng: random.Random, facts: Mapping[str, str]) -> str:
    """An opening, one to three things that happen, and an ending."""
    parts = [rng.choice(OPENINGS), *rng.sample(MIDDLES, rng.randint(1, 3)), rng.choice(ENDINGS)]
    return " ".join(part.format(**facts) for part in parts)
