"""NEFTune: uniform noise on the embeddings of what is read while a run learns. Source [P] arXiv:2310.05914."""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Noise, Showing


class NEFTune(Noise, title="NEFTune", paper="arXiv:2310.05914"):
    """Add uniform noise to the embeddings, the less of it the longer the row.

    $$e_t \\leftarrow e_t + \\frac{\\alpha}{\\sqrt{L D}}\\, u_t, \\qquad u_t \\sim \\mathcal{U}(-1, 1)^D$$

    L is the row's length without padding and D the embedding's width, so the noise of a whole row is about as long whatever
    its length. The paper tries α of 5, 10 and 15 and reports better open answers, not better knowledge. A noise that
    changes ids has to stand before it.
    """

    neutral = {"alpha": 0.0}

    alpha: float = knob(5.0, ge=0, le=100, help="α: how strong the noise is", step=0.5)

    def disturb(self, batch: dict[str, Tensor], showing: Showing) -> dict[str, Tensor]:
        embedded = showing.embed(batch["input_ids"])
        drawn = torch.rand(embedded.shape, generator=showing.generator).to(embedded) * 2 - 1
        length = lengths(batch["rows"]).to(embedded)[..., None].clamp(min=1)
        return {**batch, "inputs_embeds": embedded + drawn * self.alpha / (length * embedded.shape[-1]).sqrt()}


def lengths(rows: Tensor) -> Tensor:
    """(B, T): of each token the number of tokens of its row; rows are numbers, −1 where nothing is."""
    found = torch.zeros_like(rows)
    for line, numbers in enumerate(rows):
        for number in numbers.unique():
            here = numbers == number
            found[line, here] = here.sum() if number >= 0 else 0
    return found
