"""What a training run will move, hold in memory and write to disk, before it starts.

Knows the model's shape only (meta device) and loads no weights. Weights, optimizer state and files follow from counts. What
comes and goes within a step is counted tensor by tensor for a decoder of attention and MLP blocks, with the longest rows together
in a batch; `benchmarks/memory.py` holds it against real steps on a CPU in both precisions, `four_bits.py` beside a base in 4 bits. It was
not measured on a GPU. What it does not know: mixtures of experts (counted as dense), what a probe needs, what an allocator keeps for
itself, and what loading takes beside.
"""

import contextlib
import functools
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from workbench_kernels.linear_cross_entropy import BLOCK, FEW, ROWS

from workbench.core.errors import WorkbenchError
from workbench.core.method import shelf
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.machine import memory_total
from workbench.jobs.objective import reads_table
from workbench.materials.models import POCKET, available, layer_of, resolve, skeleton
from workbench.materials.precision import place
from workbench.materials.rounded import BYTES
from workbench.methods.contracts import Cost

FLOAT = torch.float32.itemsize
ANSWERS = 0.5  # share of a row's tokens that are answers, typically
EVALUATED = 16  # rows in one forward pass of an evaluation
TABLES = 3  # of log-probabilities at the start of the backward pass: the table, its gradient, and that of the logits


@dataclass(frozen=True)
class Estimate:
    """`by_module`: (module, layer or -1, parameters that move, parameters there); `memory`: (item, bytes) at the fullest moment.

    That moment is the start of the backward pass for most runs, and the optimizer's step or an evaluation for some; what
    is not held then (the gradients, where one batch makes a step) is not among the items.
    """

    trained: int
    total: int
    by_module: list[tuple[str, int, int, int]]
    memory: list[tuple[str, int]]
    machine_bytes: int

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.memory)


@dataclass(frozen=True)
class Disk:
    """Bytes: one checkpoint (what was learnt and the optimizer's state), the adapter or model at the end, what is free now, and what an
    adapter that looks before it learns has found."""

    checkpoint: int
    artifact: int
    free: int
    studied: int = 0

    @property
    def kept(self) -> int:
        return self.checkpoint + self.artifact + self.studied

    @property
    def most(self) -> int:
        """While a file is written, the one that it replaces still lies there."""
        return self.checkpoint + max(self.checkpoint, self.artifact) + self.studied


@dataclass(frozen=True)
class Rows:
    """What is known of the rows: tokens of the longest after the cut, and the share of all tokens that is learnt."""

    longest: int
    learnt: float

    @classmethod
    def of(cls, spec: TrainSpec) -> "Rows":
        """Before any row is read: all as long as allowed."""
        return cls(spec.data.max_length, 1.0 if spec.data.train_on == "everything" else ANSWERS)


@dataclass(frozen=True)
class Numbers:
    """How wide things are: whether matrices multiply in half precision, and bytes of a mark of what dropout dropped."""

    half: bool
    noise: int

    @property
    def width(self) -> int:
        return 2 if self.half else FLOAT


def estimate(spec: TrainSpec, workspace: Workspace, rows: Rows | None = None) -> Estimate:
    """The cost of `spec` on this machine; wrong references and impossible adapters are `WorkbenchError`s."""
    path = resolve(spec.model, workspace).path
    model = skeleton(path)
    cost = spec.adapter.cost(model)
    device, dtype = place(spec.precision, "" if spec.adapter.whole else path)
    numbers = Numbers(half=dtype != torch.float32, noise=dtype.itemsize if device.type == "cpu" else 1)
    whole = spec.adapter.whole
    memory = [
        ("weights", _weights(model, spec, cost.total, dtype)),
        ("copy of the start", FLOAT * cost.moved if whole and device.type == "cpu" else 0),  # it lies in main memory
        ("adapter", 0 if whole else spec.adapter.held * cost.trained + FLOAT * cost.beside),
        ("optimizer", (spec.update.bytes_per_parameter() + spec.update.bytes_of_average()) * cost.trained),
        *max(_moments(model, spec, cost, rows or Rows.of(spec), numbers), key=lambda moment: sum(size for _, size in moment)),
    ]
    if device.type == "cpu":  # they share the memory, where GPUs have each their own
        memory.append(("the other processes", (spec.processes - 1) * sum(size for _, size in memory)))
    return Estimate(cost.trained, cost.total, cost.by_module, [(item, size) for item, size in memory if size], memory_total())


def disk(spec: TrainSpec, workspace: Workspace) -> Disk:
    """What the run will write, and what is free where the workspace lies."""
    cost = spec.adapter.cost(skeleton(resolve(spec.model, workspace).path))
    each = FLOAT if spec.adapter.whole else spec.adapter.held
    learnt = each * cost.moved + FLOAT * cost.beside
    kept = 2 * learnt if spec.stop.keep_best else learnt  # as it is, and as it was at its best
    checkpoint = kept + (spec.update.bytes_per_parameter() + spec.update.bytes_of_average()) * cost.trained
    saved = FLOAT * cost.saved or spec.adapter.stored * cost.trained
    artifact = FLOAT * cost.total if spec.adapter.whole else saved
    return Disk(checkpoint, artifact, shutil.disk_usage(workspace.database.parent).free, cost.studied)


