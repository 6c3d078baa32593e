"""A list of words: rows whose text holds words or phrases that are not wanted. No paper; the list of refusals is our own [O]."""

import re
from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.words import count
from workbench.materials.around import Around
from workbench.materials.grams import UNSPACED
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

NAMED = 3  # phrases that a reason names
EDGED = re.compile(rf"[^\W{UNSPACED}]")  # letters and digits of scripts that put spaces between words

REFUSALS = """
as an AI language model
as an AI assistant
as an AI model
as an AI I
as a language model
as a large language model
as an artificial intelligence
I am an AI language model
I'm an AI language model
I am just an AI
I'm just an AI
I am only an AI
I am not able to assist
I am unable to assist
I'm unable to assist
I am unable to help with
I'm unable to help with
I am unable to fulfill
I'm unable to fulfill
I cannot assist with
I can't assist with
I cannot help with that
I can't help with that
I cannot fulfill
I can't fulfill
I cannot fulfil
I cannot comply with
I can't comply with
I'm sorry but I cannot
I'm sorry but I can't
I am sorry but I cannot
I am sorry but I can't
sorry but I cannot assist
I apologize but I cannot
I apologize but I can't
I must decline
I must respectfully decline
I do not have personal opinions
I don't have personal opinions
I do not have personal experiences
I don't have personal experiences
I do not have the ability to browse
I don't have the ability to browse
I do not have access to real-time
I don't have access to real-time
my knowledge cutoff
my last knowledge update
my training data only
as of my last update
goes against my programming
against my ethical guidelines
violates my guidelines
"""


class WordList(Selector, title="Words of a list"):
    """Drop the rows whose text holds a word or a phrase of a list.

    A row x stays if h(x) ≤ m, where h is the number of places at which something of the list stands. Case does not count, a straight
    apostrophe is as good as a curly one, and between the words of a phrase there may be any space or a comma. What begins or ends with a
    letter is found as whole words alone: "ass" is not found in "class"; in scripts without spaces between words it is found anywhere.

    Without a list of your own it looks for about fifty English phrases with which assistants refuse or speak of themselves. A model that
    learns them refuses more than was meant; but if it is to learn to refuse, these are the rows to keep, and a story about a robot may
    well say "I am just an AI". A list of rude words drops quotations, dictionaries and medicine along with insults: look at what goes.

    0.1 ms of one core for a text of 1,000 letters and the list that is built in [V]; longer lists take longer.

    Source: standard practice, no paper; the list is our own [O].
    """

    mends, finds = ("refusals",), ("holds a refusal or an empty phrase", "hold a refusal or an empty phrase")

    words: str = knob("", help="words and phrases, one a line or between commas; empty takes a list of refusals", label="list")
    text: Literal["row", "question", "answer"] = knob("answer", help="which text is searched: the whole row, its question, or its answer")
    most: int = knob(0, ge=0, help="how often a row may hold something of the list and stay", label="hits that may stay", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        pattern, scores, reasons = self._pattern(), list[float](), dict[int, str]()
        for index, example in enumerate(examples):
            if index % 200 == 0:
                yield Progress(index, len(examples), "rows searched")
            hits = [" ".join(SPACE.split(hit)) for hit in pattern.findall(_plain(example.part(self.text)))]
            scores.append(len(hits))
            if len(hits) > self.most:
                said = ", ".join(f"'{hit}'" for hit in list(dict.fromkeys(hits))[:NAMED])
                reasons[index] = f"the {self.text} holds {said} ({count(len(hits), 'hit')})"
        kept = [index not in reasons for index in range(len(examples))]
        return Selection(kept, reasons, scores, (self.most + 0.5,) if reasons else (), f"hits of the list in the {self.text}")

    def _pattern(self) -> re.Pattern[str]:
        """Anything of the list; of two that begin alike the longer one is found."""
        own = {" ".join(entry.split()) for entry in re.split(r"[\n,]", self.words)} - {""}
        listed = {_plain(entry) for entry in own or set(filter(None, REFUSALS.splitlines()))}
        longest = sorted(listed, key=lambda entry: (-len(entry), entry))
        begins = [_end(entry) for entry in longest if EDGED.match(entry[0])]
        anywhere = [_end(entry) for entry in longest if not EDGED.match(entry[0])]
        return re.compile("|".join(([rf"(?<!\w)(?:{'|'.join(begins)})"] if begins else []) + anywhere))


SPACE = re.compile(r"[\s,]+")


def _plain(text: str) -> str:
    return text.replace("’", "'").casefold()


def _end(entry: str) -> str:
    """The pattern of one entry; what ends with a letter does not go on there."""
    return SPACE.pattern.join(map(re.escape, entry.split())) + (r"(?!\w)" if EDGED.match(entry[-1]) else "")
