"""Polytropon and multi-head routing: skills that several tasks share, each in a mixture of its own. Built on peft's Poly.

Not here: which task is read, and what is saved (`materials/skills.py`). Combining Modular Skills in Multitask Learning, 2022, and
Multi-Head Adapter Routing for Cross-Task Generalization, 2022, arXiv:2211.03831. Tags as in the project's notes: [P] abstract, [R] read in
peft 0.21.2 (tuners/poly) and in the papers' code (microsoft/mttl), [D] derived, [O] our own choice.
"""

from dataclasses import replace

from peft import PolyConfig
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.where import Where
from workbench.materials.low_rank import matrices
from workbench.materials.region import cost
from workbench.materials.skills import SkillsAttachment
from workbench.materials.tuners import wrapped
from workbench.methods.contracts import Adapter, Cost


class Polytropon(Where, Adapter, title="Polytropon, MHR (skills that tasks share)", paper="arXiv:2202.13914"):
    """Learn a few LoRAs as skills that all tasks share, and for each task how much it takes of each.

    $$W'_\\tau = W + \\frac{1}{r}\\, B_\\tau A_\\tau, \\qquad A_\\tau = \\sum_k w_{\\tau k} A_k, \\quad B_\\tau = \\sum_k w_{\\tau k} B_k,
    \\qquad w_{\\tau k} = \\frac{\\sigma(z_{\\tau k})}{\\sum_j \\sigma(z_{\\tau j})}$$

    τ is the task of a row. Tasks that are alike come to share skills, and others keep out of each other's way [P]. The skills are mixed
    before they are applied [R], so a step multiplies no more than with one LoRA. While it trains each σ is drawn from a relaxed Bernoulli
    distribution about it, so that all skills are tried [R]. Every B starts at zero, so nothing changes at step 0; z starts within 0.001 of
    zero [R], so all tasks begin alike. z is one number a task and skill, and 0.1 is the authors' learning rate for it, a hundred times that
    of the rest [R]: without the `pace` of 100 it would hardly move.

    With several splits it is multi-head routing (MHR): inputs and outputs are cut into as many parts, and each mixes the skills by itself,
    for little more routing [P]. With `skills_of` it is MHR-z: the skills of an earlier run stand still and only the routing of the new
    tasks learns, from the mean of those skills and not from the base. peft's Poly has no alpha: the scale is 1 / r [R], less than LoRA's,
    so higher learning rates suit it [O].

    A row of no task, and every prompt that you type, is answered with all skills alike. That mean is the LoRA that is saved, and MHR-μ goes
    on from it: write it as a model, and train a LoRA of it on the new task. It averages all A and all B, so it is the mean of what the
    skills say only where they share one of the two [D]. In the folder `tasks` beside it is the LoRA of each task, which is the one to use
    where you know the task, and in `skills` all of it for peft, whose forward takes `task_ids`: the numbers that the folders in `tasks`
    begin with.
    """

    rates = (2e-4, 2e-2)
    by_task = True
    packs = False
    over_rounded = True

    skills: int = knob(4, ge=1, le=64, help="how many LoRAs the tasks share in each matrix", unit="skills")
    tasks: int = knob(8, ge=1, le=1024, help="how many tasks there is room for", unit="tasks", log=True)
    splits: int = knob(1, ge=1, le=64, help="parts of a matrix that each mix the skills for themselves; more than 1 is MHR", more=True)
    rank: int = knob(16, ge=1, le=256, help="how many directions each skill may learn in a matrix", log=True)
    pace: float = knob(100.0, gt=0, le=1000, help="how many times faster the routing moves than the skills", log=True, more=True)
    skills_of: str = knob("", help="MHR-z: run of this method whose skills are kept, such as run:0001; only the routing learns", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> SkillsAttachment:
        config = PolyConfig(
            r=self.rank,
            n_skills=self.skills,
            n_splits=self.splits,
            n_tasks=self.tasks,
            target_modules=list(self._shapes(model)),
            task_type="CAUSAL_LM",
        )
        return SkillsAttachment(wrapped(model, config, seed), self.pace, frozen=bool(self.skills_of))

    def cost(self, model: PreTrainedModel) -> Cost:
        shapes, routing = self._shapes(model), self.tasks * self.splits * self.skills
        skills = 0 if self.skills_of else self.skills * self.rank
        found = cost(model, {f"{name}.weight": skills * sum(shape) + routing for name, shape in shapes.items()})
        sides = self.rank * sum(sum(shape) for shape in shapes.values())  # numbers of one LoRA
        saved = (1 + self.tasks + self.skills) * sides + routing * len(shapes)
        return replace(found, saved=saved, beside=self.skills * sides if self.skills_of else 0)

    def earlier(self) -> str:
        return self.skills_of.strip()

    def costs(self) -> str:
        start = f" It starts from the skills of {self.skills_of}, not from the base." if self.skills_of else ""
        return f"A prompt that belongs to no task is answered with all skills alike; the LoRA of each task lies beside it.{start}"

    def _shapes(self, model: PreTrainedModel) -> dict[str, tuple[int, int]]:
        found = dict(matrices(model, self.where))
        for name, shape in found.items():
            if isinstance(model.get_submodule(name), Conv1D):
                raise WorkbenchError(
                    f"{name} is stored transposed, as GPT-2's matrices are, and peft has no shared skills for those. Choose another "
                    "adapter, such as lora."
                )
            if any(side % self.splits for side in shape):
                raise WorkbenchError(
                    f"{name} is a matrix of {shape[0]} × {shape[1]}, which cannot be cut into {self.splits} equal parts on both sides. Set "
                    "splits to a number that divides both, such as 4, or to 1."
                )
        return found
