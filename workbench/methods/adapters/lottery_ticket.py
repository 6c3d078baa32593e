"""Lottery-ticket sparse fine-tuning: the numbers that full tuning moves farthest, tuned alone. Not here: how the run turns from one to the
other (`materials/ticket.py`), or when (`jobs/schedule.py`).

Composable Sparse Fine-Tuning for Cross-Lingual Transfer, ACL 2022. Tags as in the project's notes: [P] abstract, [R] read in the published
code (cambridgeltl/composable-sft, lt_sft.py), [D] derived, [O] our own choice.
"""

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.ticket import TicketAttachment
from workbench.materials.whole import cost_of
from workbench.methods.contracts import Adapter, Cost


class LotteryTicket(Whole, Adapter, title="Lottery-ticket sparse fine-tuning"):
    """Tune everything for half of the run, keep only the places that moved farthest, and tune those alone from the start.

    $$M = \\text{top}_K \\; |\\theta_{\\text{tuned}} - \\theta_0|, \\qquad \\theta' = \\theta_0 + M \\odot \\Delta$$

    Full tuning is the search for a winning ticket: the K numbers of the whole model that went farthest [R]. Then all weights go back to
    where they were, and the second half of the run moves those K alone, with a new optimizer and a schedule of its own [R]. The change is
    sparse, so changes for a task and for a language, learnt apart, hardly stand in one another's way and can be added up: the model with
    both does the task in that language better than with adapters [P]. To add them, merge the models by task arithmetic with weights of 1
    [D].

    K is given as a share of all parameters, 5 % [O]; all of them may be chosen, embeddings and norms too [O]. The authors also have several
    rounds of both halves, and a pull towards the start in the first [R]; neither is here. Memory is full tuning's in the first half. If the
    best checkpoint is kept and it lies in the first half, what is saved is a fully tuned model.
    """

    share: float = knob(0.05, gt=0, le=1, help="share of all parameters that move in the second half", log=True)

    def attach(self, model: PreTrainedModel, seed: int) -> TicketAttachment:
        return TicketAttachment(model, max(1, int(self.share * sum(parameter.numel() for parameter in model.parameters()))))

    def cost(self, model: PreTrainedModel) -> Cost:
        """In the first half, which is all."""
        return cost_of(model, {name for name, _ in model.named_parameters()})

    def links(self) -> int:
        return 2

    def costs(self) -> str:
        return "What the first half of the steps learns is only used to choose what moves in the second, which begins anew."
