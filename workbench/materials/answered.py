"""What a model makes of the answers that rows bring: how likely they are to it, and whether it would give them itself.

Read with the answer before its eyes, a model says at each place what it would say next. Where that is the answer's own token all along, the
answer is what it says by itself when nothing is left to chance, so nothing needs to be generated to know it [D]. What it is not: answers
that a model gives (`speaking.py`). Tags: [D] derived.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.materials.evidence import Batch
from workbench.materials.models import label_table
from workbench.materials.packing import IGNORED


@torch.no_grad()
def judged(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B,) each: the mean log-probability of a row's learnt tokens, and 1 where each of them is the likeliest, else 0."""
    labels = batch["labels"][:, 1:]
    learnt = labels != IGNORED
    table, tokens = label_table(model, batch), labels[learnt]
    logps, hits = (torch.zeros(learnt.shape, dtype=torch.float64, device=table.device) for _ in range(2))
    logps[learnt] = table.gather(-1, tokens[:, None])[:, 0].double()
    hits[learnt] = (table.argmax(-1) == tokens).double()
    count = learnt.sum(1)
    return logps.sum(1) / count, (hits.sum(1) == count).double()


def excerpt(text: str, most: int = 60) -> str:
    """How a text begins, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
