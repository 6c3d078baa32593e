"""Random numbers that belong to a place: each element of a tensor has its own, whatever is read with it and in which order.

A generator's numbers depend on how many were drawn before, so a merge in other blocks or with more threads would be another merge.
Here the number of an element follows from the seed, the tensor's name and the element's place alone: SplitMix64's mixing
[Steele, Lea and Flood, OOPSLA 2014] of a counter. Not for secrets.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_STEP = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
_FIRST = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_SECOND = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def uniform(seed: int, name: str, first: int, shape: Sequence[int]) -> Tensor:
    """(shape) float32 in [0, 1) for the elements from place `first` on, in the order of their places; 24 random bits each."""
    start = int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "little", signed=True)
    count = torch.Size(shape).numel()
    mixed = (torch.arange(first + 1, first + 1 + count) * _STEP).add_(start)
    mixed = (mixed ^ _shifted(mixed, 30)).mul_(_FIRST)
    mixed = (mixed ^ _shifted(mixed, 27)).mul_(_SECOND)
    mixed ^= _shifted(mixed, 31)
    return (_shifted(mixed, 40).float() / (1 << 24)).reshape(shape)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """A logical shift to the right; torch's carries the sign along."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
