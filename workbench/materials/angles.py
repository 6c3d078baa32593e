"""Lengths and angles of models and task vectors, from their inner products alone.

What it is not: the inner products (`materials/tensors.task_gram`), or what a merge makes of an angle (`methods/merges/`).
"""

import torch
from torch import Tensor


def model_products(gram: Tensor) -> Tensor:
    """(1 + M, 1 + M) inner products of θ₀ and the M models themselves, from the (1 + M, 1 + M) ones of θ₀ and the task vectors.

    What is zero but for the sums' last digits is zero.
    """
    inner, along = gram.clone(), gram[0].clone()
    inner[0], inner[:, 0], along[0] = 0, 0, 0
    found = gram[0, 0] + along[:, None] + along + inner
    sure = found.diagonal() > 1e-12 * (gram[0, 0] + gram.diagonal())
    return torch.where(sure[:, None] & sure, found, 0.0)


def mean_cosine(products: Tensor) -> Tensor:
    """(…,) mean cosine over the pairs of M ≥ 2 vectors from their (…, M, M) inner products; a zero vector has cosine 0 with all."""
    norms = products.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    scale = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    cosines = torch.where(scale > 0, products / scale, 0.0)
    first, second = torch.triu_indices(norms.shape[-1], norms.shape[-1], offset=1, device=norms.device)
    return cosines[..., first, second].mean(-1).clamp(-1, 1)


def steady(numbers: Tensor) -> Tensor:
    """32 binary digits of each: block sums that differ in the last digit of float64 must not change a byte."""
    digits, power = torch.frexp(numbers)
    return torch.ldexp((digits * 2**32).round(), power - 32)
