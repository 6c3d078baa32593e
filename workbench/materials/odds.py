"""What a model makes of the tokens that are learnt, without the (N, V) table of what it makes of all others.

The head and the losses of its tokens are one op (`workbench_kernels/linear_cross_entropy.py`), which never holds more than a slice of the
table, nor does what it keeps for the backward pass. A head that is more than one matrix takes the table. What it is not: the table
itself (`models.label_table`), for whoever asks about other tokens.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from workbench_kernels.linear_cross_entropy import TokenOdds, linear_cross_entropy

from workbench.materials.models import head_logits, hidden_states, softcap
from workbench.materials.packing import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def label_odds(model: "PreTrainedModel", batch: dict[str, Tensor], entropy: bool = False) -> TokenOdds:
    """Of each of the N tokens that are learnt, in the order of `label_table`, its log-probability, and the entropy in nats if asked for;
    (N,) float32, with gradients."""
    labels = batch["labels"][:, 1:]
    learnt = (labels != IGNORED).nonzero(as_tuple=True)  # a GPU is waited for, so once for both
    hidden, labels = hidden_states(model, batch)[:, :-1][learnt], labels[learnt]
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        return linear_cross_entropy(hidden, head.weight, labels, head.bias, softcap(model), entropy=entropy, every=True)
    logits = head_logits(model, hidden)
    table = logits.log_softmax(-1)
    chosen = table.gather(1, labels[:, None])[:, 0]
    return TokenOdds(chosen, logits.logsumexp(-1), -(table.exp() * table).sum(-1) if entropy else None)


def label_logp(model: "PreTrainedModel", batch: dict[str, Tensor]) -> Tensor:
    """(N,) float32 log-probabilities of the tokens that are learnt."""
    return label_odds(model, batch).logp
