"""EVA: LoRA that reads where its inputs vary most, with more directions where that says more. Not here: the layers (`low_rank.py`).

Parameter Efficient Fine-tuning via Explained Variance Adaptation, 2024. Own implementation. Tags as in the project's notes: [P] abstract,
[R] read in the authors' code (ml-jku/EVA, src/svd.py) and in peft 0.21.2 (lora/eva.py), [O] our own choice.
"""

from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.covariances import Inputs, observed
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.materials.region import cost
from workbench.methods.contracts import Cost, Informed


class EVA(Looking, Ranked, Informed, title="EVA (read where inputs vary)", paper="arXiv:2410.07170"):
    """Let each matrix's LoRA start by reading the directions in which its inputs vary most, and share the ranks out by how much they say.

    $$A_0 = V_{1 \\dots r_i}^\\top, \\quad B_0 = 0, \\qquad \\mathrm{Cov}(x) = V \\Lambda V^\\top, \\qquad \\sum_i r_i = r N$$

    x is what the matrix reads on some training rows. The rank of all N matrices together is that of a LoRA; of all their directions those
    are taken that explain the largest share of their own matrix's variance, λ/Σλ [R]. A matrix may get up to twice the rank [R],
    or none, and then it gets no adapter. A starts there and learns as in LoRA. The authors find that it learns fastest and ends best on
    average over many tasks [P].

    The scale is α/r for every matrix, whatever rank it got, as peft has it [R]. Authors and peft follow the directions batch by batch until
    they hold still [R]; here the whole covariance is summed up over the rows, a portion of the matrices at a time [O], and all tokens of
    a row count, not only those that are learnt [O]. The cost that is shown is the most that it can be, with the ranks where they
    cost most.
    """

    spread: float = knob(2.0, ge=1, le=16, help="how many times the rank one matrix may get; 1 gives all the same")

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """A₀ of each matrix that gets directions, by its name."""
        low_rank.within(model, self)
        weights, shares, found = low_rank.upright(model, self.where), dict[str, Tensor](), dict[str, Tensor]()

        def look(name: str, inputs: Inputs) -> None:
            variances, directions = torch.linalg.eigh(inputs.covariance())  # the smallest first
            most, all_of_it = self._most(weights[name]), variances.clamp_min(0).sum().clamp_min(torch.finfo(variances.dtype).tiny)
            shares[name] = variances[-most:].clamp_min(0).flip(0) / all_of_it
            found[name] = directions[:, -most:].flip(1).T.contiguous()

        yield from observed(model, {name: weight.shape[1] for name, weight in weights.items()}, evidence.batches(), look)
        return {name: found[name][:count] for name, count in counts(shares, self.rank * len(weights)).items() if count}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> LowRankAttachment:
        ranks = {name: len(directions) for name, directions in learnt.items()}
        wrapper = low_rank.wrapped(
            model,
            self,
            seed,
            target_modules=sorted(ranks),
            rank_pattern=ranks,
            alpha_pattern={name: self.alpha / self.rank * rank for name, rank in ranks.items()},
        )
        with torch.no_grad():
            for name, layer in low_rank.layers(model):
                layer.lora_A[FIRST].weight.copy_(learnt[name])
        return LowRankAttachment(wrapper)

    def cost(self, model: PreTrainedModel) -> Cost:
        low_rank.within(model, self)
        weights = low_rank.upright(model, self.where)
        moved, left, found = dict[str, int](), self.rank * len(weights), 0
        for name, weight in sorted(weights.items(), key=lambda item: -sum(item[1].shape)):
            count = min(left, self._most(weight))
            moved[f"{name}.weight"], left = count * sum(weight.shape), left - count
            found += count * weight.shape[1]
        return replace(cost(model, moved), studied=4 * found)

    def costs(self) -> str:
        return f"Reads {self.rows} rows before the first step, perhaps several times."

    def _most(self, weight: Tensor) -> int:
        """Directions that a matrix may get."""
        return min(round(self.spread * self.rank), *weight.shape)


def counts(shares: Mapping[str, Tensor], budget: int) -> dict[str, int]:
    """How many directions each gets, when those of the largest shares are taken over all, `budget` together; shares fall."""
    names = [name for name, own in shares.items() for _ in own]
    order = torch.cat(list(shares.values())).argsort(descending=True, stable=True)[:budget].tolist()
    got = Counter(names[place] for place in order)
    return {name: got[name] for name in shares}
