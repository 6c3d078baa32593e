"""MixLoRA: experts that share a frozen MLP. Not here: the experts and their balance (`materials/experts.py`), or how they are saved and
opened (`materials/inserted.py`).

MixLoRA: Enhancing Large Language Models Fine-Tuning with LoRA-based Mixture of Experts, 2024. Tags as in the project's notes: [R] read in
the published code (TUDB-Labs/MixLoRA, mixlora/model.py, config.py and README), [D] derived, [O] our own choice.
"""

from collections import Counter
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials import low_rank
from workbench.materials.attachment import Carry
from workbench.materials.beside import Beside
from workbench.materials.experts import DOWN, GATE, UP, Experts, LowRank, sides
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.mlps import mlps
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost

ROUTER = 0.02  # standard deviation at the start


class MixLoRA(Unmergeable, Adapter, title="MixLoRA (experts on a shared MLP)"):
    """Learn several LoRAs of each MLP, and a router that gives every token to a few of them.

    $$y = \\sum_{e} w_e \\,(W_d\\, a_e + s B_d^e A_d^e\\, a_e), \\qquad a_e = \\text{act}(W_g' x) \\odot W_u' x$$

    W′ is the frozen matrix with expert e's LoRA, and s = α/r. The router is a softmax over all experts, of which the k likeliest are taken
    and their weights made to add up to 1; the attention learns an ordinary LoRA [R]. Every B starts at zero, so nothing changes at step 0.
    The frozen matrices are multiplied once for a token, whatever k is [D]. Trains E(3r(D + I) + D) numbers an MLP, D and I its widths.

    So that no expert is left idle, the router is pulled towards equal shares: `balance` times the gradient of E Σ f P, added up over the
    blocks, where f is the share of the choices that an expert got and P the router's mean probability [R]. Here the pull
    reaches the router alone, and the loss that is shown is that of the task [O]. With one expert for a token its weight is always 1,
    so only that pull moves the router [D]. 8 experts, 2 for a token, 0.01, and a router that starts as normal with deviation 0.02 are
    the authors' [R]; rank 8 and alpha 16 are our choice [O]. Which expert speaks depends on the token, and that is why it cannot be
    merged into the weights.
    """

    over_rounded = True

    experts: int = knob(8, ge=1, le=64, help="how many LoRAs each MLP has", unit="experts")
    per_token: int = knob(2, ge=1, le=64, help="how many of them a token is given to", label="experts for a token")
    rank: int = knob(8, ge=1, le=256, help="how many directions each of them may learn in a matrix", log=True)
    alpha: float = knob(16.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    balance: float = knob(0.01, ge=0, le=10, help="how strongly the router is pulled towards equal shares", more=True)
    attention: bool = knob(True, help="whether the attention learns a LoRA of this rank beside them", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> "MixLoRAAttachment":
        generator, modules = torch.Generator().manual_seed(seed), dict[str, Beside]()
        size = {"rank": self.rank, "scale": self.alpha / self.rank}
        for name in self._mlps(model):
            experts = Experts.at(model, name, experts=self.experts, chosen=self.per_token, **size)
            nn.init.normal_(experts.router, std=ROUTER, generator=generator)
            for factor in experts.read.values():
                nn.init.uniform_(factor, -(factor.shape[-1] ** -0.5), factor.shape[-1] ** -0.5, generator=generator)
            modules[name] = experts
        for name in self._attention(model):
            modules[name] = LowRank.at(model, name, **size)
            nn.init.kaiming_uniform_(modules[name].get_parameter("read"), a=5**0.5, generator=generator)
        return MixLoRAAttachment(model, modules, self.balance)

    def cost(self, model: PreTrainedModel) -> Cost:
        """The router is counted with the gate, which reads the same."""
        moved, kept = Counter[str](), 0
        for name in self._mlps(model):
            width, inner = sides(model, name)
            kept += width + 2 * self.experts + self.per_token * (8 * inner + 4 * width + 3 * self.rank)
            moved.update({f"{name}.{matrix}.weight": self.experts * self.rank * (width + inner) for matrix in (GATE, UP, DOWN)})
            moved[f"{name}.{GATE}.weight"] += self.experts * width
        for name, shape in self._attention(model).items():
            moved[f"{name}.weight"] += self.rank * sum(shape)
            kept += self.rank + shape[1]
        return replace(cost(model, moved), kept=kept)

    def costs(self) -> str:
        return f"{super().costs()} {self.per_token} experts for a token hold, each, more than twice what the MLP itself holds for a step."

    def _mlps(self, model: PreTrainedModel) -> list[str]:
        if self.per_token > self.experts:
            raise WorkbenchError(
                f"A token cannot be given to {self.per_token} experts of {self.experts}. Set experts for a token to {self.experts} or "
                "less, or experts to more."
            )
        return [mlp.down.rpartition(".")[0] for mlp in mlps(model)]

    def _attention(self, model: PreTrainedModel) -> dict[str, tuple[int, int]]:
        return dict(low_rank.matrices(model, "attention")) if self.attention else {}


class MixLoRAAttachment(InsertedAttachment):
    """Experts, whose routers are pulled towards equal shares when the gradients of a step are complete."""

    def __init__(self, model: PreTrainedModel, modules: dict[str, Beside], strength: float):
        super().__init__(model, modules)
        self.strength = strength
        self.mixtures = [module for module in modules.values() if isinstance(module, Experts)]
        self.shared: list[float] = []

    def redraw(self, step: int) -> dict[str, Carry]:
        """What a step that was left out has added up is not the next one's."""
        for mixture in self.mixtures:
            mixture.forget()
        return {}

    def tallies(self) -> list[torch.Tensor]:
        return [mixture.tally for mixture in self.mixtures]

    def loads(self) -> list[float]:
        return self.shared

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        given = torch.stack([mixture.given().cpu() for mixture in self.mixtures]).sum(0)
        self.shared = (given / given.sum()).tolist() if given.sum() else []
        for mixture in self.mixtures:
            pull = mixture.pull()
            if pull is not None:
                here = mixture.router.grad
                mixture.router.grad = self.strength * pull if here is None else here + self.strength * pull
            mixture.forget()
