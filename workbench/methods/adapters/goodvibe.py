"""GoodVibe: the neurons that an answer hangs on, moved in groups. Not here: which matrices an MLP has (`materials/mlps.py`), the grouping
(`materials/clusters.py`), or the layers, which are LoRA's (`materials/low_rank.py`).

GoodVibe: Security-by-Vibe for LLM-Based Code Generation, 2026. Tags as in the project's notes: [P] abstract, [N] notes on the paper by
others, [REC] reconstruction, [D] derived, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.clusters import spherical
from workbench.materials.evidence import Batch, Evidence, Learnt, still, surprise
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.materials.mlps import Mlp, mlps
from workbench.materials.region import cost
from workbench.methods.contracts import Cost, Informed

PLAIN = Ranked(rank=1, alpha=1.0, dropout=0.0)  # what is learnt is added as it is


class GoodVibe(Looking, Informed, title="GoodVibe (neurons that an answer hangs on)", paper="arXiv:2602.10778"):
    """Look which neurons of each MLP the answers to some rows hang on, group those that are active together, and move each group as one.

    $$s_j = \\sum_{\\text{tokens}} \\left| a_j \\, \\frac{\\partial L}{\\partial a_j} \\right|, \\qquad
    \\Delta W_{j} = \\delta_{c(j)} \\;\\text{ for the neurons } j \\text{ of largest } s, \\qquad \\Delta W_j = 0 \\;\\text{ else}$$

    Made for code that is secure without being asked: what a model knows of security sits in few neurons [P]. They show when it is asked
    whether a piece of code is secure, with one token for an answer [N], and the gradient says which neurons bring it about [P]. Training
    these alone made code up to 2.5 times as secure as the base's, as full tuning does, with less than a 4,700th of its numbers [P].
    Nothing in it is about security: name rows whose answers are labels, and the neurons are those that the label hangs on.

    a is what a neuron gives to the MLP's last matrix. As many are taken in each block as in any other [N]. Groups are formed by k-means of
    what the neurons are on average in each row [REC]. W_j are a neuron's rows of the gate and up matrices [REC]; all rows of a group get
    the same change δ. So ΔW is a LoRA whose B says which neuron is in which group and stands still, and whose A is the δ, from zero
    [D]: saved is a plain LoRA. 1 % and 8 groups a block are our choice [O].
    """

    rates = (1e-4, 2e-2)  # as where entries of the weights move: δ is a part of them

    data: str = knob("", help="name of a data set whose answers are labels; the rows that are trained on if empty", names="data")
    share: float = knob(0.01, gt=0, le=1, help="share of the neurons of each block that move", log=True)
    groups: int = knob(8, ge=1, le=128, help="groups that they move in, in each block; more than neurons: each alone", log=True)

    def looks_at(self) -> list[str]:
        return [self.data]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """B of each gate and up matrix, by its name."""
        found, learnt, batches = dict[str, Seen](), dict[str, Tensor](), evidence.batches(self.data)
        for number, batch in enumerate(batches):
            yield Progress(number, len(batches), "rows read")
            for name, own in seen(model, [mlp.down for mlp in mlps(model)], batch).items():
                found[name] = own if name not in found else found[name] + own
        for mlp in mlps(model):
            neurons = found[mlp.down].scores.topk(self._neurons(mlp)).indices.sort().values
            active = nn.functional.normalize(found[mlp.down].means[:, neurons].T.float().cpu(), dim=1)
            _, groups, _ = yield from spherical(active, self._groups(mlp), seed=0)
            for name in (mlp.gate, *mlp.up):
                learnt[name] = members(neurons.cpu(), groups, self._groups(mlp), mlp.neurons, self._rows(model, name))
        return learnt

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> LowRankAttachment:
        ranks = {name: own.shape[1] for name, own in learnt.items()}
        wrapper = low_rank.wrapped(model, PLAIN, seed, target_modules=sorted(ranks), rank_pattern=ranks, alpha_pattern=dict(ranks))
        with torch.no_grad():
            for name, layer in low_rank.layers(model):
                layer.lora_A[FIRST].weight.zero_()
                layer.lora_B[FIRST].weight.copy_(learnt[name])
        low_rank.freeze(model, "lora_B")
        return LowRankAttachment(wrapper)

    def cost(self, model: PreTrainedModel) -> Cost:
        """B is held and saved too."""
        moved, still = dict[str, int](), 0
        for mlp in mlps(model):
            for name in (mlp.gate, *mlp.up):
                rows = self._rows(model, name)
                rank = self._groups(mlp) * (rows // mlp.neurons)
                moved[f"{name}.weight"] = rank * (model.get_parameter(f"{name}.weight").numel() // rows)
                still += rank * rows
        return replace(cost(model, moved), beside=still, saved=still + sum(moved.values()), studied=4 * still)

    def costs(self) -> str:
        return f"Takes a forward and a backward pass of {self.rows} rows before the first step."

    def _neurons(self, mlp: Mlp) -> int:
        return max(1, int(self.share * mlp.neurons))

    def _groups(self, mlp: Mlp) -> int:
        return min(self.groups, self._neurons(mlp))

    def _rows(self, model: PreTrainedModel, name: str) -> int:
        """Outputs of a matrix: as many as neurons, or twice as many where gate and up are one."""
        return len(low_rank.upright_of(model.get_submodule(name), model.get_parameter(f"{name}.weight")))


@dataclass(frozen=True)
class Seen:
    """Of one MLP's I neurons over some rows: (I,) their scores, (rows, I) what they were on average in each row."""

    scores: Tensor
    means: Tensor

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.scores + other.scores, torch.cat([self.means, other.means]))


def seen(model: PreTrainedModel, names: Sequence[str], batch: Batch) -> dict[str, Seen]:
    """By the name of the matrix that an MLP ends with, from one pass forth and back."""
    read, mask = dict[str, Tensor](), batch["attention_mask"][..., None]

    def keep(name: str, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        read[name] = given[0] if given[0].requires_grad else given[0].requires_grad_()
        return (read[name], *given[1:])

    with still(model), torch.enable_grad(), ExitStack() as hooks:
        for name in names:
            hook = model.get_submodule(name).register_forward_pre_hook(lambda module, given, name=name: keep(name, given))
            hooks.callback(hook.remove)
        slopes = torch.autograd.grad(surprise(model, batch) * int((batch["labels"][:, 1:] >= 0).sum()), [read[name] for name in names])
    found = dict[str, Seen]()
    for name, slope in zip(names, slopes, strict=True):
        own = read[name].detach().float()
        found[name] = Seen((own * slope.float()).abs().sum((0, 1)), (own * mask).sum(1) / mask.sum(1))
    return found


def members(neurons: Tensor, groups: Tensor, count: int, width: int, rows: int) -> Tensor:
    """(rows, count · rows / width) of zeros, and a one for each neuron in the column of its group; where a matrix has the rows of gate and
    up one below the other, each half has groups of its own."""
    found = torch.zeros(rows, count * (rows // width))
    for half in range(rows // width):
        found[neurons + half * width, groups + half * count] = 1.0
    return found
