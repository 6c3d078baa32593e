"""What a model made of texts, kept on the disk text by text, so that no text is read twice by the same model in the same way.

A folder of chunks, each complete or absent; a text is known by 64 bits of its digest. What was read before a stop or a kill is not lost.
All that is kept in a workspace stays below `MOST`, and what was asked for the longest ago goes first. Knows no model and no row.
"""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

MOST = 8_000_000_000  # bytes: vectors of a million rows by a model of 4,096 numbers [O]
RECENT = 3600.0  # seconds in which nothing goes that was asked for, because a job may be at work with it [O]


def find(folder: Path, digests: Tensor) -> tuple[Tensor, Tensor]:
    """((N,) bool: which of the N digests are known, (K, D) the values of those K, in their order)."""
    wanted = digests.unique()
    chunks = [chunk for path in sorted(folder.glob("*.safetensors")) if (chunk := _opened(path, wanted)) is not None]
    if not chunks:
        return torch.zeros(len(digests), dtype=torch.bool), torch.empty(0, 1)
    held, order = torch.cat([own for own, _ in chunks]).sort(stable=True)
    values = torch.cat([found for _, found in chunks])
    places = torch.searchsorted(held, digests).clamp(max=len(held) - 1)
    known = held[places] == digests
    return known, values[order[places[known]]]


def add(folder: Path, digests: Tensor, values: Tensor) -> None:
    """Keep (n,) int64 digests and their (n, D) values; they are on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(dir=folder, suffix=".coming")
    os.close(handle)
    save_file({"digests": digests.contiguous(), "values": values.contiguous()}, path)
    Path(path).rename(Path(path).with_suffix(".safetensors"))


def prune(kept: Path) -> None:
    """Take away, of all folders of readings in a folder, the chunks that were asked for the longest ago, until at most `MOST` bytes are
    left or the rest is recent."""
    chunks = list[tuple[float, int, Path]]()
    for path in kept.glob("*/*"):
        with suppress(FileNotFoundError):
            state = path.stat()
            chunks.append((state.st_mtime, state.st_size, path))
    total = sum(size for _, size, _ in chunks)
    for used, size, path in sorted(chunks):
        if total <= MOST or time.time() - used < RECENT:
            return
        path.unlink(missing_ok=True)
        total -= size


def _opened(path: Path, wanted: Tensor) -> tuple[Tensor, Tensor] | None:
    """Digests and values of a chunk that are wanted; None where there are none, or where it is damaged: its texts are then read anew."""
    try:
        with safe_open(path, "pt") as chunk:
            digests = chunk.get_tensor("digests")
            here = torch.isin(digests, wanted)
            if not here.any():
                return None
            with suppress(OSError):  # it may be another's file
                os.utime(path)
            return digests[here], chunk.get_tensor("values")[here]
    except (OSError, SafetensorError):
        return None
