"""LAPE subnetwork: the neurons that fire on these rows and hardly on others. Not here: how parts of weights are trained
(`materials/region.py`), or which matrices an MLP has (`materials/mlps.py`).

Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language Models, ACL 2024, for the choice; the training of such
neurons alone, for languages with few resources, 2025. arXiv:2510.13580. Tags as in the project's notes: [P] abstract, [R] read in the
published code of the first (RUCAIBox/Language-Specific-Neurons, identify.py), [N] notes on the second, [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Parted
from workbench.materials.evidence import Evidence, Learnt, outputs
from workbench.materials.mlps import Mlp, mlps, outputs_along
from workbench.materials.region import Mask, RegionAttachment, cost, evenly
from workbench.materials.regions import Columns, Rows
from workbench.methods.contracts import Cost, Informed


class LAPE(Looking, Parted, Informed, title="LAPE subnetwork (neurons of these rows)", paper="arXiv:2510.13580"):
    """Look which neurons fire on the rows that are trained on and hardly on those of other data sets, and train these neurons.

    $$\\mathrm{LAPE}_j = -\\sum_k \\tilde p_{jk} \\log \\tilde p_{jk}, \\qquad \\tilde p_{jk} = \\frac{p_{jk}}{\\sum_{k'} p_{jk'}}, \\qquad
    p_{jk} = \\text{how often neuron } j \\text{ fires on data set } k$$

    A few neurons carry a language: they fire on it and on no other, so the entropy of where they fire is low, and switching them off takes
    the language away and little else. Training these alone, less than 1 % of a model, is better for a language with few resources than full
    tuning, LoRA or neurons drawn at random, and other languages keep what they had [P]. Nothing in it is about languages: name data sets
    of other domains or styles, and the neurons are those of yours.

    A neuron fires where what its activation function reads is above 0, which for ReLU, SiLU and GELU is where it answers above 0 [D].
    Neurons are considered whose share of tokens on these rows lies above 95 % of all such shares [R] and is the largest they have [O]; of
    these the ones with the lowest entropy are taken, up to 1 % of all neurons [R]. The published code takes that share for all data sets
    together. What moves of a neuron is its rows of the gate and up matrices and its column of the down matrix; all else stands still [N].
    """

    others: str = knob("known", help="names of data sets to compare with, commas between them", names="data", label="other data sets")
    share: float = knob(0.01, gt=0, le=1, help="share of all neurons that move at most", log=True)
    bar: float = knob(0.95, ge=0, lt=1, step=0.01, help="a neuron fires here more often than in this share of all cases", more=True)

    def looks_at(self) -> list[str]:
        names = [name.strip() for name in self.others.split(",") if name.strip()]
        if not names:
            raise WorkbenchError(
                f"{self.title()} compares these rows with those of other data sets, and none is named. Write names under other data sets "
                "(adapter.others), such as one of another language."
            )
        return ["", *dict.fromkeys(names)]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The chosen neurons by the name of the matrix that their MLP ends with."""
        every = mlps(model)
        shares = list[Tensor]()
        for name in self.looks_at():
            shares.append((yield from _firing(model, every, evidence, name)))
        chosen = specific(torch.stack(shares, 1), self.bar, self._count(every))
        if not chosen.any():
            raise WorkbenchError(
                "No neuron fires often on these rows and less on the others, so nothing would move. Lower bar, or name other data sets."
            )
        parts = chosen.split([mlp.neurons for mlp in every])
        return {mlp.down: own.nonzero()[:, 0] for mlp, own in zip(every, parts, strict=True) if own.any()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RegionAttachment:
        mask = dict[str, Rows | Columns]()
        for mlp in mlps(model):
            if mlp.down in learnt:
                mask |= _parts(model, mlp, learnt[mlp.down])
        return RegionAttachment(model, mask)

    def cost(self, model: PreTrainedModel) -> Cost:
        """In all what may move; in which blocks is not known before it has looked, and shown as if all were alike."""
        every = mlps(model)
        sizes = {f"{name}.weight": model.get_parameter(f"{name}.weight").numel() for mlp in every for name in (mlp.gate, *mlp.up, mlp.down)}
        dearest = max(sum(sizes[f"{name}.weight"] for name in (mlp.gate, *mlp.up, mlp.down)) // mlp.neurons for mlp in every)
        return replace(cost(model, evenly(self._count(every) * dearest, sizes)), studied=8 * self._count(every))

    def _count(self, every: list[Mlp]) -> int:
        return max(1, int(self.share * sum(mlp.neurons for mlp in every)))


def specific(shares: Tensor, bar: float, count: int) -> Tensor:
    """(N,) which of N neurons are of the first of K data sets, from the (N, K) shares of tokens on which they fire; `count` at most."""
    own, most = shares[:, 0], shares.amax(1)
    edge = shares.flatten().kthvalue(max(1, round(bar * shares.numel()))).values
    entropy = torch.special.entr(shares / shares.sum(1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)).sum(1)
    ranked = entropy.masked_fill((own <= edge) | (own < most), torch.inf)
    chosen = torch.zeros_like(own, dtype=torch.bool)
    chosen[ranked.argsort(stable=True)[:count]] = True
    return chosen & ranked.isfinite()


def _firing(model: PreTrainedModel, every: list[Mlp], evidence: Evidence, name: str) -> Generator[Progress, None, Tensor]:
    """(N,) float64: on which share of a data set's tokens each neuron fires, block after block."""
    batches = evidence.batches(name)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    counts = {mlp.gate: torch.zeros(mlp.neurons, dtype=torch.float64, device=evidence.device) for mlp in every}

    def take(gate: str, read: Tensor) -> None:
        counts[gate] += (read[:, : len(counts[gate])] > 0).sum(0)

    yield from outputs(model, list(counts), batches, take, f"rows of {name or 'the training data'} read")
    return torch.cat(list(counts.values())) / tokens


def _parts(model: PreTrainedModel, mlp: Mlp, neurons: Tensor) -> Mask:
    """What belongs to these neurons; where gate and up are one matrix, the second half of its outputs is up."""
    mask = dict[str, Rows | Columns]()
    for name in (mlp.gate, *mlp.up):
        weight, axis = model.get_parameter(f"{name}.weight"), outputs_along(model, name)
        index = torch.cat([neurons + half * mlp.neurons for half in range(weight.shape[axis] // mlp.neurons)])
        mask[f"{name}.weight"] = (Rows, Columns)[axis](index)
    return {**mask, f"{mlp.down}.weight": (Columns, Rows)[outputs_along(model, mlp.down)](neurons)}
