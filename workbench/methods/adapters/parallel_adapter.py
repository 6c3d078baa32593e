"""The parallel adapter: a bottleneck beside each MLP. Not here: the bottleneck (`materials/bottleneck.py`), or how it is trained, saved and
opened (`materials/inserted.py`).

Towards a Unified View of Parameter-Efficient Transfer Learning, 2022. Tags as in the project's notes: [R] read in the published code
(unify-parameter-efficient-tuning, petl_factory.py, exps/run_xsum.sh), [D] derived, [O] our own choice.
"""

import inspect
from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials.beside import Beside
from workbench.materials.bottleneck import Bottleneck
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.mlps import Mlp, mlps
from workbench.materials.prefix import counted, prefixes
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost


class ParallelAdapter(Unmergeable, Adapter, title="Parallel adapter (a bottleneck beside the MLP)", paper="arXiv:2110.04366"):
    """Let a small network read what each MLP reads, and add what it says to what the MLP says.

    $$y = F(x) + s\\, W_{up}\\, \\text{ReLU}(W_{down}\\, x)$$

    F is the MLP, which stands still. W_down starts as Kaiming-uniform, W_up and both biases at zero [R], so nothing changes at step 0.
    Trains 2rD + r + D numbers a block, for r units and the model's width D. The sequential form reads F(x) instead of x [R].

    Where every unit is open the change is that of a LoRA of rank r and scale s beside the whole MLP [D]; the ReLU lets each token have
    units of its own, and that is why it cannot be merged into the weights: every later answer passes through it too. Scale 4 is the
    authors', as are 512 units [R]; 64 are our choice [O].

    With a prefix the attentions learn too, as in prefix tuning: keys and values of that many tokens before the text. The two together are
    what the authors recommend and call the mix-and-match adapter (MAM), with 30 tokens and 512 units [R]. A prefix does not start from the
    base, and rows cannot be packed with it.
    """

    over_rounded = True

    units: int = knob(64, ge=1, le=4096, help="how wide the bottleneck is", log=True)
    scale: float = knob(4.0, gt=0, le=100, help="s: what the bottleneck says is multiplied by it", log=True)
    form: Literal["parallel", "sequential"] = knob("parallel", help="whether it reads what the MLP reads, or what the MLP says")
    prefix: int = knob(
        0, ge=0, le=256, help="tokens that attention reads before the text; 30 make it the paper's MAM", unit="tokens", more=True
    )

    def attach(self, model: PreTrainedModel, seed: int) -> InsertedAttachment:
        generator, modules = torch.Generator().manual_seed(seed), dict[str, Beside]()
        for mlp in self._found(model):
            name = mlp.down.rpartition(".")[0]
            modules[name] = Bottleneck.at(model, name, units=self.units, scale=self.scale, form=self.form)
            nn.init.kaiming_uniform_(modules[name].get_parameter("down"), a=5**0.5, generator=generator)
        return InsertedAttachment(model, modules | (prefixes(model, self.prefix, seed) if self.prefix else {}))

    def cost(self, model: PreTrainedModel) -> Cost:
        """Counted with the matrix that reads what the bottleneck reads, or that says it; a prefix with the last of its attention."""
        width, parallel = model.config.hidden_size, self.form == "parallel"
        each, found = 2 * self.units * width + self.units + width, self._found(model)
        moved = {f"{mlp.gate if parallel else mlp.down}.weight": each for mlp in found}
        if self.prefix:
            moved |= counted(model, self.prefix)
        return replace(cost(model, moved), kept=len(found) * (width + self.units), late=not self.prefix)

    def costs(self) -> str:
        words = f" It does not start from what the base says: {self.prefix} drawn words stand before every text at first."
        return super().costs() + (words if self.prefix else "")

    def _found(self, model: PreTrainedModel) -> list[Mlp]:
        """The MLPs that are modules of their own and are given one thing to read."""
        found = mlps(model)
        for mlp in found:
            host = model.get_submodule(mlp.down.rpartition(".")[0])  # of families without such a module, the block itself
            if len(inspect.signature(host.forward).parameters) != 1:
                raise WorkbenchError(
                    f"The MLPs of this {type(model).__name__} are not modules that read one tensor and answer with one, so nothing can "
                    "stand beside them. Choose another adapter, such as lora."
                )
        return found
