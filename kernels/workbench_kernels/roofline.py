"""How much arithmetic and memory traffic an op or a training step needs at least, and what time a machine needs for that: its floor.

After the roofline of Williams, Waterman and Patterson (doi:10.1145/1498765.1498785); the counts are ours. A product of (M, K) and (K, N) is
2MNK operations, and what it reads and writes is hidden behind them. Everything else is the numbers that it must read and write once, and
its few operations are hidden behind those. A step is that of ops fused as here: a causal attention that skips what is masked, packed
sequences without padding, logits a chunk at a time, nothing computed twice but the scores and SwiGLU's output. The optimizer's traffic
comes once a step and not with every token: it stands apart.

Letters: `rows` tokens, `width` D, `ff` the MLP's inner width, `vocabulary` V, `size` bytes of a number.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

SIDE, COPIED = (512, 4096), (2**25, 2**28)  # of square matrices, and bytes (more than a cache holds): on a CPU, and elsewhere
SAMPLES, SAMPLE = 5, 2e-3  # a ceiling is the median of so many samples of so many seconds


@dataclass(frozen=True)
class Ceilings:
    """What a machine does at best, as measured on it."""

    flops: float  # operations of a matrix product in a second
    bytes_per_s: float  # of a copy, read and written counted


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and bytes read and written."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times)


class Passes(NamedTuple):
    """An op's two passes."""

    forward: Work
    backward: Work


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama kind: `heads` of queries and `kv` of keys and values, each `head` wide."""

    layers: int
    width: int
    ff: int
    heads: int
    kv: int
    head: int
    vocabulary: int

    def linears(self) -> list[tuple[int, int]]:
        """(out, in) of a layer's seven matrices."""
        queries, keys = self.heads * self.head, self.kv * self.head
        attention = [(queries, self.width), (keys, self.width), (keys, self.width), (self.width, queries)]
        return [*attention, (self.ff, self.width), (self.ff, self.width), (self.width, self.ff)]


def rms_norm(rows: int, width: int, size: int = 2) -> Passes:
    """x in, y out; then dy and x in, dx out."""
    return Passes(*(Work(bytes=count * size * rows * width) for count in (2, 3)))


def residual(rows: int, width: int, size: int = 2) -> Passes:
    """Two in, their sum out; and the same with the two gradients that meet there."""
    return Passes(*(Work(bytes=count * size * rows * width) for count in (3, 3)))


def swiglu(rows: int, ff: int, size: int = 2, again: bool = False) -> Passes:
    """gate and up in, h out; then dh, gate and up in, both gradients out. `again`: and h once more, which so need not be kept."""
    return Passes(*(Work(bytes=count * size * rows * ff) for count in (3, 6 if again else 5)))


def qk_rope(rows: int, heads: int, kv: int, head: int, size: int = 2, normed: bool = False) -> Passes:
    """q and k in and out; and the same backward, with q and k once more where they are `normed`."""
    return Passes(*(Work(bytes=count * size * rows * (heads + kv) * head) for count in (2, 3 if normed else 2)))


def linear(rows: int, out: int, into: int, learns: bool = False) -> Passes:
    """y = xWᵀ; then dx, and dW where the weight `learns`."""
    product = Work(2 * rows * out * into)
    return Passes(product, product * (2 if learns else 1))


def lora(rows: int, out: int, into: int, rank: int, size: int = 2) -> Passes:
    """What LoRA adds to a linear layer: two thin products, four backward, and the sum into y, with as much again for dx."""
    thin = Work(2 * rows * rank * (out + into))
    traffic = Work(bytes=2 * size * rows * out)
    return Passes(thin + traffic, thin * 2 + traffic)


def attention(rows: int, length: int, heads: int, kv: int, head: int, size: int = 2) -> Passes:
    """Causal, within sequences of `length`: a token meets half of it on average. Backward computes the scores anew: five products for two.
    About four passes over q, k and v in all, of which three are backward."""
    products = Work(2 * rows * length * heads * head)
    traffic = Work(bytes=size * rows * (heads + 2 * kv) * head)
    return Passes(products + traffic, products * 2.5 + traffic * 3)


