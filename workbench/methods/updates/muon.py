"""Muon as torch has it: the momentum of each matrix, made orthogonal; AdamW for what is no matrix."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workbench.core.method import knob
from workbench.materials import optimizers
from workbench.methods.contracts import Stepper, Update


class Muon(Update, title="Muon", paper="arXiv:2502.16982"):
    """Step along the momentum of each matrix with all its singular values set to about one.

    $$\\theta \\leftarrow \\theta - \\eta\\,\\big(0.2\\,\\sqrt{\\max(A, B)}\\; O + \\lambda\\theta\\big), \\qquad
    O \\approx U V^\\top, \\quad U S V^\\top = g + \\mu\\, m$$

    A and B are the matrix's sides; with the factor before O a step is as long as AdamW's usually is, so that its learning rates
    can be kept, which is the cited paper's contribution; the method is Keller Jordan's. O comes from five Newton-Schulz
    rounds, which leave singular values between about 0.7 and 1.2. One moment is kept instead of two. Made for the matrices
    inside a model; its authors leave embeddings and heads to AdamW, here only vectors (norms, biases) are left to it. On
    LoRA's factors it is untested by the paper.
    """

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    weight_decay: float = knob(0.0, ge=0, le=1, help="λ: how strongly matrices are pulled to zero", more=True)
    momentum: float = knob(0.95, ge=0, lt=1, help="μ: how long the mean of the gradient remembers", more=True)
    rounds: int = knob(5, ge=1, le=20, help="rounds of Newton-Schulz", more=True)
    clip: float = knob(1.0, ge=0, le=1000, help="largest gradient norm; 0 does not clip", more=True, label="clip gradient norm")

    def begin(self, groups: list[dict[str, Any]]) -> "MuonStepper":
        return MuonStepper(self, groups)

    def bytes_per_parameter(self) -> int:
        return 4  # one float32 moment; the few vectors have two


class MuonStepper(Stepper):
    """One optimizer for matrices and one for vectors; either may be missing."""

    def __init__(self, knobs: Muon, groups: list[dict[str, Any]]):
        self.knobs = knobs
        matrices, vectors = optimizers.by_shape(groups, knobs.lr, knobs.weight_decay)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self.optimizers["matrices"] = torch.optim.Muon(
                matrices, lr=knobs.lr, momentum=knobs.momentum, ns_steps=knobs.rounds, adjust_lr_fn="match_rms_adamw"
            )
        if vectors:
            self.optimizers["vectors"] = torch.optim.AdamW(vectors, lr=knobs.lr)

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        optimizers.clip(self.optimizers.values(), self.knobs.clip)
        for optimizer in self.optimizers.values():
            optimizers.step(optimizer, rate)
        return {"lr": self.knobs.lr * rate}

    def within(self) -> list[Optimizer]:
        return list(self.optimizers.values())

    def state(self) -> dict[str, Tensor]:
        return {
            f"{part}.{name}": value for part, optimizer in self.optimizers.items() for name, value in optimizers.state(optimizer).items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        for part, optimizer in self.optimizers.items():
            mine = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
            optimizers.load_state(optimizer, mine)
