"""LoftQ: a LoRA that starts by mending what rounding the base to 4 bits broke. Not here: the rounding (`materials/rounded.py`).

LoftQ: LoRA-Fine-Tuning-Aware Quantization for Large Language Models, 2023. Own implementation: peft's wants a GPU. Tags as in the project's
notes: [P] abstract, [R] read in peft 0.21.2 (utils/loftq_utils.py), [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from functools import partial

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.rank import Ranked
from workbench.materials import low_rank, rounded
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.low_rank import FIRST
from workbench.materials.models import ModelRef, load
from workbench.materials.started import Start, Started, StartedAttachment
from workbench.methods.contracts import Informed


class LoftQ(Started, Ranked, Informed, title="LoftQ (a LoRA that mends a base in 4 bits)", paper="arXiv:2310.08659"):
    """Start the LoRA as the best low-rank answer to what was lost when the base was rounded to 4 bits, and learn from there.

    $$W - Q = U S V^\\top, \\qquad B_0 = U_{:r}\\, S_{:r}^{1/2}, \\quad A_0 = S_{:r}^{1/2}\\, V_{:r}^\\top$$

    Q is W in 4 bits, and Q and B₀A₀ together say what the model as it was says more nearly than Q alone, from which a plain LoRA starts; it
    helps most where the bits are few [P]. The paper rounds and decomposes in turns, so that Q is no longer W rounded; here Q stays what
    everybody's 4 bits of this model are, which is the first of its turns and what peft does to a model that is rounded already [R].

    The mended base counts as the base: forgetting is measured from it, and a KL anchor pulls back to it [O]. What is saved is a LoRA of
    rank 2r of what was learnt alone, s(BA − B₀A₀), for the model as it was, whose own numbers need no mending [D]. Where the base is
    not held in 4 bits this is LoRA.
    """

    over_rounded = True

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        held, found, path = dict(rounded.matrices(model)), dict[str, Tensor](), model.name_or_path
        yield Progress(0, 1, "reading the model as it was")
        whole = load(ModelRef(path, path, path), torch.device("cpu"), torch.float32) if held else model
        weights = low_rank.upright(whole, self.where)
        for number, (name, weight) in enumerate(weights.items()):
            yield Progress(number, len(weights), "matrices mended")
            full = rounded.full(held[name]) if name in held else weight
            found |= {f"{name}.{side}": factor for side, factor in self._start(weight.to(full.device) - full).items()}
        return found

    def _start(self, lost: Tensor) -> Learnt:
        """A₀ and B₀ of a matrix, from what of it was lost (m, n); where nothing was, B₀ is 0 and A₀ as LoRA's."""
        if not lost.any():
            random, width = torch.Generator().manual_seed(lost.numel()), lost.shape[1] ** -0.5
            return {
                "A": torch.empty(self.rank, lost.shape[1]).uniform_(-width, width, generator=random),
                "B": lost.new_zeros(len(lost), self.rank),
            }
        u, s, v = torch.linalg.svd(lost, full_matrices=False)
        root = (s[: self.rank] * self.rank / self.alpha).sqrt()
        return {"A": root[:, None] * v[: self.rank], "B": u[:, : self.rank] * root}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> "LoftQAttachment":
        return LoftQAttachment(low_rank.wrapped(model, self, seed), learnt)

    def costs(self) -> str:
        reads = "Reads the model as it was once more before the first step, into main memory."
        return f"{reads} Without quantization it is LoRA. {low_rank.DECOMPOSES}"


class LoftQAttachment(StartedAttachment):
    """What A and B begin with mends the base for good, where it was rounded."""

    def __init__(self, wrapper: PeftModel, learnt: Learnt):
        super().__init__(wrapper, learnt)
        for name, layer in low_rank.layers(self.model):
            if self.starts[name].b.any():
                layer.base_layer.register_forward_hook(partial(_mended, self.starts[name], layer.scaling[FIRST]))


def _mended(start: Start, scale: float, module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    (x,) = given
    return out + scale * linear(linear(x.to(start.a.dtype), start.a), start.b).to(out.dtype)
