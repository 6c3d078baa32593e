"""PEARL: as many directions for each matrix as a short trial run needed there. Not here: that run (`materials/trial_run.py`), or the
layers of unlike ranks (`materials/allotted.py`).

Parameter Efficient Continual Learning with Dynamic Low-Rank Adaptation, 2025. Tags as in the project's notes: [P] abstract, [REC]
reconstruction, because the paper's text could not be had, [D] derived, [O] our own choice.
"""

from collections.abc import Generator

import torch
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.allotted import Allotted
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.lora import Factors
from workbench.materials.trial_run import trial
from workbench.methods.contracts import Cost, Informed


class PEARL(Allotted, Looking, Ranked, Informed, title="PEARL (ranks by a trial run)", paper="arXiv:2505.11998"):
    """Try a short run, see how many directions it needed in each matrix, take it back, and give each LoRA that rank.

    $$r_\\ell = \\min \\left\\{ r : \\sum_{i \\le r} \\sigma_i^2 \\ge \\tau \\sum_i \\sigma_i^2 \\right\\}, \\qquad
    \\sigma = \\text{singular values of } W_\\ell^{\\text{trial}} - W_\\ell^{\\text{reference}}$$

    A LoRA learns a task after others with little forgetting, if its rank is right; the right one follows from how far the task lies from
    the reference weights, so it need not be guessed [P]. The authors try it on models that see, in many orders of tasks [P].

    The reference is what the run starts from [O]: only there does the difference say what this LoRA has to learn [D]. To learn a task on
    top of an earlier one, make a model of that run and start from it. The trial is a LoRA of the rank given, which is the most that a
    matrix can get, and runs for a few steps at a rate of 0.001 on some rows [O]; A and B of the real run start anew. τ is 0.9 [REC]. A
    matrix whose weights the trial did not move gets one direction [O]. The rule goes by the shape of a change and not by its size [D]:
    a matrix that moves little in many directions gets many.
    """

    share: float = knob(0.9, gt=0, le=1, step=0.05, help="τ: share of the trial's change that the directions of a matrix must hold")
    steps: int = knob(20, ge=1, le=10_000, help="how long the trial run is", unit="steps", log=True, label="trial steps")

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The rank of each matrix, by its name."""
        low_rank.within(model, self)
        with trial(model, self) as tried:
            yield from tried.learn(evidence.batches(), self.steps)
            return {name: torch.tensor(needed(change, self.share)) for name, change in tried.changes().items()}

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if every matrix got the most."""
        low_rank.within(model, self)
        return low_rank.cost(model, self)

    def costs(self) -> str:
        return f"Trains a LoRA for {self.steps} steps before the first one, and takes it back. The cost that is shown is the most."


def needed(change: Factors, share: float) -> int:
    """How many directions hold that share of a change's energy ‖Δ‖², the strongest first; 1 of a change that is none."""
    left, right = torch.linalg.qr(change.left).R, torch.linalg.qr(change.right.T).R
    held = torch.linalg.svdvals(left @ right.T).square().cumsum(0)
    return int((held < share * (1 - 1e-12) * held[-1]).sum()) + 1
