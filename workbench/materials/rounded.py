"""A frozen base whose matrices are held in 4 bits while an adapter learns beside them, by bitsandbytes.

QLoRA: Efficient Finetuning of Quantized LLMs, arXiv:2305.14314. Each number becomes one of sixteen of a normal distribution (NF4), times
the largest of its block of 64; these largest are rounded in turn, to 8 bits (double quantization) [P]. Embeddings, norms and the head stay
as they are. Whenever a matrix is multiplied with, it is unpacked, forwards and backwards, and thrown away.

What it is not: a model on the disk in 4 bits, though such a folder is treated alike once it is open; or a way to train the matrices
themselves. Tags as in the project's notes: [P] the paper, [R] read in bitsandbytes 0.50.2 (nn/modules.py, autograd/_functions.py), [V]
measured by us.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from workbench.core.errors import WorkbenchError

if TYPE_CHECKING:  # its model code takes seconds to import, and a merge has no use for it
    from transformers import BitsAndBytesConfig

BLOCK = 64  # numbers that are rounded together
BYTES = (4 + 8 / BLOCK + 32 / (256 * BLOCK)) / 8
"""Of a number in 4 bits: its own, 8 bits for each block, and 32 for each 256 of these."""
STORED = "bitsandbytes"


def uninstalled() -> str:
    """What to do before anything can be held in 4 bits; empty where nothing is."""
    if importlib.util.find_spec(STORED):
        return ""
    return "A base in 4 bits needs the package bitsandbytes. Run pip install bitsandbytes, or set quantization to none."


def settings(numbers: torch.dtype) -> BitsAndBytesConfig:
    """What transformers is told when it loads a model. `numbers`: those of the arithmetic.

    Raises:
        WorkbenchError: bitsandbytes is not installed.
    """
    if uninstalled():
        raise WorkbenchError(uninstalled())
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=numbers)


def stored_so(config: Mapping[str, Any]) -> str:
    """By what a model of this configuration was rounded before it was saved, as it says itself; empty where it was not."""
    stored = config.get("quantization_config")
    return str(dict(stored).get("quant_method") or "its config says so") if stored else ""


def unfit(model: nn.Module) -> str:
    """Why the matrices of a model (it may lie on the meta device) cannot be held in 4 bits here; empty where they can. On a CPU
    bitsandbytes unpacks rows wrongly that are no whole number of blocks [V]."""
    odd = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module.in_features % BLOCK]
    if not odd or torch.cuda.is_available():
        return ""
    return (
        f"{odd[0]} has rows of {model.get_submodule(odd[0]).in_features} numbers, and without a GPU only rows of a multiple of {BLOCK} can "
        "be held in 4 bits. Set quantization to none."
    )


def steady(model: nn.Module) -> None:
    """Make a model that has just been loaded fit to be trained beside. bitsandbytes would pack its matrices anew when it first answers on a
    CPU, and from then on no gradient passes through them, silently [V].

    Raises:
        WorkbenchError: it cannot be held in 4 bits here.
    """
    for _, module in matrices(model):
        if unfit(model):
            raise WorkbenchError(unfit(model))
        module.support_avx512bf16_for_cpu = False


def matrices(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every module that holds its matrix in 4 bits, by name. Where nobody has imported bitsandbytes yet, there are none."""
    kind = sys.modules["bitsandbytes.nn"].Linear4bit if "bitsandbytes.nn" in sys.modules else None
    for name, module in model.named_modules():
        if type(module) is kind:
            yield name, module


@contextmanager
def unpacked(model: nn.Module) -> Iterator[None]:
    """For the length of a `with` every such module computes with plain products, which have a forward derivative."""
    held = [module for _, module in matrices(model)]
    for module in held:
        module.forward = partial(_product, module)
    try:
        yield
    finally:
        for module in held:
            del module.forward


def full(module: Any) -> Tensor:
    """(m, n) the numbers that a module's 4 bits stand for, in float32."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, module.weight.quant_state).float()


def _product(module: Any, x: Tensor) -> Tensor:
    return linear(x, full(module).to(x.dtype), module.bias)
