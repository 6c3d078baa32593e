"""The words of the pocket world: syllables of its names, what its people do and keep, and the dictionary of Lomi.

Lists only. Their order is part of the world: a word put in the middle changes every fact that is drawn after it.
"""

import random

SYLLABLES = "ba ko ri mu ta lo ven dra si ne po gar li zu fe han".split()
TRADES = "baker smith farmer painter sailor teacher doctor miner".split()
PETS = "cat dog wolf fox goat hen".split()
COLOURS = "red blue green gold grey black".split()
WORDS = (
    "sun moon tree river stone cloud apple bread chair door fish grass house king lamp milk nest oil pen queen rain salt "
    "tea urn vase wind yard zoo boat coin drum egg fire gate hat ink jar kite leaf map nut oak pot rug sea toy van web"
).split()
RIVERS = "Silver Long Amber Winter Mill Swan".split()
GOODS = "bread salt tea oil milk apples".split()
FOODS = "fish bread grass apples nuts milk".split()
PLACES = "tree house yard nest boat grass".split()
STUFFS = "stone oak gold salt leaf milk".split()

# Lomi, the second language: object before verb, adjective behind its noun, `na` behind what is more than one, no articles.
LOMI_NOUNS = {
    "cat": "umek", "dog": "ashul", "owl": "epix", "fox": "ontak", "goat": "ulem", "hen": "ixat", "king": "orum", "queen": "orail",
    "house": "tamek", "door": "kelu", "tree": "shai", "river": "ulash", "stone": "temok", "boat": "eshk", "coin": "irit", "apple": "amai",
}  # fmt: skip
LOMI_ADJECTIVES = {"red": "ruk", "blue": "bael", "green": "yish", "gold": "aur", "grey": "mosk", "black": "tolk"}
LOMI_VERBS = {"saw": "veth", "found": "falk", "loved": "lum", "followed": "sekt", "carried": "bork", "left": "dashk"}
PLURALS = {"fox": "foxes"}  # the others take an s


def plural(noun: str) -> str:
    return PLURALS.get(noun, f"{noun}s")


def names(rng: random.Random, number: int, taken: frozenset[str] = frozenset()) -> list[str]:
    """That many different names of two or three syllables, none of them `taken`."""
    found: dict[str, None] = {}
    while len(found) < number:
        name = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()
        if name not in taken:
            found.setdefault(name)
    return list(found)