def shared(one: Estimate, other: Estimate) -> float:
    """The share of what the one moves that lies in modules of which the other moves something too, layer by layer."""
    there = {(module, layer) for module, layer, moved, _ in other.by_module if moved}
    return sum(moved for module, layer, moved, _ in one.by_module if (module, layer) in there) / max(1, one.trained)


def shares(reference: str, workspace: Workspace) -> dict[str, float]:
    """Of each adapter with its defaults, the share of the model's numbers that would move; those that do not fit the model are left out.

    Raises:
        WorkbenchError: there is no such model.
    """
    return _shares(resolve(reference, workspace).path)


@functools.lru_cache(maxsize=8)
def _shares(path: str) -> dict[str, float]:
    model, found = skeleton(path), dict[str, float]()
    for name, method in shelf("adapters").items():
        with contextlib.suppress(WorkbenchError):
            cost = method().cost(model)  # type: ignore[attr-defined]
            found[name] = cost.trained / cost.total
    return found


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """The base models that can be chosen without typing, as (reference, label)."""
    return [(choice.reference, choice.label) for choice in available(workspace)]


def _weights(model: PreTrainedModel, spec: TrainSpec, total: int, dtype: torch.dtype) -> int:
    """Bytes of the base's numbers; of matrices in 4 bits with the largest of them unpacked, as it is whenever it is multiplied with."""
    width = FLOAT if spec.adapter.whole else dtype.itemsize
    if spec.quantization == "none":
        return width * total
    sizes = [module.weight.numel() for _, module in _matrices(model)]
    return width * (total - sum(sizes) + max(sizes)) + int(BYTES * sum(sizes))


# What comes and goes within a step.


def _moments(model: PreTrainedModel, spec: TrainSpec, cost: Cost, rows: Rows, numbers: Numbers) -> Iterator[list[tuple[str, int]]]:
    """The moments at which memory may be fullest, each with what is held then beside what always is."""
    gradients, config = FLOAT * cost.trained, model.config
    length = spec.data.max_length if spec.packing else rows.longest
    tokens = spec.batch_size * length
    head, left = (size / tokens for size in _head(model, spec, tokens * rows.learnt, numbers))
    before = gradients if spec.accumulate > 1 else 0  # of the batches before
    copied = sum(module.weight.numel() for _, module in _matrices(model)) if spec.adapter.whole else cost.trained + cost.beside
    block, after = _block(model, spec, length, numbers)
    beside = 0 if spec.adapter.whole else _adapted(model, spec, cost, numbers)
    blocks = max(config.num_hidden_layers, 1 + max(layer for _, layer, *_ in cost.by_module))  # some adapters add some
    inputs = config.hidden_size * FLOAT
    if spec.recompute:  # only each block's input is kept; the block at work is there whole, with the gradients of its MLP
        at_work = block + beside / config.num_hidden_layers + 2 * (config.hidden_size + _inner(model)) * numbers.width
        held = blocks * inputs + max(head, at_work + left)
    else:
        held = max(0, blocks - _untouched(cost, blocks)) * block + beside + after + head
    passing = (4 * config.hidden_size + 3 * _inner(model)) * numbers.width  # what a block holds where nothing is kept for a backward pass
    if spec.update.forward_only:
        held, gradients, before = passing + head, 0, 0
    yield [("activations", int(tokens * held)), ("gradients", before), ("weights in half precision", 2 * copied if numbers.half else 0)]
    yield [("gradients of the embeddings", numbers.width * cost.gathered)]
    watched = any(probe.when == "step" for probe in spec.probes)  # the parameters before the step, then how far they went
    yield [("gradients", gradients), ("copies to measure the step", FLOAT * cost.trained if watched else 0)]
    if spec.data.validation_share or spec.known or spec.model == POCKET:
        known = bool(spec.known) or spec.model == POCKET  # rows that must not be forgotten, which were not read here; compared by tables
        tokens = EVALUATED * (spec.data.max_length if known else rows.longest)
        learnt = tokens * rows.learnt
        told = TABLES * FLOAT * config.vocab_size * learnt if known else _slice(config.vocab_size, learnt, numbers)
        yield [("evaluation", int(tokens * passing + told))]


def _head(model: PreTrainedModel, spec: TrainSpec, learnt: float, numbers: Numbers) -> tuple[float, float]:
    """Bytes of the head's work on so many learnt tokens, and what is left of it when the last block is worked on. Tables over the
    vocabulary where the loss wants them; else a slice of one, what is handed back to each token, and the gradient of a head that learns."""
    vocabulary, hidden = model.config.vocab_size, model.config.hidden_size
    if reads_table(spec.loss):
        table = FLOAT * vocabulary * learnt
        return TABLES * (2 if spec.loss.needs_base() else 1) * table, table
    own = FLOAT * vocabulary * hidden if spec.adapter.whole else learnt * hidden * numbers.width
    own = 0 if spec.update.forward_only else own
    products = learnt * vocabulary * numbers.width  # which a head that learns keeps where they are few
    kept = products if spec.adapter.whole and not spec.update.forward_only and products <= FEW else 0
    return _slice(vocabulary, learnt, numbers) + own + kept, own


