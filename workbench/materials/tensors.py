"""Weights on disk, a block of rows at a time: safetensors read and written in memory that does not grow with the model.

The format is eight bytes of header length, a JSON header, and the tensors' bytes (https://github.com/huggingface/safetensors).
Reading takes one block of rows into a buffer of its own and makes float32 of it; these are plain reads rather than a memory map, so a file
that is cut short is a sentence and not a signal, and resident memory stays flat. Writing puts all headers first into a folder
`NAME.partial`, appends the blocks in the order of the plan, and renames the folder when it is whole. Knows no method and no model family.
"""

import errno
import json
import math
import os
import shutil
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
BLOCK = 1 << 18  # numbers in one block: few enough for the cache, and so many that threads seldom wait for each other's Python
READ = 1 << 19  # numbers that are read from a file at once
SHARD = 2_000_000_000  # bytes
AHEAD = 1 << 26  # bytes after which the disk is asked to keep them while more is computed: so little is left to wait for at the end
_SEGMENT = 1 << 15  # numbers whose inner products are taken in one go: for so few torch uses one thread, so threads change no digit


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: `format` as safetensors writes it (F32, BF16, …), `start` in bytes from the file's beginning."""

    file: Path
    format: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1


@dataclass(frozen=True)
class Planned:
    """One tensor of a file that is going to be written; `size` in bytes."""

    name: str
    format: str
    shape: tuple[int, ...]
    size: int


def spans(shape: Sequence[int], block: int | None = None) -> list[tuple[int, int]]:
    """Ranges of whole rows with about `block` numbers each; a tensor of one dimension or none is never divided."""
    rows, total = (shape[0] if shape else 1), math.prod(shape)
    if len(shape) < 2 or total == 0:
        return [(0, rows)] if total else []
    step = max(1, (block or BLOCK) * rows // total)
    return [(start, min(rows, start + step)) for start in range(0, rows, step)]


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file by name, in the file's order; a damaged file is a `WorkbenchError`."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 0 < length <= min(size - 8, 100_000_000):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _entry(path, name, told, 8 + length, size) for name, told in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WorkbenchError(
            f"{path} is not a whole safetensors file: {' '.join(str(error).split())}. It was probably cut short while it was copied "
            "or downloaded; fetch it again."
        ) from error


def find_tensors(folder: Path, label: str) -> dict[str, Entry]:
    """All tensors of a model folder by name; `label` is what sentences call the model.

    Reads `model.safetensors`, or the shards named in `model.safetensors.index.json`. A folder without weights, and one whose
    weights are pickles (which can run code when opened), are refused.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return read_header(single)
    if index.exists():
        return _sharded(index, label)
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
    if pickles:
        raise WorkbenchError(
            f"{label} holds its weights as {pickles[0]}, a format that can run code when it is opened. "
            "Convert it to safetensors first (save_pretrained of transformers does)."
        )
    raise WorkbenchError(f"{label} has no weights: there is no model.safetensors in {folder}. Copy the weights there.")


def read_raw(entry: Entry, start: int, stop: int, room: Tensor | None = None) -> Tensor:
    """Rows `start` to `stop` of a floating tensor, (stop − start, …), in the file's own number format; `room`: bytes to read into."""
    width = entry.size // entry.rows
    raw = _read(entry, start * width, (stop - start) * width, room)
    return raw.view(FLOATS[entry.format]).reshape((stop - start, *entry.shape[1:]) if entry.shape else ())


