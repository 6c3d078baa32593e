"""How alike the layers see the same prompts: those of one model among themselves, and the tuned model's with the base's.

After Spectral Insights into Data-Oblivious Critical Layers in Large Language Models, 2025 (the authors' repository names
arXiv:2506.00382). What it is not: the choice of layers to train, which is an adapter (`methods/adapters/critical_layers.py`). Tags as in
the project's notes: [P] abstract, [R] read in the published code (run_cka.py), [K] known, [D] derived.
"""

from collections.abc import Generator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.cka import beside, gaussian, without_strongest
from workbench.materials.evidence import outputs
from workbench.materials.models import BLOCK
from workbench.materials.subject import Subject
from workbench.materials.walking import paired
from workbench.methods.contracts import Inspection

FEWEST = 4  # rows, for which the estimate is defined

Kernel = Literal["inner products", "distances"]


class LayerSimilarity(LooksAtRows, Inspection, title="Layer similarity (CKA)"):
    """See from which layer on the tuned model sees things differently, and between which layers the states change most.

    $$\\mathrm{CKA}(X, Y) = \\frac{\\langle \\tilde K_X, \\tilde K_Y \\rangle}{\\lVert \\tilde K_X \\rVert \\, \\lVert \\tilde K_Y \\rVert},
    \\qquad \\delta^\\ell = \\frac{1}{2} \\big( \\mathrm{CKA}(H_{\\ell-1}, H_\\ell) + \\mathrm{CKA}(H_\\ell, H_{\\ell+1}) \\big)$$

    H holds the last token's state of each prompt as a layer leaves it. CKA asks whether two layers find the same prompts alike: it is 1
    where one is a rotation of the other, scaled and shifted, and about 0 where they have nothing in common [K]. Tuning that only turns a
    layer leaves it at 1; what changes CKA is that other prompts lie near one another.

    Where δ is low the states change most: there, say the authors, tuning lowers the loss most, and where that is follows from the base
    before it is tuned [P]. The published mean over three layers includes the layer itself, whose CKA of 1 makes no difference to the order
    [D], and some 300 prompts are read [R].

    K̃ is the table of inner products, centred without its diagonal, which makes the estimate unbiased [K] (Song et al. 2012); it may be a
    little below 0. The published code takes the biased one [R], which nears 1 for whatever two layers when there are fewer rows than a
    state has numbers [D]. With few rows this one is uncertain, but on no side.

    By distances, K is exp(−d²/2σ²) of the distances d of the prompts, with their median for σ [R]: it asks who is near whom, and a few
    states that are much longer than the others weigh less [D]. With the strongest principal components of each layer left out, as the
    authors do to see what the changes are made of [R], what is left is what they hide: where a layer changes no more without them, it
    was they that changed [D]. Each model and layer has its own left out [O].
    """

    pictures = (
        Picture("against the base", "lines", "Does the tuned layer see what the base's does?", x="layer", y="CKA with the base"),
        Picture("layers", "heat", "How alike the layers of each model are", x="layer", y="other layer", value="CKA"),
        Picture("dynamics", "lines", "Where states change most: low", x="layer", y="delta"),
    )
    still = {"CKA with the base": 1.0, "lowest CKA with the base": 1.0}

    most_rows: int = knob(300, ge=FEWEST, le=100_000, help="at most so many rows, drawn at random", label="rows read", log=True)
    kernel: Kernel = knob("inner products", help="what makes two prompts alike: the linear kernel, or the Gaussian one (RBF)", more=True)
    without: int = knob(
        0, ge=0, le=100, help="strongest principal components of each layer that are left out", label="components left out", more=True
    )

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} prompts once with each model, the base too; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        fewest = FEWEST + self.without
        if len(subject.rows[self.rows]) < fewest:
            raise WorkbenchError(f"{self.title()} compares prompts with one another and needs {fewest} of them at least. Read more rows.")
        base = yield from self._states(subject, subject.base, subject.refs[0].label)
        layers, against, dynamics = _within(subject.refs[0].label, base), list[list[Any]](), _dynamics(subject.refs[0].label, base)
        numbers, says = dict[str, dict[str, float]](), [_critical(subject.refs[0].label, base)]
        for number, label in enumerate(subject.labels):
            paired(subject.tuned(number), subject.base, label)
            own = yield from self._states(subject, subject.tuned(number), label)
            found = (own * base).sum(1).tolist()
            against += [[label, layer, value] for layer, value in enumerate(found)]
            layers += _within(label, own)
            dynamics += _dynamics(label, own)
            numbers[label] = {"CKA with the base": sum(found) / len(found), "lowest CKA with the base": min(found)}
            says.insert(number, _said(label, found))
        tables = [
            Table("against the base", ["model", "layer", "CKA with the base"], against),
            Table("layers", ["model", "layer", "other layer", "CKA"], layers),
            Table("dynamics", ["model", "layer", "delta"], dynamics),
        ]
        return Finding(says, tables, numbers)

    def _states(self, subject: Subject, model: PreTrainedModel, label: str) -> Generator[Progress, None, Tensor]:
        """(L, N²) the centred kernels of the model's layers, each of length 1."""
        names = [name for name, _ in model.named_modules() if BLOCK.fullmatch(name)]
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        prompts, what = subject.evidence.prompts(self.rows), f"prompts read by {label}"
        yield from outputs(model, names, prompts, lambda name, own: found[name].append(own.cpu()), what)
        return directions([torch.cat(states) for states in found.values()], self.kernel, self.without)


def directions(states: Sequence[Tensor], kernel: Kernel = "inner products", without: int = 0) -> Tensor:
    """(L, N²) float64 of L states, (N, D) each: their kernels, centred and without bias, each of length 1; the CKA of two is their product.

    All 0 for a state that is the same for all rows.
    """
    found = []
    for own in states:
        left = without_strongest(own, without)  # centred, which makes no difference but to the rounding
        found.append(_centred(gaussian(left) if kernel == "distances" else left @ left.T).flatten())
    return torch.stack([torch.nn.functional.normalize(own, dim=0) for own in found])


def _centred(kernel: Tensor) -> Tensor:
    """(N, N) numbers of which each row and column adds up to 0 without the diagonal, which is 0 itself."""
    count = len(kernel)
    kernel = kernel.clone().fill_diagonal_(0)
    sums = kernel.sum(0)
    kernel = kernel - (sums[:, None] + sums) / (count - 2) + sums.sum() / ((count - 1) * (count - 2))
    return kernel.fill_diagonal_(0)


def _within(label: str, own: Tensor) -> list[list[Any]]:
    return [[label, one, other, value] for one, row in enumerate((own @ own.T).tolist()) for other, value in enumerate(row)]


def _dynamics(label: str, own: Tensor) -> list[list[Any]]:
    return [[label, layer, value] for layer, value in enumerate(beside(own @ own.T).tolist())]


def _critical(label: str, own: Tensor) -> str:
    near = beside(own @ own.T)[1:-1]
    return f"The states of {label} change most around layer {int(near.argmin()) + 1}." if len(near) else f"{label} has too few layers."


def _said(label: str, found: Sequence[float]) -> str:
    lowest = min(range(len(found)), key=lambda layer: found[layer])
    return (
        f"The layers of {label} and of the base have a CKA of {sum(found) / len(found):.3f} on these prompts on average, the lowest in "
        f"layer {lowest} ({found[lowest]:.3f})."
    )
