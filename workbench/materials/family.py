"""Models of one base, side by side: opening their weights for a merge and saying why they do not belong together.

A member is a model folder, with or without a LoRA or a sparse adapter on top, whose tensors are read as float32 rows. Embeddings: a model
is tied when it has no head tensor of its own; where some members are tied and others not, the tied ones read their head from the
embeddings, so that all have the same tensors. Knows no method; reads and writes no model file but through `tensors`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import Lora, read_lora
from workbench.materials.models import ModelRef
from workbench.materials.singles import Single, holds_singles, read_singles
from workbench.materials.tensors import FLOATS, Entry, find_tensors, read_bytes, read_raw

HEAD = "lm_head.weight"
_HEADS = (HEAD, "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
VOCABULARY = (*_HEADS, *_EMBEDDINGS, "lm_head.bias", "embed_out.bias")  # tensors with a row for each token
_NO_LORA = Lora({}, {})
_BUFFERS = {"BOOL", "I16", "I32", "I64"}  # positions and masks; nothing of what a merge may mix


@dataclass(frozen=True)
class Member:
    """One model of a merge; `entries` say where its tensors lie, `config` is its config.json."""

    label: str
    config: dict[str, Any]
    entries: dict[str, Entry]
    lora: Lora = _NO_LORA
    single: Mapping[str, Single] = field(default_factory=dict, kw_only=True)  # the numbers that a sparse adapter changes

    @property
    def embedding(self) -> str | None:
        return next((name for name in self.entries if name.endswith(_EMBEDDINGS)), None)

    @property
    def has_head(self) -> bool:
        return any(name.endswith(_HEADS) for name in self.entries)

    @property
    def tied(self) -> bool:
        """Whether one tensor is both the embeddings and the head. An adapter that moves one of the two parts them, a sparse one both."""
        parted = self.lora.touched & {HEAD, self.embedding}
        return self.embedding is not None and not parted and not self.has_head

    def untied(self) -> "Member":
        """The same model with a head of its own, read from where the embeddings lie (before any adapter moved them)."""
        if self.embedding is None or self.has_head:
            return self
        single = {**self.single, HEAD: self.single[self.embedding]} if self.embedding in self.single else self.single
        return replace(self, entries={**self.entries, HEAD: self.entries[self.embedding]}, single=single)

    def merged_names(self) -> list[str]:
        """The tensors that take part, in the file's order."""
        return [name for name in self.entries if not self.is_buffer(name)]

    def is_buffer(self, name: str) -> bool:
        """Tables that are computed and not learnt: they are copied from the base."""
        return self.entries[name].format in _BUFFERS or name.endswith("rotary_emb.inv_freq")

    def shape(self, name: str) -> tuple[int, ...]:
        return self.lora.replaced[name].shape if name in self.lora.replaced else self.entries[name].shape

    def raw(self, name: str, start: int, stop: int, room: Tensor | None = None) -> Tensor:
        """Rows of the tensor as they stand in the file; `room`: bytes that may be overwritten, four for each number."""
        return read_raw(self.lora.replaced.get(name, self.entries[name]), start, stop, room)

    def tuned(self, name: str, start: int, raw: Tensor, room: Tensor | None = None) -> Tensor:
        """Rows of the tuned tensor, float32, from those in the file that begin at row `start`; `room`: numbers that may be overwritten."""
        rows = raw.float() if room is None else room[: raw.numel()].view(raw.shape).copy_(raw)
        return self.single[name].added(start, rows) if name in self.single else self.lora.apply(name, start, rows)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows of the tuned tensor, float32."""
        return self.tuned(name, start, self.raw(name, start, stop))


def open_member(ref: ModelRef) -> Member:
    """The model behind a reference; everything about it alone that forbids a merge is a `WorkbenchError`."""
    folder = Path(ref.path)
    if not folder.is_dir():
        raise WorkbenchError(
            f"{ref.label} is not on this machine, and a merge reads weight files. Download it first (hf download {ref.path} "
            "--local-dir FOLDER) and give that folder."
        )
    member = Member(ref.label, _config(folder, ref.label), find_tensors(folder, ref.label))
    if ref.adapter is not None and holds_singles(ref.adapter):
        member = replace(member, single=read_singles(ref.adapter, ref.label))
    elif ref.adapter is not None:
        member = replace(member, lora=read_lora(ref.adapter, ref.label))
    mistake = next(_alone(member), None)  # the first is enough: a quantised model has one for every tensor
    if mistake is not None:
        raise WorkbenchError(mistake)
    return member


def same_head(members: list[Member]) -> list[Member]:
    """The members as they are if all are tied, else each with a head of its own."""
    return members if all(member.tied for member in members) else [member.untied() for member in members]


def differences(base: Member, other: Member) -> Iterator[str]:
    """Why `other` cannot be merged on `base`, a sentence each; nothing if it can."""
    kinds = base.config.get("model_type"), other.config.get("model_type")
    if kinds[0] != kinds[1]:
        yield f"{other.label} is a {kinds[1]!r} model and the base {base.label} is {kinds[0]!r}. Merge only models tuned from one base."
        return
    ours, theirs = set(base.merged_names()), set(other.merged_names())
    if ours - theirs:
        yield f"{other.label} lacks {_some(ours - theirs)}, which the base {base.label} has. Merge only models tuned from one base."
    if theirs - ours:
        yield f"{other.label} has {_some(theirs - ours)}, which the base {base.label} lacks. Merge only models tuned from one base."
    shapes = [(name, other.shape(name), base.shape(name)) for name in base.merged_names() if name in theirs]
    yield from _shapes(base, other, [(name, found, wanted) for name, found, wanted in shapes if found != wanted])
    for name in base.entries:
        if name in other.entries and base.entries[name].format in _BUFFERS and _buffer(base, name) != _buffer(other, name):
            yield f"The table {name} is not the same in {other.label} and the base {base.label}. Merge only models tuned from one base."


def _shapes(base: Member, other: Member, unlike: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> Iterator[str]:
    for name, found, wanted in unlike[:3]:
        words = f"{name} is {_by(found)} in {other.label} and {_by(wanted)} in the base {base.label}."
        if name.endswith(_HEADS + _EMBEDDINGS) and found[1:] == wanted[1:]:
            yield (
                f"The vocabularies differ: {words} Set `tokenizer` to union (all tokens) or base (the base's), and rows are matched by "
                "their tokens."
            )
        else:
            yield f"The shapes differ: {words} Merge only models tuned from one base."
    if len(unlike) > 3:
        yield f"{len(unlike) - 3} more tensors of {other.label} differ in shape from the base {base.label}."


def _alone(member: Member) -> Iterator[str]:
    label, config = member.label, member.config
    if "quantization_config" in config:
        yield (
            f"{label} is quantised ({config['quantization_config'].get('quant_method', 'unknown method')}). Rounded weights cannot be "
            "merged; use the model it was made from."
        )
    for name, entry in member.entries.items():
        if entry.format not in FLOATS and entry.format not in _BUFFERS:
            yield (
                f"{label} stores {name} as {entry.format}. Only float32, float16 and bfloat16 are merged; use the model as it was before "
                "it was quantised or converted."
            )
    if not member.has_head and member.embedding is not None and config.get("tie_word_embeddings") is False:
        yield f"{label} says that its head is not tied to its embeddings, but has no {HEAD}. Fetch its weight files again."
    yield from _adapted(member)


def _adapted(member: Member) -> Iterator[str]:
    whole = member.untied()
    for name, shape in member.lora.wanted():
        if name not in whole.entries:
            yield f"The adapter of {member.label} changes {name}, which its base does not have. It belongs to another base."
        elif shape != whole.entries[name].shape:
            found, wanted = _by(shape), _by(whole.entries[name].shape)
            yield f"The adapter of {member.label} changes {name} as {found}, and its base has {wanted}. It belongs to another base."
    for name, single in member.single.items():
        if name not in whole.entries or (len(single.places) and int(single.places[-1]) >= math.prod(whole.entries[name].shape)):
            yield f"The adapter of {member.label} changes numbers of {name} that its base does not have. It belongs to another base."


def _config(folder: Path, label: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{label} has no readable config.json in {folder}. Choose the folder that holds it.") from error
    if not isinstance(config, dict):
        raise WorkbenchError(f"The config.json of {label} is not a mapping of names to values. Fetch it again.")
    return config


def _buffer(member: Member, name: str) -> bytes:
    return bytes(read_bytes(member.entries[name]))


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return shown[0] if len(shown) == 1 else f"{len(shown)} tensors ({', '.join(shown[:2])}{', …' if len(shown) > 2 else ''})"
