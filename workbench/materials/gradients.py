"""What a row would teach a model, as numbers: the gradient of its loss on a small LoRA, sketched to a fixed width.

A row's loss is the mean over its learnt tokens, as the trainer encodes them. The LoRA lies beside the query and value matrices of a frozen
model, W' = W + (α/r)·B·A with A as peft begins it and B = 0. Each row of a batch gets its own copy of A and B, so that one way forth and
back gives the gradient of each. The model's weights do not move and get no gradients.

At B = 0 only B has a gradient, and it is that of W seen through A: r random directions of it. A warm-up moves both, and leaves the moments
of Adam, whose next step for a row is then its Adam direction (β₁m + (1−β₁)g) / √(β₂v + (1−β₂)g² + ε), without bias correction, ε inside
of the root [R].

The sketch deals the P numbers of a gradient, each with a random sign, out into `WIDTH` heaps in a random order; the sums of the heaps are
what is kept. It is a count-sketch whose heaps are of one size [O]. The inner product of two sketches is on average that of the gradients,
and off by about ‖g‖‖h‖/√WIDTH [K].

What it is not: a choice of rows, or a reading that is kept on the disk (`around.py`). Tags as in the project's notes: [R] read in the
published code of LESS (princeton-nlp/LESS), [K] known, [O] our own choice.
"""

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.materials.corpus import digest
from workbench.materials.low_rank import ATTENTION
from workbench.materials.models import label_table, layer_of
from workbench.materials.packing import IGNORED, pad
from workbench.materials.rows import Chosen, Example, told
from workbench.materials.templates import Encoded, encode_all

VERSION = 1  # to be raised when any number below, or what is done with it, changes: gradients are kept on the disk
RANK, SCALE = 8, 4.0  # r [O] and α/r [R]
WIDTH = 1024  # numbers of a sketch [O]
LONGEST = 1024  # tokens of a row that are read
TOKENS = 2048  # in one pass: on its way back it holds three times as many rows of the vocabulary as tokens are learnt
UP = 1024.0  # the loss is that much larger on the way back, or float16 loses small gradients; a power of two, and so exact
SHARE, LEAST, MOST = 0.05, 32, 1024  # rows of a warm-up: a share of all [R], and how few and how many at most [O]
EPOCHS, BATCH, RATE = 4, 8, 2e-4  # of a warm-up: how often it sees its rows [R], and how it steps [O]
BETAS, EPSILON = (0.9, 0.999), 1e-8
COMPARED = 4096  # rows at once


# Which rows a warm-up is made on.


def drawn(examples: Sequence[Example], seed: int, least: int = LEAST, most: int = MOST) -> Generator[Progress, None, list[Example]]:
    """A twentieth of the rows, but not under `least` where there are as many, nor over `most`; drawn by what they say, copies once.

    A row that comes or goes leaves the draw as it was, mostly, and with it all gradients that were read.
    """
    lots = list[int]()
    for example in examples:
        lots.append(digest(f"{seed} {told(example)}"))
        if len(lots) % 1000 == 0:
            yield Progress(len(lots), len(examples), "rows drawn from")
    held = dict[int, int]()
    for lot, row in heapq.nsmallest(most, zip(lots, count(), strict=False)):
        if lot < SHARE * 2**64 or len(held) < least:
            held.setdefault(lot, row)
    places = sorted(held.values())
    rows = dict(zip(places, Chosen(examples, places), strict=True))
    return [rows[row] for row in held.values()]  # in the order of the lots, whatever the order of the rows


def key(rows: Sequence[Example], seed: int) -> str:
    """What decides a row's gradient beside the row and the model: how it is taken, the warm-up's rows in their order, and the seed."""
    return hashlib.sha256(json.dumps([VERSION, seed, *map(told, rows)]).encode()).hexdigest()[:16]


# Gradients.


