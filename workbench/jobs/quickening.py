"""What makes a run's steps quick without changing what it learns, put in before the first; and how much a step must compute at least.

Ops of our own in the place of the model's (`patching.py`), and packed rows that are read one by one (`varlen.py`), which is proved on the
run's own first pack before it begins. It stays in: what is trained is a model of the run alone, and answers and evaluations of the run
go through the same ops.
"""

from collections.abc import Iterator

import torch
from transformers import PreTrainedModel
from workbench_kernels.roofline import measured_ceilings

from workbench.core.spec import TrainSpec
from workbench.jobs import patching, varlen
from workbench.jobs.batches import Batches
from workbench.materials.models import layer_of


def quicken(model: PreTrainedModel, spec: TrainSpec, batches: Batches) -> dict[str, str | float]:
    """Put it into a model whose adapter is attached; returns what there is to say of it.

    Raises:
        WorkbenchError: rows of a pack see one another.
    """
    told: dict[str, str | float] = {"ops": str(patching.install(model))}
    if spec.packing:
        apart = varlen.install(model)
        batch = {name: tensor[:1].to(model.device) for name, tensor in batches.window(1)[0].items()}
        told |= {"packed rows": f"by the mask of transformers: {apart.left}" if apart.left else "each by itself"}
        told |= {"packed rows differ by": varlen.same_packed(model, batch)}
    return told


def pace(model: PreTrainedModel, spec: TrainSpec, batches: Batches, numbers: torch.dtype) -> dict[str, float]:
    """`gflop_per_token`: what a step must multiply for one real token, in 1e9 operations. `ceiling_tflop_per_s`: what this machine's matrix
    products reach in these numbers, in 1e12 a second, in all processes. Nothing for a mixture of experts, which does not multiply by all
    it has."""
    if any(weight.ndim == 3 for weight in model.parameters()):
        return {}
    lengths, learnt = [len(row.ids) for row in batches.rows], sum(sum(row.trained[1:]) for row in batches.rows)
    passes = 1 if spec.update.forward_only else 3  # without one to the weight where it does not learn
    operations = sum(_products(model, passes, learnt / sum(lengths)))
    operations += _attention(model, sum(length**2 for length in lengths) / sum(lengths)) * (3.5 if passes == 3 else 1)
    ceiling = measured_ceilings(model.device, numbers).flops
    return {"gflop_per_token": operations / 1e9, "ceiling_tflop_per_s": ceiling * spec.processes / 1e12}


def _products(model: PreTrainedModel, passes: int, learnt: float) -> Iterator[float]:
    """Operations a token of each matrix of the blocks, and of the head, which is asked only where something is learnt."""
    inside = [(weight, 1.0) for name, weight in model.named_parameters() if weight.ndim == 2 and layer_of(name) is not None]
    for weight, share in [*inside, (model.get_output_embeddings().weight, learnt)]:
        yield 2.0 * weight.numel() * share * (passes if weight.requires_grad else min(passes, 2))


def _attention(model: PreTrainedModel, length: float) -> float:
    """Operations a token of causal attention over rows of so many tokens; its backward pass takes 2.5 times as many."""
    config = model.config
    head = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
    return 2.0 * length * head * config.num_attention_heads * config.num_hidden_layers