def read_rows(entry: Entry, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of a floating tensor as float32; the step from 16 bits is exact."""
    return read_raw(entry, start, stop).float()


def read_bytes(entry: Entry) -> memoryview:
    """The tensor as it stands in the file, for what is copied and never merged."""
    return _read(entry, 0, entry.size).numpy().data


def to_bytes(block: Tensor) -> memoryview:
    """The tensor's own bytes, row after row, as they go to the file."""
    return block.contiguous().reshape(-1).view(torch.uint8).numpy().data


def task_gram(base: Tensor, tuned: Sequence[Tensor], rough: bool = False) -> Tensor:
    """(1 + M, 1 + M) float64 inner products of θ₀ and the M task vectors τ = θ − θ₀, in main memory; those of two blocks of rows add up.

    Every norm and angle between task vectors follows from it. A NaN or Inf anywhere in the block is a NaN or Inf here. `rough` products
    are good to some 1e-6 of the norms and take 0.4 of the time: enough to be shown. On a GPU all are exact, and taken in one go.
    """
    flat = [tensor.reshape(-1) for tensor in (base, *tuned)]
    segment, rough = (_SEGMENT, rough) if base.device.type == "cpu" else (max(1, base.numel()), False)
    total: Tensor = base.new_zeros([len(flat)] * 2, dtype=torch.float64)
    held = base.new_empty(len(flat), min(segment, base.numel()), dtype=torch.float32 if rough else torch.float64)
    for origin, *others in zip(*(tensor.split(segment) for tensor in flat), strict=True):
        vectors = held[:, : origin.numel()]
        start, *tasks = vectors.unbind()
        start.copy_(origin)
        for task, other in zip(tasks, others, strict=True):
            torch.sub(other, origin, out=task) if rough else task.copy_(other).sub_(start)
        total += vectors @ vectors.T
    if rough and not bool(total.isfinite().all()):  # float32 cannot hold the squares of large numbers
        return task_gram(base, tuned)
    return ((total + total.T) / 2).cpu()  # a product of matrices need not be symmetric in its last digit


class ModelWriter:
    """Writes a model folder so that it appears whole or not at all: `with ModelWriter(folder, plan) as writer`.

    A shard holds at most `shard` bytes, or one tensor; `file` is its name where one is enough. `write(name, data)` takes the bytes of a
    planned tensor, one piece after the other; different tensors may be written at the same time by different threads. `commit` makes
    the folder appear. Leaving the `with` block before that, by an error or because the job was stopped, removes every trace. A full
    disk is a `WorkbenchError`.
    """

    def __init__(self, folder: Path, plan: Sequence[Planned], shard: int | None = None, file: str = "model.safetensors"):
        self.folder = folder
        self._file = file
        self.partial = folder.with_name(folder.name + ".partial")
        self.needed = sum(tensor.size for tensor in plan)
        self._shards = _shards(plan, shard or SHARD)
        self._left = {tensor.name: tensor.size for tensor in plan}
        self._next: dict[str, tuple[BinaryIO, int]] = {}  # where the next byte of a tensor goes
        self._files = ExitStack()
        self._writing = threading.Lock()
        self._ahead = 0  # bytes that the disk was not asked to keep yet
        self._keeping: list[Future[None]] = []

    def __enter__(self) -> "ModelWriter":
        shutil.rmtree(self.partial, ignore_errors=True)  # what a killed program left
        if shutil.disk_usage(self.folder.parent).free < self.needed:
            raise self._full()
        self.partial.mkdir()
        for number, shard in enumerate(self._shards):
            file = self._files.enter_context(self._path(number).open("wb"))
            place = file.write(_header(shard))
            for tensor in shard:
                self._next[tensor.name] = file, place
                place += tensor.size
        self._keeper = self._files.enter_context(ThreadPoolExecutor(1))
        return self

    def write(self, name: str, data: memoryview) -> None:
        """The next bytes of the tensor `name`: all of it or some of its rows."""
        file, place = self._next[name]
        with self._writing:
            file.seek(place)
            file.write(data)
            self._ahead += len(data)
            if self._ahead >= AHEAD and all(one.done() for one in self._keeping):
                self._ahead = 0
                self._keeping.append(self._keeper.submit(os.fsync, file.fileno()))
        self._next[name] = file, place + len(data)
        self._left[name] -= len(data)

    def commit(self) -> None:
        """Put the model in its place. Side files that lie in `partial` by now come along."""
        self._files.close()
        for one in self._keeping:
            one.result()  # what the disk refused
        if any(self._left.values()):
            raise AssertionError(f"{sum(self._left.values())} planned bytes of {self.folder.name} were never written")
        if len(self._shards) > 1:
            held = {tensor.name: self._path(number).name for number, shard in enumerate(self._shards) for tensor in shard}
            index = {"metadata": {"total_size": self.needed}, "weight_map": held}
            (self.partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
        for number in range(len(self._shards)):
            with self._path(number).open("rb") as file:
                os.fsync(file.fileno())  # else a power cut may leave the name without its numbers
        if self.folder.exists():
            raise WorkbenchError(f"There is a model called {self.folder.name!r} by now. Choose another name and merge again.")
        self.partial.rename(self.folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # what is still to be written is not wanted any more
            self._files.close()
        shutil.rmtree(self.partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise self._full() from error

    def _path(self, number: int) -> Path:
        count = len(self._shards)
        return self.partial / (self._file if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors")

    def _full(self) -> WorkbenchError:
        free = shutil.disk_usage(self.folder.parent).free
        return WorkbenchError(
            f"There is not enough room on the disk for {self.folder.name!r}: it needs {_megabytes(self.needed)}, and "
            f"{self.folder.parent} has {_megabytes(free)} left. Nothing was kept. Make room, or choose another workspace with --home DIR."
        )


def _entry(path: Path, name: str, told: dict[str, Any], body: int, size: int) -> Entry:
    first, last = told["data_offsets"]
    entry = Entry(path, told["dtype"], tuple(told["shape"]), body + first, last - first)
    if not 0 <= first <= last <= size - body:
        raise ValueError(f"{name} lies beyond the end of the file")
    if entry.format in WIDTHS and entry.size != math.prod(entry.shape) * WIDTHS[entry.format]:
        raise ValueError(f"{name} has {entry.size} bytes, which does not fit its shape {list(entry.shape)}")
    return entry


def _sharded(index: Path, label: str) -> dict[str, Entry]:
    try:
        held = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(held.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkbenchError(f"{index} is not an index of shards. Fetch it again.") from error
    missing = [name for name in files if Path(name).name != name or not (index.parent / name).exists()]
    if missing:
        raise WorkbenchError(f"{label} lacks {', '.join(missing[:3])}, which its index names. Fetch the missing weight files.")
    found = {name: entry for file in files for name, entry in read_header(index.parent / file).items()}
    absent = [name for name in held if name not in found]
    if absent:
        raise WorkbenchError(f"{label} lacks the tensor {absent[0]}, which its index names. Fetch its weight files again.")
    return found


def _read(entry: Entry, offset: int, size: int, room: Tensor | None = None) -> Tensor:
    raw = torch.empty(size, dtype=torch.uint8) if room is None else room[:size]
    with entry.file.open("rb", buffering=0) as file:
        file.seek(entry.start + offset)
        if file.readinto(raw.numpy().data) != size:
            raise WorkbenchError(f"{entry.file} became shorter while it was read. Another program writes to it; try again when it is done.")
    return raw


def _shards(plan: Sequence[Planned], limit: int) -> list[list[Planned]]:
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in plan:
        if shards[-1] and filled + tensor.size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size
    return shards


def _header(shard: Sequence[Planned]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor in shard:
        header[tensor.name] = {"dtype": tensor.format, "shape": list(tensor.shape), "data_offsets": [place, place + tensor.size]}
        place += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the body begins at a multiple of eight bytes
    return struct.pack("<Q", len(text)) + text


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
