"""SCT, salient channel tuning: the channels of the stream that the rows excite most are mixed anew. Not here: the mixing
(`materials/channels.py`), or how it is trained, saved and opened (`materials/inserted.py`).

SCT: A Simple Baseline for Parameter-Efficient Fine-Tuning via Salient Channels, 2023. Tags as in the project's notes: [P] abstract,
[R] read in the published code (zhaohengyuan1/SCT, train_model_sct.py, models/swin_transformer_sct.py, configs), [D] derived, [V] measured
by us, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.materials.channels import Channels
from workbench.materials.evidence import Evidence, Learnt, outputs
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import BLOCK
from workbench.materials.region import cost
from workbench.methods.contracts import Cost, Informed


class SCT(Unmergeable, Looking, Informed, title="SCT (channels that the rows excite)", paper="arXiv:2309.08513"):
    """Look which channels of each block's output the rows excite most, and learn to mix those few anew.

    $$x_c \\leftarrow x_c + s\\,(L x_c + b), \\qquad
    c = \\text{top}_K \\; \\frac{1}{N} \\sum_n \\lVert X_n \\rVert_2 \\;\\text{ by channel}$$

    A few channels carry what a task needs; an eighth of them is enough, and beat full tuning on 18 of 19 tasks of models that see [P]. X_n
    is what the stream holds at the end of a block while a row is read, and its norm is taken over the row's tokens. The authors take it
    over all images of a class and then the mean over classes, so that large classes have no more say [R]; here each row is a class of its
    own [O]. Trains K² + K numbers a block.

    L and b start at zero, so nothing changes at step 0 [O]; the authors draw L with a deviation of 0.02 [R]. They place it in the stream
    after the attention, or after the MLP [R]; here it is after the MLP, where the block ends, since there every family has a stream [O].
    Their s differs from task to task, 0.15 and 0.4 in two of their settings [R]; 0.2 is between [O]. What it changes is the stream and not
    what a matrix adds to it, so no change of a weight equals it [D]: it cannot be merged. It wants a far higher learning rate than LoRA: in
    40 steps on the demo model the validation loss fell from 4.5 to 4.2 at 1e-3 and to 1.1 at 2e-2 [V].
    """

    rates = (1e-3, 1e-1)
    over_rounded = True

    share: float = knob(0.125, gt=0, le=1, help="share of the channels that are mixed anew; the paper takes an eighth", log=True)
    scale: float = knob(0.2, gt=0, le=10, help="s: what is learnt is multiplied by it", log=True, more=True)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The channels of each block by its name, in ascending order."""
        rows, norms = evidence.batches(size=1), dict[str, Tensor]()

        def take(name: str, stream: Tensor) -> None:
            norms[name] = norms.get(name, torch.zeros(())) + stream.float().norm(dim=0).cpu()

        yield from outputs(model, _blocks(model), rows, take)
        return {name: own.topk(self._count(model)).indices.sort().values for name, own in norms.items()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> InsertedAttachment:
        found = {name: Channels.at(model, name, channels=learnt[name].tolist(), scale=self.scale) for name in _blocks(model)}
        return InsertedAttachment(model, found)

    def cost(self, model: PreTrainedModel) -> Cost:
        """Counted with the largest matrix of each block."""
        count, names = self._count(model), _blocks(model)
        moved = dict[str, int]()
        for name in names:
            own = [(parameter.numel(), f"{name}.{key}") for key, parameter in model.get_submodule(name).named_parameters()]
            moved[max(own)[1]] = count * count + count
        return replace(cost(model, moved), kept=count * len(names), late=True, studied=8 * count * len(names))

    def _count(self, model: PreTrainedModel) -> int:
        return max(1, int(self.share * model.config.hidden_size))


def _blocks(model: PreTrainedModel) -> list[str]:
    """The blocks by name.

    Raises:
        WorkbenchError: none is known as one.
    """
    found = [name for name, _ in model.named_modules() if BLOCK.fullmatch(name)]
    if not found:
        raise WorkbenchError(
            f"The blocks of this {type(model).__name__} are not known by their names. Choose another adapter, such as lora."
        )
    return found
