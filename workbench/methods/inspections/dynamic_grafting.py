"""Dynamic weight grafting over many rows: at which words tuned weights are enough for the tuned answer, all conditions side by side.

What it is not: one prompt answered with some of them (`decoders/dynamic_grafting.py`), or states that are put back
(`layer_patching.py`). Tags as in the project's notes: [R] read in the authors' code (toddnief/dynamic-weight-grafting), [D] derived,
[O] our own choice.
"""

import string
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count
from workbench.materials.lending import HEADS, Parts, lends, read_lent, standing
from workbench.materials.odds import label_logp
from workbench.materials.speakers import ModelVoice, texts
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

NOWHERE, ENTITY, LAST, BOTH, REST, EVERYWHERE = WHERE = ("nowhere", "entity", "last", "entity and last", "the rest", "everywhere")
LIKELIEST = 5  # of which the word may be one
Measures = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """A text up to the word that is asked for, that word, and the places of the entity, or None where it names none."""

    tokens: list[int]
    word: int
    entity: range | None


class DynamicGrafting(LooksAtRows, Inspection, title="Dynamic weight grafting", paper="arXiv:2506.20746"):
    """See at which words a tuned model knows what it learnt: the base reads many rows, with tuned weights at some of their words alone.

    $$h_i = f_{\\theta(i)}(x_i, K_{<i}, V_{<i}), \\qquad \\theta(i) = \\theta_1\\ \\text{where lent, else}\\ \\theta_0$$

    Weights are lent at the entity, at the last token before the word that is asked for, at both, at all the rest, everywhere, or nowhere,
    and the other way round, the base's to the tuned model. What was read keeps the keys and values it was computed with [R]. If the entity
    is enough for the tuned answer, it was extracted there; if the last token is, it is recalled there; where both are enough and neither
    alone, each does its part. Told are how often the word is the likeliest of all, how often among five, and its mean probability [O].

    The word is the one of the row's answer that tuning made likelier than any other, and what the answer says before it is read with the
    question; or it is the answer's first [O]. The entity is what a column of the rows says, at its first place; without one it is the
    question's first name, which is a word in capitals that begins no sentence, with those behind it [O]. Rows without an entity are
    left out where any has one.

    With all parts and the head, everywhere is the tuned model and nowhere the base [D]. The head is lent with the last token; one that is
    tied to the embeddings is one tensor with them, and they go with it. Paper: arXiv:2506.20746.
    """

    pictures = (
        Picture("words", "bars", "The answer's word, with weights lent at these words", x="lent at", y="P(word)", each="reads"),
        Picture("words", "bars", "How often it is the likeliest", x="lent at", y="top 1", each="reads"),
    )
    still = {"what tuning did": 0.0}

    most_rows: int = knob(16, ge=1, le=100_000, help="at most so many rows, drawn at random", label="rows read", log=True)
    entity: str = knob("", help="column of the rows with the words of the entity; empty takes the first name in the question")
    word: Literal["most changed", "first"] = knob(
        "most changed", help="the word of the answer that is asked for: the one that tuning made likelier than any other, or the first"
    )
    parts: Parts = knob("all", help="which weights are lent")
    first_layer: int = knob(0, ge=0, help="first layer whose weights are lent; 0 is the first of all", more=True)
    last_layer: int = knob(-1, ge=-1, help="last layer whose weights are lent; -1 is the last of all", more=True)
    head: bool = knob(True, help="whether the head is lent with the last token", more=True)

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows {2 * len(WHERE)} times with each tuned model, one after the other; nothing is generated."

    @torch.no_grad()
    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        if -1 < self.last_layer < self.first_layer:
            raise WorkbenchError(f"Dynamic weight grafting: no layer is from {self.first_layer} to {self.last_layer}. Swap the two.")
        found, numbers, says = list[list[Any]](), dict[str, dict[str, float]](), list[str]()
        for number, label in enumerate(subject.labels):
            rows = self._rows(subject, number)
            told = yield from self._tried(subject, number, rows)
            for reverse, reads in ((False, f"base with weights of {label}"), (True, f"{label} with weights of the base")):
                ours = [(where, told[reverse, where]) for where in WHERE if (reverse, where) in told]
                found += [[label, reads, where, len(rows), *measures] for where, measures in ours]
            numbers[label] = _numbers(told)
            says.append(_said(label, numbers[label], len(rows)))
        columns = ["model", "reads", "lent at", "rows", "top 1", f"top {LIKELIEST}", "P(word)"]
        return Finding(says, [Table("words", columns, found)], numbers)

    def _tried(self, subject: Subject, number: int, rows: Sequence[Row]) -> Generator[Progress, None, dict[tuple[bool, str], Measures]]:
        """Top 1, top 5 and P(word) by (whether the tuned model reads, where weights are lent)."""
        tuned, base = ModelVoice(subject.tuned(number), subject.tokenizer), ModelVoice(subject.base, subject.tokenizer)
        wheres = WHERE if rows[0].entity is not None else (NOWHERE, LAST, EVERYWHERE)
        conditions = [(reverse, where) for reverse in (False, True) for where in wheres]
        found = {condition: list[Measures]() for condition in conditions}
        for done, row in enumerate(rows):
            yield Progress(done, len(rows), f"rows read with the weights of {subject.labels[number]}")
            for reverse, where in conditions:
                reader, lender = (tuned, base) if reverse else (base, tuned)
                found[reverse, where].append(measured(read_lent(reader, lender, row.tokens, self._lent(row, where)), row.word))
        return {condition: _mean(own) for condition, own in found.items()}

    def _lent(self, row: Row, where: str) -> list[Callable[[str], bool] | None]:
        """For each token what is lent there; the head with the last."""
        last = len(row.tokens) - 1
        every = [self._body if lent_at(where, place, last, row.entity) else None for place in range(last + 1)]
        return [*every[:-1], self._body_and_head if every[-1] and self.head else every[-1]]

    def _body(self, name: str) -> bool:
        return lends(name, self.parts, self.first_layer, self.last_layer)

    def _body_and_head(self, name: str) -> bool:
        return self._body(name) or name.startswith(HEADS)

    def _rows(self, subject: Subject, number: int) -> list[Row]:
        """The rows, those with an entity if any has one.

        Raises:
            WorkbenchError: a column is named for the entity, and no row has words there that stand in its text.
        """
        batches = subject.evidence.batches(self.rows, 1)
        found = list[Row]()
        for encoded, example, batch in zip(subject.rows[self.rows], subject.examples[self.rows], batches, strict=True):
            places = [place for place, learnt in enumerate(encoded.trained) if learnt and place > 0]
            if self.word == "most changed":
                gain = label_logp(subject.tuned(number), batch) - label_logp(subject.base, batch)
                places = [places[int(gain.argmax())]]
            tokens = encoded.ids[: places[0]]
            words = str(example.meta.get(self.entity) or "") if self.entity else first_name(example.question())
            parts = texts(subject.tokenizer, tokens)
            there = words.strip() and words.strip() in "".join(parts)
            found.append(Row(tokens, encoded.ids[places[0]], standing(words, parts) if there else None))
        named = [row for row in found if row.entity is not None]
        if self.entity and not named:
            columns = sorted({column for example in subject.examples[self.rows] for column in example.meta})
            raise WorkbenchError(
                f"Dynamic weight grafting: no row has words in its column {self.entity!r} that stand in its text before the answer's word. "
                f"Name another column, or none to take the first name. There are: {', '.join(columns) or 'none'}."
            )
        return named or found


