"""FPF: mend what a run has forgotten by moving the kinds of matrices that it moved most. Not here: how tensors are trained
(`materials/whole.py`), or the buffer of rows, which is the run's data.

Does Continual Learning Equally Forget All Parameters?, 2023. Tags as in the project's notes: [P] abstract, [REC] reconstruction, because
the exact measure is not known to us, [O] our own choice.
"""

from collections import defaultdict
from collections.abc import Collection

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials import low_rank
from workbench.materials.lora import Lora
from workbench.materials.models import weights_by_module
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost


class FPF(Whole, Adapter, title="FPF (mend what drifted most)", paper="arXiv:2304.04158"):
    """Find the kinds of matrices that an earlier run moved most, and train those alone, on a few rows of what it has forgotten.

    $$d_k = \\text{mean of } \\frac{\\lVert \\Delta W \\rVert_1}{m n} \\text{ over matrices of kind } k, \\qquad S = \\text{top}_n \\; d$$

    While a model learns one task after another, only a few of its modules are made anew for each task; the others are shared. What is
    forgotten is forgotten there, so training these alone on a small buffer, once at the end, mends much of it for little work, whatever
    the earlier training was [P]. The authors show it on models that see [P].

    A module is here a kind of matrix, such as all that make keys [REC]. ΔW is the earlier run's, which must have made a LoRA; kinds that
    it did not adapt have not moved. To use it: start from that run's model, name the same run here, and give a few rows of what was known
    before as data. Weights move as in full tuning: in float32, saved as a model, with a small learning rate. The authors' k-FPF does this
    k times on the way instead of once at the end [P], and is an adapter of its own.
    """

    earlier_run: str = knob("", help="the run whose drift is mended, such as run:0001; start from it too", label="earlier run")
    kinds: int = knob(2, ge=1, le=64, help="how many kinds of matrices move, in all blocks", unit="kinds")

    def attach(self, model: PreTrainedModel, seed: int) -> "FPFAttachment":
        return FPFAttachment(model, self)

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if the largest kinds were chosen."""
        return cost_of(model, self.of(model, self.largest(model)))

    def earlier(self) -> str:
        if not self.earlier_run:
            raise WorkbenchError(
                "FPF mends what an earlier run has forgotten; name that run under 'earlier run', for example run:0001 (a finished LoRA "
                "run), and start from it as the model"
            )
        return self.earlier_run

    def costs(self) -> str:
        return "Needs a finished LoRA run to start from, and a few rows of what was known before it."

    def largest(self, model: PreTrainedModel) -> list[str]:
        """The kinds with most numbers."""
        sizes = defaultdict[str, int](int)
        for name, (rows, columns) in low_rank.matrices(model, "all linear"):
            sizes[_kind(name)] += rows * columns
        return sorted(sizes, key=lambda kind: (-sizes[kind], kind))[: self.kinds]

    def of(self, model: PreTrainedModel, kinds: Collection[str]) -> set[str]:
        """The parameters of matrices of these kinds, inside the blocks."""
        return {name for name, module, layer, _ in weights_by_module(model) if layer >= 0 and module in kinds}


class FPFAttachment(WholeAttachment):
    """The kinds that drifted most move; the largest until it is known which these are."""

    def __init__(self, model: PreTrainedModel, knobs: FPF):
        super().__init__(model, knobs.of(model, knobs.largest(model)))
        self.knobs = knobs

    def heed(self, earlier: Lora) -> None:
        found = drift(earlier)
        if not found:
            raise WorkbenchError("The earlier run has adapted no matrix, so nothing has drifted. Name a LoRA run under 'earlier run'.")
        self.start.clear()  # nothing has moved yet
        self._let(self.knobs.of(self.model, list(found)[: self.knobs.kinds]))


def drift(earlier: Lora) -> dict[str, float]:
    """The mean size of a number's change by the kind of matrix, the largest first."""
    sizes = defaultdict[str, list[float]](list)
    for name, pair in earlier.factors.items():
        sizes[_kind(name.removesuffix(".weight"))].append(float((pair.left.float() @ pair.right.float()).abs().mean()))
    means = {kind: sum(own) / len(own) for kind, own in sizes.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _kind(module: str) -> str:
    return module.rpartition(".")[2]