def warmed_up(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example], seed: int
) -> Generator[Progress, None, Tensor]:
    """(3, P) on the CPU: the LoRA's numbers after a warm-up on the rows, and Adam's two moments of them; without rows the start and 0."""
    learnt, draw = [row for _, row in _encoded(tokenizer, rows)], torch.Generator().manual_seed(seed)
    factors = nn.Parameter(_start(model, draw).to(model.device))
    optimizer = torch.optim.Adam([factors], RATE, BETAS)
    order = [row for _ in range(EPOCHS) for row in torch.randperm(len(learnt), generator=draw).tolist()]
    for start in range(0, len(order), BATCH):
        yield Progress(start, len(order), "rows of the warm-up")
        batch = [learnt[row] for row in order[start : start + BATCH]]
        factors.grad = of_rows(model, factors.detach(), batch, tokenizer.pad_token_id).mean(0)
        optimizer.param_groups[0]["lr"] = RATE * (1 - start / len(order))
        optimizer.step()
    nothing, held = torch.zeros_like(factors), optimizer.state[factors]
    return torch.stack([factors.detach(), held.get("exp_avg", nothing), held.get("exp_avg_sq", nothing)]).cpu()


class Taught:
    """Reads rows as gradients where a small LoRA stands: `state` is what `warmed_up` made, `adam` asks for the Adam direction instead."""

    def __init__(self, state: Tensor, adam: bool, seed: int):
        self.state, self.adam, self.sketch = state, adam, Sketch(state.shape[1], seed)

    def read(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: list[Example]) -> Tensor:
        """(B, WIDTH) bfloat16 on the CPU: NaN where nothing is learnt or the template refuses a row."""
        found, learnt = torch.full((len(batch), WIDTH), math.nan), _encoded(tokenizer, batch)
        if learnt:
            state = self.state.to(model.device)
            gradients = of_rows(model, state[0], [row for _, row in learnt], tokenizer.pad_token_id)
            if self.adam:
                gradients = adam_direction(gradients, state[1], state[2])
            found[[place for place, _ in learnt]] = self.sketch(gradients).cpu()
        return found.bfloat16()


