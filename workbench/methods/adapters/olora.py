"""OLoRA: a LoRA that starts from an orthonormal basis of what the matrix writes. Not here: starts that are not zero (`started.py`).

OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models, 2024. Tags as in the project's notes: [P] abstract, [R] read in peft
0.21.2 (lora/layer.py, olora_init), [D] derived, [O] our own choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.started import Started
from workbench.methods.contracts import Informed


class OLoRA(Started, Ranked, Informed, title="OLoRA (orthonormal start)", paper="arXiv:2406.01775"):
    """Start the LoRA from the first columns of the matrix's QR decomposition instead of from zero.

    $$W = Q R, \\qquad B_0 = Q_{:, 1 \\dots r}, \\quad A_0 = R_{1 \\dots r, :}$$

    The columns of B are orthonormal at the start; it learns faster than LoRA and ends better, says the paper [P]. Q's first r columns span
    the first r columns of W, and these are what the start takes over [D]: which columns come first is a matter of how the model numbers
    its inputs, not of what it learnt. Singular vectors would be chosen by that; QR is cheaper.

    The scale s does not enter the start [R]: with alpha at the rank, B₀A₀ is that part of W itself. W stays as it is; what moves is
    s(BA − B₀A₀), and saved is a plain LoRA of rank 2r [O].
    """

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        return (yield from low_rank.decomposed(model, self.where, self._basis))

    def _basis(self, weight: Tensor) -> Learnt:
        q, r = torch.linalg.qr(weight)
        return {"A": r[: self.rank], "B": q[:, : self.rank]}
