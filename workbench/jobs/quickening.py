"""What makes a run's steps quick without changing what it learns, put in before the first; and how much a step must compute at least.

Ops of our own in the place of the model's (`patching.py`), whose kernels are compiled before the first step (`rehearsing.py`), and packed
rows that are read one by one (`varlen.py`), which is proved on the run's own first pack before it begins. It stays in: what is trained is a
model of the run alone, and answers and evaluations of the run go through the same ops.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from workbench_kernels.linear_cross_entropy import linear_cross_entropy
from workbench_kernels.masked_adamw import adamw_scatter, grad_gather
from workbench_kernels.road import pick
from workbench_kernels.roofline import measured_ceilings

from workbench.core.events import Progress
from workbench.core.spec import TrainSpec
from workbench.jobs import patching, rehearsing, varlen
from workbench.jobs.batches import Batches
from workbench.jobs.objective import reads_table
from workbench.jobs.prepare import Prepared
from workbench.materials.models import layer_of, softcap
from workbench.materials.region import Values
from workbench.materials.rounded import matrices
from workbench.methods.contracts import Attachment


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


def warm(prepared: Prepared, spec: TrainSpec, attachment: Attachment) -> Iterator[Progress]:
    """Compile what the steps and the evaluations of a run will launch, before a clock runs: Triton does so at a kernel's first launch,
    which would belong to a step. Nothing where no kernel is launched, as on a CPU. A probe warms up at its first reading, which no
    budget counts.
    """
    model, numbers = prepared.model, prepared.numbers
    if pick(model.get_input_embeddings().weight) == "reference":
        return
    calls = [*rehearsing.rehearsals(model, numbers).values(), *_head_calls(model, spec), *_part_calls(attachment)]
    for done, call in enumerate(calls):
        yield Progress(done, len(calls), "compiling kernels")
        products = torch.autocast(model.device.type, numbers, enabled=numbers != torch.float32)
        with products, torch.set_grad_enabled(not spec.update.forward_only):
            call()


def _head_calls(model: PreTrainedModel, spec: TrainSpec) -> Iterator[Callable[[], object]]:
    """The loss of a step and that of an evaluation, of two tokens over a few words: of the vocabulary's size a kernel knows only whether
    it is a multiple of 16."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return
    words, cap = 16 + len(head.weight) % 16, softcap(model)
    hidden = torch.zeros(2, head.in_features, dtype=head.weight.dtype, device=model.device, requires_grad=True)
    labels = torch.zeros(2, dtype=torch.long, device=model.device)
    given = [hidden, head.weight[:words], *([] if head.bias is None else [head.bias[:words]])]

    def logp(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, entropy: bool = False) -> Tensor:
        return linear_cross_entropy(hidden, weight, labels, bias, cap, entropy=entropy).logp

    if not reads_table(spec.loss):
        yield partial(rehearsing.both_ways, partial(logp, entropy=spec.loss.entropy_over() == 0), given)
    if spec.loss.alone():
        yield torch.no_grad()(partial(logp, *given))


def _part_calls(attachment: Attachment) -> Iterator[Callable[[], object]]:
    """The gradient of a part of a weight and its step by AdamW. Of a count a kernel knows no more than of a vocabulary's size."""
    parts = [own.part for _, own in attachment.trained() if isinstance(own, Values) and own.part.has_kernels()]
    kinds = {(part.values.numel() % 16 > 0, part.weight.dtype, part.weight.device): None for part in parts}
    yield from (partial(_step_of_part, 16 + odd, dtype, device) for odd, dtype, device in kinds)


def _step_of_part(count: int, dtype: torch.dtype, device: torch.device) -> None:
    weight, places = torch.zeros(count, dtype=dtype, device=device), torch.arange(count, device=device)
    values, moment, square = (torch.zeros(count, device=device) for _ in range(3))
    gradient, rates = grad_gather(weight, places), {"lr": 0.0, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "decay": 0.0, "step": 1}
    adamw_scatter(weight, values, places, gradient, moment, square, **rates)


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
    packed = {id(module.weight): module.in_features * module.out_features for _, module in matrices(model)}
    for weight, share in [*inside, (model.get_output_embeddings().weight, learnt)]:
        count = packed.get(id(weight), weight.numel())
        yield 2.0 * count * share * (passes if weight.requires_grad else min(passes, 2))


def _attention(model: PreTrainedModel, length: float) -> float:
    """Operations a token of causal attention over rows of so many tokens; its backward pass takes 2.5 times as many."""
    config = model.config
    head = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
    return 2.0 * length * head * config.num_attention_heads * config.num_hidden_layers
