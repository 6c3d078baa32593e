"""Critical layers: the blocks around the place where states change most. Not here: how tensors are trained (`materials/whole.py`), or how
states are compared (`materials/cka.py`).

Spectral Insights into Data-Oblivious Critical Layers in Large Language Models, 2025 (the authors' repository names arXiv:2506.00382). Tags
as in the project's notes: [P] abstract, [R] read in the published code (run_cka.py, corr_evaluation.ipynb), [D] derived, [O] our own
choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.cka import alignment, beside
from workbench.materials.evidence import Evidence, Learnt, outputs
from workbench.materials.models import BLOCK, layer_of
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Cost, Informed

EDGE = 3  # blocks at either end that are not asked [R]


class CriticalLayers(Whole, Looking, Informed, title="Critical layers (blocks where states change)"):
    """Look between which blocks the states of the rows change most, and train the blocks around that place.

    $$\\ell^* = \\argmin_\\ell \\; \\mathrm{CKA}(H_{\\ell-1}, H_\\ell) + \\mathrm{CKA}(H_\\ell, H_{\\ell+1}), \\qquad
    S = \\ell^* - 2, \\dots, \\ell^* + 2$$

    H holds the last token's state of each prompt as a block leaves it, and CKA says how alike two blocks see the prompts. Where it is low
    next to a block, fine-tuning lowers the loss most, say the authors; where that is follows from the model before it is tuned, hardly from
    the rows [P]. Training these blocks adapts the model well; holding them still and training all else makes backdoors in the rows less
    effective, by up to 40 % [P].

    Read are some 300 prompts without their answers, and the block in the middle is taken with two on each side; the first and the last
    three blocks are not asked [R]; of fewer than twelve, a quarter at either end [O]. The published mean over three blocks includes the
    block itself, whose CKA of 1 makes no difference to the order [D].
    """

    rows: int = knob(300, ge=2, le=100_000, help="rows that are looked at before the first step, drawn at random", log=True, more=True)
    around: int = knob(2, ge=0, le=100, help="how many blocks on each side of the critical one belong to it", unit="blocks")
    still: bool = knob(False, help="hold these blocks still and train all else, as a defence against backdoors in the rows")

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """`cka`: (L, L) float64, of all blocks with one another."""
        names = [name for name, _ in model.named_modules() if BLOCK.fullmatch(name)]
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        yield from outputs(model, names, evidence.prompts(), lambda name, states: found[name].append(states.float()), "prompts read")
        return {"cka": alignment([torch.cat(states) for states in found.values()])}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> WholeAttachment:
        near, asked = beside(learnt["cka"]), _asked(model.config.num_hidden_layers)
        return WholeAttachment(model, self._moving(model, min(asked, key=lambda layer: float(near[layer]))))

    def cost(self, model: PreTrainedModel) -> Cost:
        """Of the places where it may turn out to be, the dearest."""
        places = [cost_of(model, self._moving(model, layer)) for layer in _asked(model.config.num_hidden_layers)]
        return max(places, key=lambda place: place.trained)

    def _moving(self, model: PreTrainedModel, critical: int) -> set[str]:
        chosen = range(critical - self.around, critical + self.around + 1)
        return {name for name, _ in model.named_parameters() if (layer_of(name) in chosen) != self.still}


def _asked(layers: int) -> range:
    """The blocks among which the critical one is looked for."""
    edge = min(EDGE, layers // 4)
    return range(edge, layers - edge)
