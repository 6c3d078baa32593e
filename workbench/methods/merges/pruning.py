"""Pruning by clustering: one model made narrower. The work on the tensors is in `materials/neurons.py`.

Tags as in the project's notes: [R] read in the authors' code (Fabian-Mor/partial_fusion_nn), [O] our own form for transformers.
"""

from collections.abc import Generator, Sequence
from typing import Any

from torch import Tensor

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.neurons import pruned
from workbench.materials.products import AddProduct, added_here
from workbench.materials.units import Fused, Heard
from workbench.methods.contracts import Fusion


class Pruning(Fusion, title="Pruning (clustered neurons)", paper=""):
    """Make a model narrower by letting neurons that are alike become one.

    $$\\mathrm{cost}(i, j) = \\frac{w_i w_j}{w_i + w_j} \\lVert c_i - c_j \\rVert^2$$

    Ward's clustering of what each neuron reads and writes, c, always joining the two that cost least, w neurons heavy [R]. A cluster
    reads with the mean of its members' rows and writes with the sum of their columns, so equal neurons become one without any loss
    under every activation [O]. Attention stays as it is. The result is an ordinary checkpoint of the same family.
    """

    most = 1

    keep: float = knob(0.75, gt=0, le=1, step=0.05, help="share of each block's neurons that stays")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if any(weight != 1 for weight in weights):
            found.append("Pruning takes the model as it is. Set its weight to 1.")
        return found

    def model(
        self, config: dict[str, Any], tuned: Sequence[dict[str, Tensor]], weights: Sequence[float], heard: Sequence[Heard] = (),
        add: AddProduct = added_here,
    ) -> Generator[Progress, None, Fused]:  # fmt: skip
        return *(yield from pruned(tuned[0], config, keep=self.keep, add=add)), []
