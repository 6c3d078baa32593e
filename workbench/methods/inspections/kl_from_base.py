"""How far a tuned model's next-token distributions lie from its base's, on rows of the new task or of anything else.

What it is not: the anchor that holds a model to its base while it learns (`core/anchor.py`), or the measurement of what was forgotten; the
paper finds that this number foretells it.
Tags as in the project's notes: [P] read in the paper, [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.picture import Finding, Picture
from workbench.materials.evidence import Batch
from workbench.materials.models import label_table
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

MOST = 20  # tokens that are shown
BEFORE = 8  # tokens that stand before one that is shown


class KLFromBase(LooksAtRows, Inspection, title="KL from the base", paper="arXiv:2509.04259"):
    """See how far the tuned model's answers have moved from the base's, token by token: the less, the less was forgotten.

    $$\\mathrm{KL}(p_0 \\,\\Vert\\, p_1) = \\frac{1}{T} \\sum_t \\sum_v p_0(v \\mid x_{<t})
    \\log \\frac{p_0(v \\mid x_{<t})}{p_1(v \\mid x_{<t})}$$

    p₀ is the base's distribution and p₁ the tuned model's, over the whole vocabulary, at the T tokens of the answers [D]. On rows of the
    new task this foretells how much of the old ones was forgotten, whatever the method of tuning: RL forgets less than tuning on examples
    does because it stays nearer [P]. Read on the rows' own answers; the paper samples them from the model [O]. The other direction,
    KL(p₁ ‖ p₀), is large where the tuned model says what the base rules out.
    Paper: arXiv:2509.04259.
    """

    pictures = (
        Picture("by place", "lines", "How far each token of an answer moved", x="token of the answer", y="KL from the base (nats)"),
    )
    still = {"KL from the base": 0.0, "KL to the base": 0.0}

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows once with each model, the base too; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        batches = subject.evidence.batches(self.rows)
        numbers, places, tokens = dict[str, dict[str, float]](), list[list[Any]](), list[list[Any]]()
        for number, label in enumerate(subject.labels):
            found = list[Tensor]()  # (3, n) of each batch: KL from the base, KL to it, token of the answer
            seen = list[tuple[list[int], int]]()  # what stands before each of those tokens, and the token
            for done, batch in enumerate(batches):
                yield Progress(number * len(batches) + done, len(subject.labels) * len(batches), "rows read")
                found.append(_divergences(subject, number, batch))
                seen += _contexts(batch)
            kls = torch.cat(found, 1)
            numbers[label] = {"KL from the base": float(kls[0].mean()), "KL to the base": float(kls[1].mean())}
            places += [[label, place + 1, *kls[:2, kls[2] == place].mean(1).tolist()] for place in range(int(kls[2].max()) + 1)]
            for spot in kls[0].argsort(descending=True)[:MOST].tolist():
                before, token = seen[spot]
                tokens.append([label, subject.tokenizer.decode([token]), subject.tokenizer.decode(before), *kls[:2, spot].tolist()])
        kl = ["KL from the base (nats)", "KL to the base (nats)"]
        tables = [
            Table("by place", ["model", "token of the answer", *kl], places),
            Table("tokens that moved most", ["model", "token", "after", *kl], tokens),
        ]
        return Finding([_said(label, own) for label, own in numbers.items()], tables, numbers)


@torch.no_grad()
def _divergences(subject: Subject, number: int, batch: Batch) -> Tensor:
    """(3, n) of the n learnt tokens of a batch: KL from the base, KL to it, and the token's place in its answer from 0."""
    base, own = (label_table(model, batch).double() for model in (subject.base, subject.tuned(number)))
    from_base, to_base = ((one.exp() * (one - other)).sum(-1) for one, other in ((base, own), (own, base)))
    learnt = batch["labels"][:, 1:] != IGNORED
    return torch.stack([from_base, to_base, (learnt.cumsum(1) - 1)[learnt].double()]).cpu()


def _contexts(batch: Batch) -> list[tuple[list[int], int]]:
    """Of each learnt token what stands before it, and the token."""
    ids = batch["input_ids"].tolist()
    places = (batch["labels"][:, 1:] != IGNORED).nonzero().tolist()
    return [(ids[row][max(0, place + 1 - BEFORE) : place + 1], ids[row][place + 1]) for row, place in places]


def _said(label: str, numbers: dict[str, float]) -> str:
    return (
        f"{label} lies {numbers['KL from the base']:.3g} nats a token from the base on these rows, and "
        f"{numbers['KL to the base']:.3g} nats seen from its own side."
    )
