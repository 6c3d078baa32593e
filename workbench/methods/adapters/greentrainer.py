"""GreenTrainer: the tensors that bring the loss down most for the work that their gradients make. Not here: how tensors are trained
(`materials/whole.py`), or how the best choice is found (`materials/knapsack.py`).

Towards Green AI in Fine-Tuning Large Language Models via Adaptive Backpropagation, ICLR 2024. Tags as in the project's notes: [P] abstract,
[R] read in the published code (pittisl/GreenTrainer, decoder_lm), [D] derived, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.job import drain
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.attachment import Batched, in_turn
from workbench.materials.evidence import Batch, Evidence, Learnt, gradients
from workbench.materials.knapsack import chosen
from workbench.materials.models import layer_of
from workbench.materials.modules import ATTENTION, MLP, kind_of, writes
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Cost, Informed

LEAST = 0.05  # share of the backward work where the forward pass alone uses up the budget [R]
EPSILON = 1e-8  # AdamW's


class GreenTrainer(Whole, Looking, Informed, title="GreenTrainer (most learning for the work)"):
    """Train the tensors that promise most within a budget of computing, so that the backward pass stops early.

    $$\\max_S \\sum_{k \\in S} I_k, \\quad \\sum_{k \\in S} t_k + \\sum_{j \\text{ above the deepest of } S} e_j \\le \\rho_b T, \\qquad
    I_k = -\\Delta_k \\cdot g_k(\\theta + \\Delta)$$

    The gradient of a tensor costs t_k, and the error must be passed down to it, e_j for each tensor on the way; below the deepest one that
    is trained the backward pass ends. What a tensor promises is told by one step of AdamW that is taken back: how much of the loss's fall
    is its own, from its step Δ and the gradient g after it [R]. The best choice within the budget is found exactly, by dynamic programming
    [R]; ours walks from the output down once [D]. The authors save up to 64 % of the computing without a loss that shows [P].

    ρ is the share of a full step's work, forward and backward, of which the forward pass is about a third: below 0.34 a twentieth of the
    backward pass is allowed [R]. A matrix of m × n costs m·n for its gradient and as much for passing the error; norms, biases and looking
    up embeddings cost nothing; attention between tokens is not counted [O]. The authors choose again every two epochs [R]; here it is every
    so many steps, on the same rows and without dropout [O], and a tensor that goes on being trained keeps its moments.
    """

    budget: float = knob(0.5, gt=0, le=1, step=0.05, help="ρ: work of a step as a share of full tuning's; the paper has 0.3 to 0.7")
    every: int = knob(200, ge=0, le=100_000, help="steps between two choices of the tensors; 0 chooses once", unit="steps")
    rate: float = knob(2e-5, gt=0, le=1, help="learning rate of the step that is taken back", log=True, more=True)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """`worth`: (K,) float64, of each tensor from the output down, the largest of size 1."""
        return {"worth": (yield from self.worth(model, evidence.batches()))}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> "GreenAttachment":
        return GreenAttachment(model, self, self._best(model, learnt["worth"].tolist()))

    def cost(self, model: PreTrainedModel) -> Cost:
        """Of all choices within the budget, the one with most parameters."""
        sizes = [float(model.get_parameter(name).numel()) for name in _names(model)]
        return cost_of(model, self._best(model, sizes), in_turn=self.every > 0)

    def costs(self) -> str:
        when = f"Before the first step and every {self.every} steps" if self.every else "Before the first step"
        return f"{when} it needs the memory and time of full tuning for the rows that are looked at."

    def worth(self, model: PreTrainedModel, batches: Sequence[Batch]) -> Generator[Progress, None, Tensor]:
        names, steps = _names(model), dict[str, Tensor]()

        def add(name: str, gradient: Tensor) -> None:
            steps[name] = steps[name] + gradient if name in steps else gradient

        yield from gradients(model, names, batches, add)
        for name, total in steps.items():
            mean = total / len(batches)
            steps[name] = -self.rate * mean / (mean.abs() + EPSILON)  # of AdamW's first step
        worth = dict.fromkeys(names, 0.0)

        def weigh(name: str, gradient: Tensor) -> None:
            worth[name] -= float((gradient.double() * steps[name]).sum())

        start = {name: model.get_parameter(name).detach().to("cpu", copy=True) for name in names}
        try:
            _move(model, steps)
            yield from gradients(model, names, batches, weigh, "rows read once more")
        finally:
            _put(model, start)
        found = torch.tensor(list(worth.values()), dtype=torch.float64)
        return found / found.abs().max().clamp(min=torch.finfo(torch.float64).tiny)

    def _best(self, model: PreTrainedModel, worth: list[float]) -> set[str]:
        best = self.within(model, worth)
        if not best:
            raise WorkbenchError(
                f"Within {self.budget:g} of full tuning's work no tensor of this {type(model).__name__} can be trained to any use. Set "
                "budget higher."
            )
        return best

    def within(self, model: PreTrainedModel, worth: list[float]) -> set[str]:
        """The tensors that are worth most together, of what the budget allows; none where all of them would make it worse."""
        walk, given = _walk(model), iter(worth)
        forward, backward = sum(work.passing for work in walk), sum(work.passing + work.own for work in walk)
        share = self.budget * (1 + forward / backward) - forward / backward
        own, passing = [work.own for work in walk], [work.passing for work in walk]
        values = [next(given) if work.trainable else 0.0 for work in walk]
        return {walk[place].name for place in chosen(values, own, passing, int((share if share > 0 else LEAST) * backward))}


class GreenAttachment(WholeAttachment):
    """The tensors named move, and every so many steps those that promise most of the model as it is then."""

    def __init__(self, model: PreTrainedModel, knobs: GreenTrainer, names: set[str]):
        self.knobs, self.batches = knobs, list[Batch]()
        super().__init__(model, names, in_turn(knobs.every, lambda turn: self._again()))

    def look(self, evidence: Batched) -> None:
        self.batches = evidence.batches()

    def _again(self) -> set[str] | None:
        """None, for the same as before, where nothing promises anything."""
        training = self.model.training
        self.model.eval()  # a run that was stopped and goes on must choose the same
        worth = drain(self.knobs.worth(self.model, self.batches))
        self.model.train(training)
        return self.knobs.within(self.model, worth.tolist()) or None


@dataclass(frozen=True)
class Work:
    """What a tensor costs a token: its gradient, and passing the error to what lies below it."""

    name: str
    own: int
    passing: int
    trainable: bool = True


def _names(model: PreTrainedModel) -> list[str]:
    """The tensors that may be trained, from the output down."""
    return [work.name for work in _walk(model) if work.trainable]


def _walk(model: PreTrainedModel) -> list[Work]:
    """All tensors from the output down. Of those side by side the second counts as below the first, and norms as the deepest of their
    block, so that no choice costs more than it says."""
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    found = list[tuple[tuple[int, int], Work]]()
    for name, parameter in model.named_parameters():
        layer, size = layer_of(name), parameter.numel() if parameter.ndim > 1 else 0
        if parameter is head and not tied:
            found.append(((0, 0), Work(name, size, size)))
        elif layer is not None:
            found.append(((model.config.num_hidden_layers - layer, _depth(name)), Work(name, size, size)))
        elif parameter.ndim > 1:  # embeddings: looked up, but for a head that is tied to them
            found.append(((model.config.num_hidden_layers + 1, 0), Work(name, size if parameter is head else 0, 0)))
        else:
            found.append(((0, 1), Work(name, 0, 0)))
    through = [Work("", 0, head.numel(), trainable=False)] if tied else []
    return through + [work for _, work in sorted(found, key=lambda own: own[0])]


def _depth(name: str) -> int:
    """How far down in its block a tensor lies."""
    kind = kind_of(name)
    return {MLP: 0, ATTENTION: 2}[kind] + (not writes(name)) if kind in (MLP, ATTENTION) else 4


@torch.no_grad()
def _move(model: PreTrainedModel, steps: Learnt) -> None:
    for name, step in steps.items():
        model.get_parameter(name).add_(step)


@torch.no_grad()
def _put(model: PreTrainedModel, values: Learnt) -> None:
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