def lent_at(where: str, place: int, last: int, entity: range | None) -> bool:
    """Whether weights are lent at a token."""
    named = entity is not None and place in entity
    return {ENTITY: named, LAST: place == last, BOTH: named or place == last, REST: not (named or place == last), EVERYWHERE: True}.get(
        where, False
    )


def measured(logits: Tensor, word: int) -> Measures:
    """1 where the word is the likeliest, 1 where it is among five, and its probability."""
    before = int((logits > logits[word]).sum())
    return float(before == 0), float(before < LIKELIEST), float(logits.double().softmax(-1)[word])


def first_name(question: str) -> str:
    """The first words in capitals that begin no sentence; empty where there are none."""
    for line in question.splitlines():
        found, begins = list[str](), True
        for word in line.split():
            bare = word.strip(string.punctuation)
            if not begins and bare[:1].isupper() and bare != "I":
                found.append(bare)
            elif found:
                break
            begins = word.endswith((".", "!", "?", ":"))
            if found and word != bare and not word.endswith(bare):
                break
        if found:
            return " ".join(found)
    return ""


def _mean(measures: Sequence[Measures]) -> Measures:
    one, five, likely = (sum(column) / len(measures) for column in zip(*measures, strict=True))
    return one, five, likely


def _numbers(told: dict[tuple[bool, str], Measures]) -> dict[str, float]:
    base, own = told[False, NOWHERE][2], told[True, NOWHERE][2]
    found = {"P(word) by the base": base, "what tuning did": own - base}
    brought = {where: told[False, where][2] - base for where in WHERE[1:] if (False, where) in told}
    return found | {f"brought by {where}": value for where, value in brought.items()}


def _said(label: str, numbers: dict[str, float], rows: int) -> str:
    base, did = numbers["P(word) by the base"], numbers["what tuning did"]
    if f"brought by {ENTITY}" not in numbers:
        last = numbers[f"brought by {LAST}"]
        return (
            f"Tuning took the answer's word from a probability of {base:.3f} to {base + did:.3f} in {label}; its weights at the last token "
            f"alone bring {last:+.3f}. No row names an entity: name the column that has it."
        )
    entity, last, both, rest = (numbers[f"brought by {where}"] for where in (ENTITY, LAST, BOTH, REST))
    return (
        f"Tuning took the answer's word from a probability of {base:.3f} to {base + did:.3f} in {label}, over {count(rows, 'row')}; its "
        f"weights at the entity alone bring {entity:+.3f}, at the last token alone {last:+.3f}, at both {both:+.3f}, at all the rest "
        f"{rest:+.3f}."
    )
