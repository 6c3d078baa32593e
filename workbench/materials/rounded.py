"""A frozen base whose matrices are held in 4 bits while an adapter learns beside them, by bitsandbytes.

QLoRA: Efficient Finetuning of Quantized LLMs, arXiv:2305.14314. Each number becomes one of sixteen of a normal distribution (NF4), times
the largest of its block of 64; these largest are rounded in turn, to 8 bits (double quantization) [P]. Embeddings, norms and the head stay
as they are. Whenever a matrix is multiplied with, it is unpacked, forwards and backwards, and thrown away.

What it is not: a model on the disk in 4 bits, though such a folder is treated alike once it is open; or a way to train the matrices
themselves. Tags as in the project's notes: [P] the paper, [R] read in bitsandbytes 0.50.2 (nn/modules.py, autograd/_functions.py), [V]
measured by us.
"""

from __future__ import annotations

import copy
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
    CPU, and from then on no gradient passes through them, silently [V]. And what was not rounded may lie in the mapped file, which for its
    sake stays in memory as a whole, with every matrix that was read to be rounded: it is copied out [V].

    Raises:
        WorkbenchError: it cannot be held in 4 bits here.
    """
    held = [module for _, module in matrices(model)]
    if held and unfit(model):
        raise WorkbenchError(unfit(model))
    for module in held:
        module.support_avx512bf16_for_cpu = False
    packed = {id(module.weight) for module in held}
    for parameter in model.parameters() if held else ():
        if id(parameter) not in packed and not parameter.is_cuda:
            parameter.data = parameter.data.clone()


def holds(module: nn.Module) -> bool:
    """Whether this very module holds its matrix in 4 bits. Where nobody has imported bitsandbytes yet, none does."""
    return "bitsandbytes.nn" in sys.modules and type(module) is sys.modules["bitsandbytes.nn"].Linear4bit


def matrices(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every module that holds its matrix in 4 bits, by name."""
    yield from ((name, module) for name, module in model.named_modules() if holds(module))


def hand_back(model: nn.Module) -> None:
    """Let every layer that peft put over such a module answer in the number format that it was asked in. That of (IA)³ answers half
    precision in float32 on a CPU [R]: its keys then fit no queries, wherever autocast does not make them alike [V]."""
    for module in model.modules():
        base = module._modules.get("base_layer")
        if base is not None and holds(base):
            module.register_forward_hook(_as_asked)


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


def full(module: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """(m, n) the numbers that a module's 4 bits stand for, rounded to this format at once, as bitsandbytes does for a product [R]."""
    from bitsandbytes.functional import dequantize_4bit

    state = copy.copy(module.weight.quant_state)
    state.dtype = dtype
    return dequantize_4bit(module.weight.data, state)


def as_plain(module: Any, x: Tensor) -> bool:
    """Whether a module makes its product of x in the number format that a plain one would have here."""
    kind = x.device.type
    return module.compute_dtype in (None, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype)


def _as_asked(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    return made.to(given[0].dtype)


def _product(module: Any, x: Tensor) -> Tensor:
    return linear(x, full(module, x.dtype), module.bias)
