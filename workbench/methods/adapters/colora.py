"""CoLoRA: more directions for the matrices whose change brings more of what is learnt. Not here: the short run that tells
(`materials/trial_run.py`), or the layers of unlike ranks (`materials/allotted.py`).

Of the paper only the abstract could be had. Tags as in the project's notes: [P] abstract, [REC] reconstruction, [K] known, [D] derived,
[O] our own choice.
"""

from collections.abc import Generator

import torch
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.allotted import Allotted, shared_out
from workbench.materials.covariances import ROOM, portions
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.region import cost
from workbench.materials.trial_run import trial
from workbench.methods.contracts import Cost, Informed


class CoLoRA(Allotted, Looking, Ranked, Informed, title="CoLoRA (ranks by contribution)"):
    """Try a short run, see how much each matrix's change contributed to the fall of the loss, take it back, and share the ranks out by it.

    $$c_\\ell = \\sum_{i \\in \\ell} \\left| \\Delta_i \\, \\bar g_i \\right|, \\qquad
    \\bar g = \\mathbb{E}_{0 \\le a \\le 1} \\nabla L(\\theta_0 + a \\Delta), \\qquad r_\\ell \\propto c_\\ell, \\quad
    \\sum_\\ell r_\\ell = r N$$

    Matrices do not contribute alike to what a model learns. How much each does is attributed by integrated gradients along the way from the
    base to a tuned model, and what contributes more gets a higher rank [P]. Without the bars, all the terms of all matrices add up to the
    difference of the loss between the two ends, exactly [K]; so a matrix that has not moved, or moves nothing, has no part in it.

    The tuned model is a LoRA of the rank given after a few steps at a rate of 0.001 on some rows [O]; A and B of the real run start anew.
    The mean over the way is taken at a few points, each in the middle of its part [O]. Sizes are added up number by number, because what
    two entries do against each other is work too [REC]. All N matrices together get the rank of a LoRA; none gets less than one
    direction, because a short trial can be wrong about it, or more than `spread` times the rank [O]. The scale is α/r for every matrix,
    whatever rank it got. The cost that is shown is the most that it can be.
    """

    spread: float = knob(2.0, ge=1, le=16, help="how many times the rank one matrix may get; 1 gives all the same")
    steps: int = knob(20, ge=1, le=10_000, help="how long the trial run is", unit="steps", log=True, label="trial steps")
    points: int = knob(4, ge=1, le=100, help="points on the way at which gradients are taken, a pass over the rows each", more=True)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The rank of each matrix, by its name."""
        low_rank.within(model, self)
        weights, batches, scores = low_rank.upright(model, self.where), evidence.batches(), dict[str, float]()
        groups = portions({name: 4 * weight.numel() for name, weight in weights.items()}, ROOM)
        with trial(model, self) as tried:
            yield from tried.learn(batches, self.steps)
            changes = tried.changes()
            for number, names in enumerate(groups):
                what = "rows read" if len(groups) == 1 else f"rows read, part {number + 1} of {len(groups)}"
                slopes = yield from tried.on_the_way(names, batches, self.points, what)
                for name, slope in slopes.items():
                    change = changes[name]
                    scores[name] = float(((change.left @ change.right).to(slope) * slope).abs().sum())
        ranks = shared_out(self.rank * len(scores), scores, {name: self._most(weight.shape) for name, weight in weights.items()})
        return {name: torch.tensor(rank) for name, rank in ranks.items()}

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if those matrices got most whose ranks cost most."""
        low_rank.within(model, self)
        weights = low_rank.upright(model, self.where)
        sizes = {name: float(sum(weight.shape)) for name, weight in weights.items()}
        moved, left = dict[str, int](), (self.rank - 1) * len(sizes)
        for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
            more = min(left, self._most(weights[name].shape) - 1)
            moved[f"{name}.weight"], left = (1 + more) * sum(weights[name].shape), left - more
        return cost(model, moved)

    def costs(self) -> str:
        return f"Trains a LoRA for {self.steps} steps before the first one, takes it back, and reads {self.rows} rows {self.points} times."

    def _most(self, shape: torch.Size) -> int:
        """Directions that a matrix may get."""
        return min(round(self.spread * self.rank), *shape)
