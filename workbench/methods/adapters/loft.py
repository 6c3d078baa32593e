"""LOFT: a rotation inside a few directions of each matrix's input. Not here: how it is trained and saved (`materials/rotation.py`).

LOFT, 2026. arXiv:2605.11872, of which no text or code could be had. Tags as in the project's notes: [P] abstract, [N] a third-party
summary, [D] derived, [V] measured by us, [O] our own choice.
"""

from collections import defaultdict
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.core.where import Where
from workbench.materials import low_rank
from workbench.materials.directions import begin, leading, straighten, strongest
from workbench.materials.evidence import Evidence, Learnt, gradients, inputs
from workbench.materials.region import cost
from workbench.materials.rotation import RotationAttachment, weight_of
from workbench.methods.contracts import Cost, Informed

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
PASSES = 4  # over the rows, an even number: a gradient is applied and its transpose, in turn
TOLD = ("gradient skew", "gradient", "activation")  # by rows


class LOFT(Turned, Where, Looking, Informed, title="LOFT (rotation in a subspace)", paper="arXiv:2605.11872"):
    """Turn a few directions of what each matrix reads, and leave the matrix as it is.

    $$W' = W\\,(I + P\\,(R - I)\\,P^\\top), \\qquad R = (I + Q)^{-1}(I - Q), \\quad Q^\\top = -Q$$

    P, n × r with orthonormal columns, says which directions may turn, and stays [P]. R turns them without stretching any, so every
    singular value of W stays what it was [D]. Only the r(r − 1)/2 numbers of Q move, from 0: at rank 16 they are 120 a matrix, whatever
    its size, and they need a far higher learning rate than LoRA's, 1e-2 on the demo model [V]. It is saved as a LoRA of rank r.

    Which directions is what the paper is about [P]. With R = exp(εK) the loss changes by ε⟨PᵀWᵀGP, K⟩, and K is skew, so that only
    S = WᵀG − GᵀW counts, and the best P is made of its strongest directions, which come in pairs [D][N]: `gradient skew`, for which the
    gradient G is taken on some rows. `gradient` takes the strongest right directions of G, `activation` those of what the matrix reads;
    `principal` and `minor` are the strongest and weakest right singular vectors of W, `coordinates` the inputs with the largest columns of
    W [O], and `random` is for comparison. The paper's rank and the scales it may have beside R are not known to us; 16 and none are our
    choice [O].

    In one run of 40 steps on the demo model gradient skew learnt most, then principal, activation and gradient, then coordinates and
    random, which forgot much less; minor hardly learnt [V].
    """

    rank: int = knob(16, ge=2, le=256, help="how many directions of its input each matrix may turn", log=True)
    support: Literal["gradient skew", "gradient", "activation", "principal", "minor", "random", "coordinates"] = knob(
        "gradient skew", help="which directions these are; the first three are found in rows"
    )

    def looks_at(self) -> list[str]:
        return [""] if self.support in TOLD else []

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """P of each matrix by its name, where rows tell it; each step of the iteration is a pass over them, so no gradient is kept."""
        if self.support not in TOLD:
            return {}
        generator, found = torch.Generator().manual_seed(0), dict[str, Tensor]()
        for name in self._matrices(model):
            weight = weight_of(model.get_submodule(name))
            found[name] = begin(weight.shape[1], self.rank, generator, weight.device)
        for turn in range(PASSES):
            held = {name: straighten(own) for name, own in found.items()}
            found = yield from self._applied(model, evidence, held, turn)
            if not all(own.isfinite().all() for own in found.values()):
                raise WorkbenchError(
                    "The rows have gradients that are no finite numbers, so they tell LOFT no directions. Choose a wider precision, or the "
                    "principal support, which needs no rows."
                )
        return {name: strongest(own, self.rank) for name, own in found.items()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RotationAttachment:
        names, generator = self._matrices(model), torch.Generator().manual_seed(seed)
        if self.support in TOLD:
            return RotationAttachment(model, {name: learnt[name] for name in names})
        return RotationAttachment(model, {name: self._directions(weight_of(model.get_submodule(name)), generator) for name in names})

    def cost(self, model: PreTrainedModel) -> Cost:
        moving = cost(model, {f"{name}.weight": self.rank * (self.rank - 1) // 2 for name in self._matrices(model)})
        sides = [weight_of(model.get_submodule(name)).shape for name in self._matrices(model)]
        held = self.rank * sum(n for _, n in sides)
        return replace(moving, beside=held, saved=self.rank * sum(m + n for m, n in sides), studied=4 * held if self.support in TOLD else 0)

    def costs(self) -> str:
        if self.support in TOLD:
            return f"Reads {self.rows} rows {PASSES} times before the first step."
        return "An exact decomposition of each matrix is made at the start." if self.support == "minor" else ""

    def _matrices(self, model: PreTrainedModel) -> list[str]:
        found = low_rank.matrices(model, self.where)
        for name, shape in found:
            if self.rank > min(shape):
                raise WorkbenchError(
                    f"LOFT cannot turn {self.rank} directions before {name}, a matrix of {shape[0]} × {shape[1]}. Set rank to {min(shape)} "
                    "or less, or choose other targets."
                )
            if model.get_submodule(name).get_parameter("weight").dtype not in FLOATS:
                raise WorkbenchError(
                    f"LOFT goes by the numbers of the weights, and {name} is quantised. Choose the model as it was before it was quantised."
                )
        return [name for name, _ in found]

    def _applied(
        self, model: PreTrainedModel, evidence: Evidence, held: Mapping[str, Tensor], turn: int
    ) -> Generator[Progress, None, dict[str, Tensor]]:
        """What each matrix's operator makes of the directions that are held, added up over the rows."""
        found = defaultdict[str, Tensor](lambda: torch.zeros(()))

        def read(name: str, given: Tensor) -> None:
            found[name] = found[name] + given.T.float() @ (given.float() @ held[name])

        def pulled(parameter: str, stored: Tensor) -> None:
            name = parameter.removesuffix(".weight")
            matrix, basis = model.get_submodule(name), held[name]
            gradient = low_rank.upright_of(matrix, stored).float()
            if self.support == "gradient":
                found[name] = found[name] + (gradient.T if turn % 2 else gradient) @ basis
            else:
                weight = weight_of(matrix).float()
                found[name] = found[name] + weight.T @ (gradient @ basis) - gradient.T @ (weight @ basis)

        what = f"rows read, pass {turn + 1} of {PASSES}"
        if self.support == "activation":
            yield from inputs(model, held, evidence.batches(), read, what)
        else:
            yield from gradients(model, [f"{name}.weight" for name in held], evidence.batches(), pulled, what)
        return found

    @torch.no_grad()
    def _directions(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """P, (n, r), where no rows are needed."""
        weight = weight.float()
        size = weight.shape[1]
        if self.support == "principal":
            return leading(lambda x: weight.T @ (weight @ x), size, self.rank, generator, weight.device)
        if self.support == "minor":
            return torch.linalg.svd(weight, full_matrices=False).Vh[-self.rank :].T
        if self.support == "coordinates":
            largest = weight.norm(dim=0).topk(self.rank).indices.sort().values
            return torch.eye(size, device=weight.device)[:, largest]
        return straighten(torch.randn(size, self.rank, generator=generator)).to(weight.device)
