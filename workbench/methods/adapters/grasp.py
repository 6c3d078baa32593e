"""GRASP: a LoRA that may not read the directions which a careless LoRA of the same data learnt to lean on.

The goal is read in the abstract [A]; everything below it is a reconstruction, because neither the paper's text nor code could be had.
What is derived of it is marked [D], what was measured on toys [M], our own choice [O].
"""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.barred import BarredAttachment
from workbench.materials.lora import Factors, Lora
from workbench.methods.contracts import Adapter, Cost

READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "qkv_proj", "gate_up_proj", "query_key_value", "fc1", "dense_h_to_4h")
"""What reads the residual stream (through a norm); the other matrices of a block write to it."""


class GRASP(Ranked, Adapter, title="GRASP", paper="arXiv:2605.27676"):
    """Train a LoRA once, see what it leans on, and train again without leaning on that anew.

    $$\\Delta W = s B A, \\qquad A \\leftarrow A - (A D) D^\\top$$

    after every step; D holds right singular vectors of the earlier run's ΔW, the strongest directions that its update reads [D]. With
    A D = 0 the new update never reads them, while what the base knows along them stays [A]: that is the difference from silencing the
    direction in the activations. Projecting the gradient is not enough, since AdamW scales each number by itself and turns the step: in
    a toy max |ΔW d| was 0.14 after 100 steps, against 1e-16 with the parameter projected [M]. The strongest direction may be the task
    itself; `skip` leaves it open [O]. The abstract reports that misalignment learnt from insecure code vanished and that learnt from bad
    medical advice fell fivefold [A].
    """

    over_rounded = True

    earlier_run: str = knob("", help="the careless run whose directions are forbidden, such as run:0001", label="earlier run")
    directions: int = knob(1, ge=0, le=64, help="how many are forbidden to each matrix; 0 is LoRA", unit="directions")
    skip: int = knob(0, ge=0, le=64, help="strongest directions that stay open, because they are the task", more=True)
    shared: bool = knob(False, help="the same directions for all that reads the residual stream, instead of each matrix's own", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> "GRASPAttachment":
        return GRASPAttachment(low_rank.wrapped(model, self, seed), self)

    def cost(self, model: PreTrainedModel) -> Cost:
        return low_rank.cost(model, self)

    def earlier(self) -> str:
        if self.directions and not self.earlier_run:
            raise WorkbenchError(
                "GRASP forbids what an earlier run leant on; name that run under 'earlier run', for example run:0001 (a finished LoRA "
                "run on the same data), or set directions to 0"
            )
        return self.earlier_run if self.directions else ""

    def costs(self) -> str:
        return "Needs a finished LoRA run on the same base, whose directions it forbids." if self.directions else ""


class GRASPAttachment(BarredAttachment):
    """LoRA's layers, barred from what the earlier run leant on as soon as that is known."""

    def __init__(self, wrapper: PeftModel, knobs: GRASP):
        super().__init__(wrapper, {})
        self.knobs = knobs

    def heed(self, earlier: Lora) -> None:
        forbidden = forbidden_of(earlier, self.knobs)
        self.bar({name.removesuffix(".weight"): directions for name, directions in forbidden.items()})
        if forbidden and not self.barred:
            raise WorkbenchError("The earlier run adapted other matrices than this one would. Choose the same targets as there.")


def forbidden_of(earlier: Lora, knobs: GRASP) -> dict[str, Tensor]:
    """(n, k) float64 directions by the name of the matrix that may not read them."""
    reading = {name: pair for name, pair in earlier.factors.items() if name.removesuffix(".weight").endswith(READERS)}
    first, last = knobs.skip, knobs.skip + knobs.directions
    if not knobs.shared:
        return {name: principal(pair)[:, first:last] for name, pair in reading.items()}
    if not reading:
        return {}
    rows = torch.cat([principal(pair, weighted=True).T for pair in reading.values()])
    common = torch.linalg.svd(rows, full_matrices=False).Vh[first:last].T
    return dict.fromkeys(reading, common)


def principal(pair: Factors, weighted: bool = False) -> Tensor:
    """(n, r) right singular vectors of left · right, the strongest first, without ever building the product.

    `weighted`: each as long as its singular value. Those of no strength are left out.
    """
    left, right = torch.linalg.qr(pair.left), torch.linalg.qr(pair.right.T)
    found = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
    there = 1e-12 * found.S.max().clamp_min(1e-300) < found.S
    vectors = (right.Q @ found.Vh.T)[:, there]
    return vectors * found.S[there] if weighted else vectors