def of_rows(model: PreTrainedModel, factors: Tensor, rows: Sequence[Encoded], pad_id: int) -> Tensor:
    """(B, P) float32: of each row the gradient of its mean loss, where the LoRA's numbers are `factors` (P,); each learns something."""
    at_once = max(1, TOKENS // max(len(row.ids) for row in rows))
    batches = (pad(rows[start : start + at_once], pad_id) for start in range(0, len(rows), at_once))
    return torch.cat([_of_batch(model, factors, {name: tensor.to(model.device) for name, tensor in batch.items()}) for batch in batches])


@torch.enable_grad()
def _of_batch(model: PreTrainedModel, factors: Tensor, batch: dict[str, Tensor]) -> Tensor:
    labels = batch["labels"][:, 1:]
    learnt = labels != IGNORED
    own = factors.repeat(len(labels), 1).requires_grad_()
    with _beside(model, own):
        table = label_table(model, batch)
    lost = -table.gather(1, labels[learnt][:, None])[:, 0] / learnt.sum(1)[learnt.nonzero()[:, 0]]
    return torch.autograd.grad(lost.sum() * UP, own)[0] / UP


def adam_direction(gradients: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """Which way Adam would step for each of the (B, P) gradients, from its moments (P,) before it."""
    first, second = BETAS
    return (first * mean + (1 - first) * gradients) / (second * square + (1 - second) * gradients**2 + EPSILON).sqrt()


@contextmanager
def _beside(model: PreTrainedModel, own: Tensor) -> Iterator[None]:
    """For the length of a `with`, each row of a batch passes through its own LoRA, the row's P numbers of `own` (B, P)."""
    layers, frozen = _layers(model), [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = iter(own.split([RANK * width for _, *widths in layers for width in widths], 1))
    hooks = [module.register_forward_hook(_added(next(parts), next(parts))) for module, *_ in layers]
    try:
        for parameter in frozen:  # or what their gradients would need is held
            parameter.requires_grad_(False)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)


def _added(down: Tensor, up: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that adds (α/r)·B·A·x, with A from `down` (B, r·n) and B from `up` (B, r·m)."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shown = inputs[0]
        a = down.unflatten(1, (RANK, -1)).to(shown.dtype)
        b = up.unflatten(1, (-1, RANK)).to(shown.dtype)
        return output + SCALE * (shown @ a.mT) @ b.mT

    return hook


def _layers(model: PreTrainedModel) -> list[tuple[nn.Module, int, int]]:
    """The matrices with a LoRA beside them, (module, n inputs, m outputs): query and value; where no matrix has such a name, all of
    attention; where none has one of those, all of the last block."""
    found = [
        (name.rpartition(".")[2], layer, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and (layer := layer_of(name + ".")) is not None
    ]
    if not found:
        raise WorkbenchError(
            f"No gradients can be taken of this {type(model).__name__}: its blocks hold no matrix that a small LoRA could stand beside. "
            "Let another model read the rows."
        )
    named = [[module for name, _, module in found if name in wanted] for wanted in (("q_proj", "v_proj"), ATTENTION)]
    last = [module for _, layer, module in found if layer == max(each for _, each, _ in found)]
    chosen = next(modules for modules in (*named, last) if modules)
    return [(module, *(module.weight.shape if isinstance(module, Conv1D) else module.weight.shape[::-1])) for module in chosen]


def _start(model: PreTrainedModel, draw: torch.Generator) -> Tensor:
    """(P,) of each matrix A, evenly drawn from ±1/√n as peft does, and B, which is 0."""
    parts = list[Tensor]()
    for _, inputs, outputs in _layers(model):
        parts += [torch.rand(RANK * inputs, generator=draw).mul(2).sub(1).div(math.sqrt(inputs)), torch.zeros(RANK * outputs)]
    return torch.cat(parts)


def _encoded(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example]) -> list[tuple[int, Encoded]]:
    """The rows of which anything is learnt, with their places."""
    encoded = enumerate(encode_all(tokenizer, rows, "answers", LONGEST))
    return [(place, row) for place, row in encoded if isinstance(row, Encoded) and any(row.trained[1:])]


# Sketches.


class Sketch:
    """P numbers as `WIDTH`; inner products are kept, to about 1/√WIDTH of the lengths."""

    def __init__(self, size: int, seed: int):
        draw = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(size, generator=draw)
        self.signs = torch.randint(2, (size,), generator=draw).mul(2).sub(1).float()

    def __call__(self, vectors: Tensor) -> Tensor:
        """(B, WIDTH) float32 of (B, P)."""
        dealt = (vectors.float() * self.signs.to(vectors.device))[:, self.order.to(vectors.device)]
        return nn.functional.pad(dealt, (0, -dealt.shape[1] % WIDTH)).unflatten(1, (-1, WIDTH)).sum(1)


def nearest(rows: Tensor, goals: Tensor, unit: bool) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """((N,) the largest inner product of each of (N, D) rows with one of the (G, D) goals, (N,) which goal it is), rows scaled to
    length 1 first where `unit` says so. NaN where a row is NaN."""
    best, which = torch.full((len(rows),), math.nan), torch.zeros(len(rows), dtype=torch.int64)
    for start in range(0, len(rows), COMPARED):
        yield Progress(start, len(rows), "rows compared")
        block = rows[start : start + COMPARED].float()
        found = (nn.functional.normalize(block, dim=1) if unit else block) @ goals.T
        best[start : start + COMPARED], which[start : start + COMPARED] = found.max(1)
    return best, which


def there(gradients: Tensor) -> Tensor:
    """(K,) which rows of a target have gradients; a sentence where none has."""
    found = gradients.isfinite().all(1).nonzero()[:, 0]
    if not len(found):
        raise WorkbenchError("Nothing is learnt of any row of the target, so that no row can lead there. Name one whose rows have answers.")
    return found
