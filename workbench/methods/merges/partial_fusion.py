"""Partial fusion: two models into one that keeps apart what they disagree on. The work on the tensors is in `materials/neurons.py`, and
who stands opposite whom in `materials/pairing.py`.

Tags as in the project's notes: [R] read in the authors' code (Fabian-Mor/partial_fusion_nn, for plain MLPs without biases), [O] our own
form for transformers.
"""

from collections.abc import Generator, Sequence
from typing import Any, Literal

from torch import Tensor

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.neurons import fused
from workbench.materials.products import AddProduct, added_here
from workbench.materials.units import Fused, Heard
from workbench.methods.contracts import Fusion


class PartialFusion(Fusion, title="Partial fusion", paper=""):
    """Average what two models agree on and keep the rest side by side, in a model that is wider by as much.

    $$f(x) = \\sum_{j \\in \\mathrm{together}} d_j\\, \\sigma(x)_j + \\lambda_A \\sum_{j \\in A} d_j\\, \\sigma(x)_j
    + \\lambda_B \\sum_{j \\in B} d_j\\, \\sigma(x)_j, \\qquad \\lambda_B = \\frac{w_B}{w_A + w_B}$$

    d is what a neuron writes and σ what it says. The neurons that differ most between the two stay apart: none is an average of
    weights, all is an ensemble of every block on one residual stream [R][O] (which is not the average of the two models' answers). In
    between one pays in width for what averaging would blur. Heads can be kept apart too, in groups that share a key and a value [O]. The
    result is an ordinary checkpoint of the same family.

    Neurons are compared place by place, which is right for models of one base, or paired so that the sum of ‖x_A − x_B‖² over all they
    read and write is least: the authors' optimal transport, solved exactly [R], with the heads of a group in their best order [O]. Or x is
    what they say to some rows, token by token: a neuron's activation [R] times the length of its column, a head's mix of values [O]. The
    residual stream has no order to look for [O]: models from different starts stay strangers.
    """

    least = 2
    most = 2
    ordered = True

    apart: float = knob(0.25, ge=0, le=1, step=0.05, help="share of each block's neurons that is kept apart", label="neurons apart")
    heads: float = knob(0.0, ge=0, le=1, step=0.05, help="share of each attention's head groups that is kept apart", label="heads apart")
    match: Literal["place", "weights", "activations"] = knob(
        "place",
        help="which two are compared: the j-th with the j-th, or, whatever their order, those whose weights, or answers to some rows, are "
        "nearest",
    )

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if min(weights, default=0) < 0 or sum(weights) <= 0:
            found.append("Partial fusion shares the output between two models, so no weight may be below zero, nor both zero. Change them.")
        return found

    def listens(self) -> bool:
        return self.match == "activations"

    def model(
        self, config: dict[str, Any], tuned: Sequence[dict[str, Tensor]], weights: Sequence[float], heard: Sequence[Heard] = (),
        add: AddProduct = added_here,
    ) -> Generator[Progress, None, Fused]:  # fmt: skip
        share = weights[1] / sum(weights)
        shares = {"share_b": share, "mlp": self.apart, "attention": self.heads}
        return (yield from fused(*tuned, config, **shares, match=self.match, heard=heard, add=add))
