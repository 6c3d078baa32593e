"""OFT: orthogonal fine-tuning in blocks, as peft builds it. Not here: how it is put on the model (`materials/tuners.py`).

Controlling Text-to-Image Diffusion by Orthogonal Finetuning, 2023. arXiv:2306.07280. Tags as in the project's notes: [P] abstract, [R] read
in peft 0.21.2, [D] derived, [O] our own choice.
"""

from peft import OFTConfig
from torch import nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.core.where import Where
from workbench.materials.low_rank import LowRankAttachment, matrices
from workbench.materials.region import cost
from workbench.materials.tuners import tuned
from workbench.methods.contracts import Adapter, Cost


class OFT(Turned, Where, Adapter, title="OFT (orthogonal fine-tuning)", paper="arXiv:2306.07280"):
    """Turn what each matrix reads, a block of inputs at a time, and leave the matrix as it is.

    $$W' = W R, \\qquad R = \\mathrm{diag}(R_1, \\dots, R_k), \\qquad R_i = (I - Q_i)(I + Q_i)^{-1}, \\quad Q_i^\\top = -Q_i$$

    The rows of W keep their lengths and all angles between them; the authors hold that this is what a model must keep to go on generating
    well, and call it hyperspherical energy [P]. A block of b inputs has b(b − 1)/2 numbers, from 0, so a matrix of n inputs trains
    n(b − 1)/2: with blocks of 32, peft's default [R], about as many as LoRA of rank 8 on a square one [D]. LOFT turns a few directions of
    the whole input instead of all inputs in blocks.

    peft can take the first terms of the inverse's series instead of the inverse, which is faster and not quite a rotation [R]; here it is
    one [O]. The paper's form that bounds how far R may go (COFT) is not here.
    """

    block: int = knob(32, ge=2, le=512, help="how many inputs turn together; a divisor of every width", log=True, label="block of inputs")

    def attach(self, model: PreTrainedModel, seed: int) -> LowRankAttachment:
        names = sorted(self._turned(model))
        config = OFTConfig(oft_block_size=self.block, use_cayley_neumann=False, target_modules=names, task_type="CAUSAL_LM")
        return tuned(model, config, seed)

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": ins * (self.block - 1) // 2 for name, ins in self._turned(model).items()})

    def _turned(self, model: PreTrainedModel) -> dict[str, int]:
        """By the name of the matrix, how many inputs it has."""
        found = dict[str, int]()
        for name, (_, ins) in matrices(model, self.where):
            if not isinstance(model.get_submodule(name), nn.Linear):
                raise WorkbenchError(
                    f"OFT cannot turn what {name} reads: peft has no OFT for matrices that are stored the other way round, as this "
                    f"{type(model).__name__}'s are. LOFT turns them too."
                )
            if ins % self.block:
                raise WorkbenchError(f"Blocks of {self.block} do not fit the {ins} inputs of {name}. Set block to a divisor of {ins}.")
            found[name] = ins
        return found