def _slice(vocabulary: int, learnt: float, numbers: Numbers) -> float:
    """Bytes of the logits that `linear_cross_entropy` holds at a time: a slice, and of a part of it the probabilities, in float32."""
    logits = learnt / max(1, math.ceil(learnt / ROWS)) * vocabulary
    return logits * numbers.width + (2 if numbers.half else 1) * FLOAT * min(logits, max(vocabulary, BLOCK))


def _untouched(cost: Cost, blocks: int) -> int:
    """How many blocks keep nothing for the backward pass, because nothing moves in them or below them."""
    lowest = [layer for _, layer, moved, _ in cost.by_module if moved and layer >= 0]
    outside = any(moved and layer < 0 and "norm" not in module for module, layer, moved, _ in cost.by_module)  # as the embeddings
    return 0 if outside else min(lowest, default=blocks) + cost.late


def _block(model: PreTrainedModel, spec: TrainSpec, length: int, numbers: Numbers) -> tuple[float, float]:
    """Bytes a token that one block keeps for the backward pass, and that the final norm and the head keep.

    The residual stream as both norms read it, the heads' queries, keys, values and what attention makes of them, and the MLP's
    inner tensors; of whole tuning the inputs of the matrices too. Where rows are filled up or packed, keys and values are spread over all
    heads and each block keeps a mask of T numbers a token.
    """
    config = model.config
    given = config.to_dict()
    heads, width = config.num_attention_heads, numbers.width
    head = given.get("head_dim") or config.hidden_size // heads
    hidden, inner, queries = config.hidden_size, _inner(model), heads * head
    masked = spec.packing or spec.batch_size > 1
    keys = queries if masked else (given.get("num_key_value_heads") or heads) * head
    mask = length if masked else 0
    gated = 3 if _gated(model) else 1
    always = 2 * hidden * FLOAT + (2 * queries + 2 * keys + mask + gated * inner) * width
    if not spec.adapter.whole:
        return always, 2 * hidden * FLOAT
    normed = 2 * hidden * FLOAT + (5 if numbers.half else 2) * hidden * width  # autocast copies it for each matrix
    return always + normed + inner * width, 3 * hidden * FLOAT


def _adapted(model: PreTrainedModel, spec: TrainSpec, cost: Cost, numbers: Numbers) -> float:
    """Bytes a token that all adapted matrices keep: their inputs, and what stands between their two factors.

    With dropout each keeps what was left of its input, and marks of what was dropped, where what it reads has been moved: not the lowest,
    but for the end of their module. Without it inputs are shared. Where there are no two factors, the adapter says what it keeps.
    """
    if cost.kept:
        return cost.kept * numbers.width
    moved = {(module, layer): trained for module, layer, trained, _ in cost.by_module if trained}
    found = [(name, module, moved.get((name.rpartition(".")[2], layer_of(name + ".")), 0)) for name, module in _matrices(model)]
    adapted = [(name, _reads(module), trained / sum(module.weight.shape)) for name, module, trained in found if trained]
    inputs, ranks = sum(reads for _, reads, _ in adapted), sum(rank for *_, rank in adapted)
    if spec.adapter.model_dump().get("dropout"):
        ends, lowest = {name.rpartition(".")[0]: name for name, *_ in found}.values(), adapted[0][0].rpartition(".")[0] + "."
        marked = inputs - sum(reads for name, reads, _ in adapted if name.startswith(lowest) and name not in ends)
        return inputs * numbers.width + marked * numbers.noise + ranks * numbers.width
    return numbers.width * (ranks + sum(reads for _, reads in {(name.rpartition(".")[0], reads) for name, reads, _ in adapted}))


def _matrices(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The matrices inside the blocks, by name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if not list(module.children()) and layer_of(name + ".") is not None and "weight" in module._parameters and module.weight.ndim == 2
    ]


def _reads(module: nn.Module) -> int:
    """How wide the input of a matrix is; transformers' Conv1D is stored the other way round."""
    rows, columns = module.weight.shape
    return columns if isinstance(module, nn.Linear) else rows


def _inner(model: PreTrainedModel) -> int:
    return model.config.to_dict().get("intermediate_size") or 4 * model.config.hidden_size


def _gated(model: PreTrainedModel) -> bool:
    """Whether the MLP multiplies two of its tensors, as most models since Llama do."""
    first = [module.weight.numel() for name, module in _matrices(model) if layer_of(name + ".") == 0]
    return sum(size == model.config.hidden_size * _inner(model) for size in first) != 2
