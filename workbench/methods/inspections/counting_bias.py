"""Counting bias: does a model that was tuned on one task lean towards its answers where nobody asked for them? Here: towards numbers.

After the probe of How to Teach Large Multimodal Models New Skills, 2025, made anew: their abstract names it, and these captions, number
words and means are ours. It needs no pictures: a caption is read as a text. What it is not: a count of wrong answers.
Tags as in the project's notes: [P] abstract, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.answered import excerpt
from workbench.materials.evidence import Evidence
from workbench.materials.models import label_table
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.materials.templates import Encoded, prompt_ids
from workbench.methods.contracts import Inspection

ASKED = "Describe the picture."
CAPTIONS = (
    "A dog sleeps on the sofa in the afternoon sun.",
    "The picture shows a wooden boat on a quiet lake.",
    "A woman in a red coat walks across the bridge.",
    "There is fresh bread on the kitchen table.",
    "Children play football in the park behind the school.",
    "An old train stops at a small station in the hills.",
    "The cat looks out of the window at the rain.",
    "Snow covers the roofs of the village.",
    "A man repairs his bicycle in front of the house.",
    "Birds sit on a fence beside the green field.",
    "The market is full of people, fruit and flowers.",
    "A candle burns next to an open book.",
)
WORDS = set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million".split()
)
MOST = 10  # numbers that are shown of each model


class CountingBias(LooksAtRows, Inspection, title="Counting bias", paper="arXiv:2510.08564"):
    """See whether tuning made a model lean towards numbers where none are asked for, a sign that it forgets other tasks.

    $$b = \\frac{1}{T} \\sum_t \\log \\sum_{v \\in \\mathcal{N}} p(v \\mid x_{<t})$$

    N holds the tokens that are a number, in digits or in words [O]; x are captions without any, read after a request to describe a picture
    [O]. Tuning on one narrow task shifts what a model says elsewhere too: such a probe shows it after a counting task, and the shift goes
    up and down together with what is forgotten [P]. What matters is the change against the base; after tuning on anything but numbers it
    is a control.

    What is less than two standard errors, over the texts, counts as no change. Name a data set of your own under rows, and its answers
    are read in place of the captions. Paper: arXiv:2510.08564.
    """

    pictures = (
        Picture("by text", "bars", "How far each text leans towards numbers", x="text", y="change (nats)"),
        Picture("numbers that moved most", "bars", "Which numbers it is", x="number", y="change in probability"),
    )
    still = {"change (nats)": 0.0}

    rows: str = knob("", names="data", help="data set whose answers are read; empty takes twelve captions that come with the workbench")

    def looks_at(self) -> list[str]:
        return [self.rows] if self.rows else []

    def costs(self) -> str:
        what = f"up to {self.most_rows} rows" if self.rows else f"{len(CAPTIONS)} short captions"
        return f"Reads {what} once with each model, the base too; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        texts, rows = self._texts(subject)
        numbers_in = number_tokens(subject.tokenizer)
        if not numbers_in:
            raise WorkbenchError(
                "This tokenizer has no token that is a number, so there is nothing to lean towards. Choose another inspection."
            )
        seen = Evidence({"": rows}, subject.tokenizer.pad_token_id or 0, subject.device)
        told, moved, numbers, says = list[list[Any]](), list[list[Any]](), dict[str, dict[str, float]](), list[str]()
        yield Progress(0, len(subject.refs), "models read")
        base, before = leaning(subject.base, seen, numbers_in)
        for number, label in enumerate(subject.labels):
            yield Progress(number + 1, len(subject.refs), "models read")
            own, after = leaning(subject.tuned(number), seen, numbers_in)
            told += [[label, excerpt(text), *values, values[0] - values[1]] for text, *values in zip(texts, own, base, strict=True)]
            for place in (after - before).abs().argsort(descending=True, stable=True)[:MOST].tolist():
                word = subject.tokenizer.decode([numbers_in[place]])
                moved.append([label, word, float(before[place]), float(after[place]), float(after[place] - before[place])])
            change = torch.tensor(own, dtype=torch.float64) - torch.tensor(base, dtype=torch.float64)
            numbers[label] = {"mass of numbers (log)": sum(own) / len(own), "change (nats)": float(change.mean())}
            says.append(_said(label, sum(own) / len(own), change))
        tables = [
            Table("by text", ["model", "text", "mass of numbers (log)", "in the base", "change (nats)"], told),
            Table("numbers that moved most", ["model", "number", "in the base", "probability", "change in probability"], moved),
        ]
        return Finding(says, tables, numbers)

    def _texts(self, subject: Subject) -> tuple[list[str], list[Encoded]]:
        """What is read, and as tokens of which the answers are learnt."""
        if self.rows:
            return [example.answer() for example in subject.examples[self.rows]], list(subject.rows[self.rows])
        asked = prompt_ids(subject.tokenizer, [{"role": "user", "content": ASKED}])
        said = [list(subject.tokenizer(caption, add_special_tokens=False)["input_ids"]) for caption in CAPTIONS]
        return list(CAPTIONS), [Encoded(asked + ids, [False] * len(asked) + [True] * len(ids), 0) for ids in said]


def number_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that are a number by themselves: digits, or a word of `WORDS`."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    plain = [text.strip().lower() for text in texts]
    return [token for token, text in enumerate(plain) if text in WORDS or (text.isascii() and text.isdigit())]


@torch.no_grad()
def leaning(model: PreTrainedModel, seen: Evidence, numbers: Sequence[int]) -> tuple[list[float], Tensor]:
    """Of each row the mean log of what all numbers get together where its answer is said, and the mean probability of each number."""
    rows, each, chosen = list[float](), list[Tensor](), torch.tensor(numbers, device=seen.device)
    for batch in seen.batches():
        table = label_table(model, batch)[:, chosen].double()
        each.append(table.exp().cpu())
        counts = (batch["labels"][:, 1:] != IGNORED).sum(1).tolist()
        rows += [float(part.mean()) for part in table.logsumexp(-1).split(counts)]
    return rows, torch.cat(each).mean(0)


def _said(label: str, mean: float, changes: Tensor) -> str:
    change, error = float(changes.mean()), float(changes.std()) / math.sqrt(len(changes)) if len(changes) > 1 else math.inf
    way = "as much towards numbers as" if abs(change) <= 2 * error else f"{'more' if change > 0 else 'less'} towards numbers than"
    return (
        f"{label} leans {way} the base where none is asked for: all numbers together have a log-probability of {mean:.2f}, "
        f"{change:+.2f} nats{f' (standard error {error:.2f})' if math.isfinite(error) else ''}."
    )