def linear_cross_entropy(rows: int, width: int, vocabulary: int, size: int = 2, learns: bool = False) -> Passes:
    """Of supervised rows: the logits' product and its way back, and dW where the head `learns`. A chunk of logits is written and read,
    read once more and written as its gradient, and that is read: five passes. The forward pass alone is what per-token statistics cost."""
    product, logits = Work(2 * rows * width * vocabulary), Work(bytes=size * rows * vocabulary)
    return Passes(product + logits * 2, product * (2 if learns else 1) + logits * 3)


def logit_spread(rows: int, width: int, vocabulary: int, moves: bool = False) -> Work:
    """The logits and their derivative; one product more where the head `moves`."""
    return Work(2 * rows * width * vocabulary * (3 if moves else 2))


def adamw(entries: int) -> Work:
    """float32 value, gradient and both moments in; value and moments out."""
    return Work(bytes=28 * entries)


def masked_adamw(entries: int, size: int = 2, place: int = 8) -> Work:
    """The gradient taken out by places of `place` bytes, the step, and the values put into the weight."""
    return Work(bytes=(size + place + 4) * entries) + adamw(entries) + Work(bytes=(place + size) * entries)


def sinkhorn(batch: int, rows: int, columns: int, iterations: int, size: int = 4) -> Work:
    """The costs twice an iteration."""
    return Work(bytes=2 * size * batch * rows * columns * iterations)


def step(shape: Shape, rows: int, length: int, rank: int = 0, supervised: float = 1.0, size: int = 2) -> dict[str, Work]:
    """A step's parts by name, without the optimizer: `rows` tokens packed into sequences of `length`, of which the share `supervised` has
    a label. rank 0: all weights are tuned; else LoRA of that rank on all seven matrices of a layer, and nothing beside it learns."""
    full = rank == 0
    layers = {
        "linears": [linear(rows, *matrix, learns=full) for matrix in shape.linears()],
        "adapters": [lora(rows, *matrix, rank, size) for matrix in shape.linears() if not full],
        "attention": [attention(rows, length, shape.heads, shape.kv, shape.head, size)],
        "norms": [rms_norm(rows, shape.width, size)] * 2,
        "residuals": [residual(rows, shape.width, size)] * 2,
        "activation": [swiglu(rows, shape.ff, size, again=True)],
        "positions": [qk_rope(rows, shape.heads, shape.kv, shape.head, size)],
    }
    found = {name: total(one for both in ops for one in both) * shape.layers for name, ops in layers.items()}
    return found | {"head": total(linear_cross_entropy(1, shape.width, shape.vocabulary, size, learns=full)) * (supervised * rows)}


def total(works: Iterable[Work]) -> Work:
    return sum(works, Work())


def floor_seconds(work: Work, ceilings: Ceilings) -> float:
    """Where arithmetic and traffic run beside each other, as they may within one op."""
    return max(work.flops / ceilings.flops, work.bytes / ceilings.bytes_per_s)


def serial_seconds(work: Work, ceilings: Ceilings) -> float:
    """Where they run one after the other, as the ops of a step do."""
    return work.flops / ceilings.flops + work.bytes / ceilings.bytes_per_s


def share_of_floor(seconds: float, work: Work, ceilings: Ceilings) -> float:
    """How near to its serial floor a step came that took so long: 1 is as fast as can be."""
    return serial_seconds(work, ceilings) / seconds if seconds else math.nan


def measured_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Both ceilings of this device, for products in this number format; about 20 ms of measuring, and as much of warming up.

    The numbers multiplied are random: a chip draws more power for them than for zeros, and slows down.
    """
    side, copied = (sizes[device.type != "cpu"] for sizes in (SIDE, COPIED))
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    source, copy = (torch.ones(copied, dtype=torch.uint8, device=device) for _ in range(2))  # zeros would be one page, read again and again
    return Ceilings(
        2 * side**3 / _seconds(lambda: torch.mm(a, b, out=product), device),
        2 * copied / _seconds(lambda: copy.copy_(source), device),
    )


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run. Each sample is of as many runs as fill it, so that waiting for the device costs little."""

    def taken(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return (time.perf_counter() - began) / times

    taken(1)
    times = max(1, math.ceil(SAMPLE / max(taken(1), 1e-9)))
    return statistics.median(taken(times) for _ in range(SAMPLES))
