"""NMKE: the neurons that bring given answers about. Not here: how columns are trained (`materials/region.py`), or what a neuron would do if
it spoke louder (`materials/amplified.py`).

Edit Less, Achieve More: Dynamic Sparse Neuron Masking for Lifelong Knowledge Editing in LLMs, NeurIPS 2025. Tags as in the project's notes:
[P] abstract, [R] read in the published code (NMKE_main.py), [REC] reconstruction where our notes of that leave something open, [O] our own
choice. Not here either: the edit itself, which the paper finds in closed form.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Parted
from workbench.materials import low_rank
from workbench.materials.amplified import scores
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.mlps import outputs_along
from workbench.materials.modules import ATTENTION, MLP, kind_of, named_so, writes
from workbench.materials.region import RegionAttachment, cost
from workbench.materials.regions import Columns, Rows
from workbench.methods.contracts import Cost, Informed

WIDER = 0.1  # by how much a share may grow with the entropy
SHARP = 30.0  # of the softmax whose entropy that is


class NMKE(Looking, Parted, Informed, title="NMKE (neurons that bring answers about)", paper="arXiv:2510.22139"):
    """Look which neurons would make the answers to the rows likelier if they spoke louder, and train what these write.

    $$s_j = \\log p(\\text{answer} \\mid x + \\beta\\, a_j v_j), \\qquad z_j = \\frac{s_j - \\bar s}{\\sigma_s}$$

    For editing facts one after the other, thousands of them: what is changed is what few neurons write, so that edits stand less in each
    other's way, and the model keeps more of what it could [P]. a_j is what neuron j says at the end of a question, v_j its column of the
    MLP's last matrix, x the stream beside it, p by the logit lens, and β = 30 [R]. z compares the neurons of a matrix at one question.
    General neurons are those that are above average at the most questions, specific ones those that stand out most at some question. Of
    each kind a share ρ is taken, 0.3 and up to 0.1 more the more alike the neurons are, by the entropy H of a softmax: ρ + 0.1·H³ and
    ρ + 0.1·H² [R]. Both together move [R].

    The paper finds the new columns in closed form [R]; here they are trained, on the same rows [O]. Of an answer its first token counts
    [O]. What the softmax is taken of, the share of questions and the largest z, both from 0 to 1, is a reconstruction [REC]. The paper
    edits some blocks, and matrices can be named; all are our default [O]. Where no MLP has a matrix of its own at its end, as in mixtures
    of experts, the inputs of the attentions' last matrices count as neurons [O].
    """

    data: str = knob("", help="name of a data set whose answers they bring about; the rows that are trained on if empty", names="data")
    general: float = knob(0.3, ge=0, le=1, step=0.05, help="ρ of the neurons that help at most questions", label="general neurons")
    specific: float = knob(0.3, ge=0, le=1, step=0.05, help="ρ of the neurons that stand out at some question", label="specific neurons")
    neurons: Literal["mlp", "attention"] = knob("mlp", help="whose last matrices: the MLPs', or the attentions'", more=True)
    modules: str = knob("", help="some of these matrices by name, such as layers.5.*", label="matrices by name", names="module", more=True)
    factor: float = knob(30.0, gt=0, le=1000, help="β: how much louder a neuron speaks", log=True, more=True)

    def looks_at(self) -> list[str]:
        return [self.data]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """Which neurons of a matrix are chosen, by its name."""
        found = {name: Seen.of(size, evidence.device) for name, size in self._writing(model).items()}
        asked = [(row.ids, row.trained.index(True)) for row in evidence.rows[self.data] if any(row.trained[1:]) and not row.trained[0]]
        for number, (ids, at) in enumerate(asked):
            yield Progress(number, len(asked), "questions read")
            told = torch.tensor(ids[:at], device=evidence.device)
            for name, own in scores(model, list(found), told, ids[at], self.factor):
                found[name].see(own)
        if not asked or not (self.general or self.specific):
            raise WorkbenchError(
                "NMKE goes by what is learnt after a question, and there is no row with both, or no share of the neurons to choose. Name "
                "rows with questions and answers, and set one of the two shares above 0."
            )
        return {name: own.chosen(self.general, self.specific) for name, own in found.items()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RegionAttachment:
        kinds = {name: (Columns, Rows)[outputs_along(model, name)] for name in learnt}
        chosen = {name: own.nonzero()[:, 0] for name, own in learnt.items() if own.any()}
        return RegionAttachment(model, {f"{name}.weight": kinds[name](index) for name, index in chosen.items()})

    def cost(self, model: PreTrainedModel) -> Cost:
        """The most that may move."""
        moved, writing = dict[str, int](), self._writing(model)
        for name, size in writing.items():
            most = sum(int(min(1.0, share + WIDER) * size) + 1 for share in (self.general, self.specific) if share)
            moved[f"{name}.weight"] = min(size, most) * (model.get_parameter(f"{name}.weight").numel() // size)
        return replace(cost(model, moved), studied=sum(writing.values()))

    def costs(self) -> str:
        return (
            f"Before the first step the head is asked about every neuron at {self.rows} questions, which takes long for a large vocabulary."
        )

    def _writing(self, model: PreTrainedModel) -> dict[str, int]:
        """The matrices at whose inputs it looks, with how many these are."""
        every = {name: matrix.shape[1] for name, matrix in low_rank.upright(model, "all linear").items() if writes(f"{name}.weight")}
        kinds = {kind_of(f"{name}.weight") for name in every}
        kind = MLP if self.neurons == "mlp" and MLP in kinds else ATTENTION
        named = named_so(model, [pattern.strip() for pattern in self.modules.split(",") if pattern.strip()])
        found = {
            name: size for name, size in every.items() if kind_of(f"{name}.weight") == kind and (not named or f"{name}.weight" in named)
        }
        if not found:
            raise WorkbenchError(
                f"This {type(model).__name__} has no {kind} that ends with a matrix of such a name. Leave the names away, or choose "
                "another adapter, such as lift."
            )
        return found


@dataclass
class Seen:
    """Of n neurons: at how many questions each was above average, and how far it stood out at most."""

    often: Tensor
    most: Tensor
    questions: int = 0

    @classmethod
    def of(cls, size: int, device: torch.device) -> "Seen":
        return cls(torch.zeros(size, device=device), torch.full((size,), -torch.inf, device=device))

    def see(self, own: Tensor) -> None:
        z = (own - own.mean()) / own.std().clamp(min=torch.finfo(own.dtype).tiny)
        self.often, self.most = self.often + (z > 0), torch.maximum(self.most, z)
        self.questions += 1

    def chosen(self, general: float, specific: float) -> Tensor:
        """(n,) booleans."""
        often, most = self.often / self.questions, (self.most - self.most.min()) / (self.most.max() - self.most.min()).clamp(min=1e-12)
        shares = general + WIDER * evenness(often) ** 3, specific + WIDER * evenness(most) ** 2
        wanted = [above(own, share) for own, share, asked in zip((often, most), shares, (general, specific), strict=True) if asked]
        return torch.stack(wanted).any(0)


def evenness(values: Tensor) -> float:
    """The entropy of a sharp softmax of values from 0 to 1, as a share of the most it can be."""
    weights = (SHARP * values.double()).softmax(0)
    return float(torch.special.entr(weights).sum() / torch.log(torch.tensor(float(max(2, len(values))))))


def above(values: Tensor, share: float) -> Tensor:
    """Where a value is larger than all but that share of them."""
    return values > values.double().quantile(max(0.0, 1 - share)).to(values)
