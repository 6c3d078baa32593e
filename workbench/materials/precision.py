"""Where models run here, and in which numbers.

On a GPU in half of them. On a CPU in float32, but for training a frozen base that was saved in bfloat16 and is not tiny, where this CPU
multiplies bfloat16 itself: it then stays as it was saved, which rounds no weight and was 1.5 to 2.4 times as fast [M]. float16 is never
chosen for a CPU, where it is several times slower than float32 [M]. What it is not: autocast, which is the training job's.
Tags: [M] measured, `benchmarks/train_cpu.py`.
"""

import functools
import time

import torch

from workbench.materials.models import skeleton

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TINY = 5_000_000  # parameters; below, a step is made of so many small operations that shorter numbers save nothing [M]
WORTH = 1.5  # times as fast, from which a format counts as this CPU's own; others are emulated and slower than float32
SIZE, TRIES = 384, 5  # of the square matrices that are multiplied to find out, and how often: some 20 ms


def place(precision: str = "auto", path: str = "") -> tuple[torch.device, torch.dtype]:
    """The device and the numbers, unless a precision is named. `path`: the model whose weights stay frozen, if that is what it is for."""
    if torch.cuda.is_available():
        half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.device("cuda"), PRECISIONS.get(precision, half)
    if precision in PRECISIONS:
        return torch.device("cpu"), PRECISIONS[precision]
    return torch.device("cpu"), torch.bfloat16 if path and _was_saved_so(path) and multiplies_bfloat16() else torch.float32


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 are worth it on this CPU, by trying: the best of some, taken in turns. Once a process."""
    tried = {dtype: torch.ones(SIZE, SIZE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(tried, float("inf"))
    for turn in range(TRIES + 1):
        for dtype, matrix in tried.items():
            began = time.perf_counter()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.perf_counter() - began) if turn else best[dtype]  # the first also sets up
    return best[torch.float32] >= WORTH * best[torch.bfloat16]


@functools.lru_cache(maxsize=8)
def _was_saved_so(path: str) -> bool:
    """Whether the model was saved in bfloat16 and is not tiny."""
    model = skeleton(path)
    saved = model.config.to_dict().get("dtype")
    return str(saved).removeprefix("torch.") == "bfloat16" and sum(weight.numel() for weight in model.parameters()) >= TINY
