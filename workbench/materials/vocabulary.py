"""Models with different vocabularies, made to have one: rows of embeddings and head are matched by the tokens' text, not by their numbers.

The result has the tokens of one model (its padded size is kept, where mergekit cuts the padding off [V]), or the base's and behind them
those that the base lacks, in the order of the models (union [R]). A row that a model does not have is the base's; where the base has it
neither, its only owner's, or the mean of its owners [R]; where nobody has it the base's mean row, and never zero. So a method sees
models of one shape, and a token that one model alone has comes out as that model has it. Tokenizers are read from tokenizer.json;
nothing here tokenizes a text. Tags as in the project's notes: [R] read in mergekit 0.1.5, [V] seen when it was run, [O] our own choice.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.family import VOCABULARY, Member
from workbench.materials.tensors import spans

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
STALE = ("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model")  # tokenizer files that know nothing of new tokens


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer.json says: the row of each token, and how the added ones are written there."""

    rows: dict[str, int]
    added: dict[str, dict[str, Any]]

    @property
    def count(self) -> int:
        """One more than the last row that has a token."""
        return 1 + max(self.rows.values(), default=-1)


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a result: of `size` rows, with the tokenizer in `folder` and behind its tokens the `new` ones.

    `new` are entries of added tokens as tokenizer.json has them. `config` is that of the model whose vocabulary is kept. `orphans` are
    tokens for which no model has a row.
    """

    folder: Path
    config: dict[str, Any]
    size: int
    new: list[dict[str, Any]] = field(default_factory=list)
    pieces: int = 0  # of the new tokens, those that were no added tokens where they come from
    orphans: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What a user has to know about it."""
        found = []
        if self.pieces:
            found.append(
                f"{self.pieces} of the {len(self.new)} new tokens are pieces of another model's words. They have their rows, but the "
                "base's tokenizer cuts text up in its own way, and gives such a piece only where it stands alone as a word."
            )
        if self.orphans:
            shown = ", ".join(map(repr, self.orphans[:5])) + (", …" if len(self.orphans) > 5 else "")
            found.append(f"No model has a row for {len(self.orphans)} of the tokens ({shown}). They get the mean of the base's rows.")
        return found

    def write(self, folder: Path) -> None:
        """The new tokens into the tokenizer files that were copied to `folder`."""
        if not self.new:
            return
        for name in STALE:
            (folder / name).unlink(missing_ok=True)
        path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
        told = json.loads(path.read_text(encoding="utf-8"))
        told["added_tokens"] = [*told.get("added_tokens", []), *self.new]
        path.write_text(json.dumps(told, ensure_ascii=False, indent=2), encoding="utf-8")
        held = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
        if "added_tokens_decoder" in held:  # older files say it here too
            held["added_tokens_decoder"] |= {str(new["id"]): {key: new[key] for key in new if key != "id"} for new in self.new}
            settings.write_text(json.dumps(held, ensure_ascii=False, indent=2), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Matched(Member):
    """A model with the result's vocabulary. `everyone` are all models as they were, the base first, each with the row (V,) of its own
    for each row of the result, −1 where it has none; this one is the `place`-th. `means` are the base's mean rows, where they are
    wanted."""

    place: int
    everyone: tuple[tuple[Member, Tensor], ...]
    means: dict[str, Tensor]

    def shape(self, name: str) -> tuple[int, ...]:
        own = super().shape(name)
        return (len(self.everyone[0][1]), *own[1:]) if name.endswith(VOCABULARY) else own

    def tuned(self, name: str, start: int, raw: Tensor, room: Tensor | None = None) -> Tensor:
        return raw if name.endswith(VOCABULARY) else super().tuned(name, start, raw, room)

    def raw(self, name: str, start: int, stop: int, room: Tensor | None = None) -> Tensor:
        if not name.endswith(VOCABULARY):
            return super().raw(name, start, stop, room)
        own, places = self.everyone[self.place]
        found = gathered(own, name, places[start:stop])
        absent = places[start:stop] < 0
        if absent.any():
            found[absent] = self._filled(name, start, stop, absent)[absent]
        return found

    def _filled(self, name: str, start: int, stop: int, absent: Tensor) -> Tensor:
        """Rows for those that are absent here: the base's, else the mean of their owners, else the mean row."""
        base, places = self.everyone[0]
        here = torch.where(absent, places[start:stop], -1)
        found, left = gathered(base, name, here), absent & (here < 0)
        if not left.any():
            return found
        total, owners = torch.zeros_like(found, dtype=torch.float64), torch.zeros(len(left), dtype=torch.float64)
        for other, places in self.everyone[1:]:
            here = torch.where(left, places[start:stop], -1)
            total += gathered(other, name, here)
            owners += here >= 0
        shared = owners > 0
        found[shared] = (total[shared] / owners[shared].view(-1, *[1] * (total.dim() - 1))).float()
        if (orphans := left & ~shared).any():
            found[orphans] = self.means[name]
        return found


def matched(members: Sequence[Member], folders: Sequence[Path], kept: int, union: bool) -> tuple[list[Member], Vocabulary]:
    """The models, the base first, with the vocabulary of the `kept`-th, and with `union` the others' tokens behind it.

    A tokenizer without a tokenizer.json and a model without embeddings are a `WorkbenchError`.
    """
    told = [read_tokens(folder, member.label) for folder, member in zip(folders, members, strict=True)]
    sizes = [_rows(member) for member in members]
    names, new, pieces = dict(told[kept].rows), list[dict[str, Any]](), 0
    for other in told if union else ():
        for token in sorted(other.rows.keys() - names.keys(), key=other.rows.__getitem__):
            names[token] = told[kept].count + len(new)
            new.append(_entry(names[token], token, other.added.get(token)))
            pieces += token not in other.added
    size = max(sizes[kept], told[kept].count + len(new))
    places = [_places(names, own, rows, size) for own, rows in zip(told, sizes, strict=True)]
    unnamed = torch.ones(size, dtype=torch.bool)
    unnamed[list(names.values())] = False
    unnamed[sizes[kept] :] = False
    places[kept][unnamed] = unnamed.nonzero().flatten()  # padding is the rows of the model that has it
    alone = (torch.stack(places) < 0).all(0)
    orphans = tuple(token for token, row in names.items() if alone[row])
    means = {name: _mean(members[0], name) for name in members[0].entries if name.endswith(VOCABULARY)} if alone.any() else {}
    everyone = tuple(zip(members, places, strict=True))
    found = [
        Matched(own.label, own.config, own.entries, own.lora, single=own.single, place=place, everyone=everyone, means=means)
        for place, own in enumerate(members)
    ]
    return list(found), Vocabulary(folders[kept], members[kept].config, size, new, pieces, orphans)


def read_tokens(folder: Path, label: str) -> Tokens:
    """The tokens of the tokenizer.json in `folder`."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise WorkbenchError(
            f"{label} has no tokenizer.json in {folder}, and tokens are matched by that file. Open its tokenizer with transformers and "
            "save it again (save_pretrained writes one), or leave `tokenizer` at same."
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        vocab = told["model"]["vocab"]
        rows = dict(vocab) if isinstance(vocab, dict) else {piece: row for row, (piece, _) in enumerate(vocab)}
        added = {entry["content"]: entry for entry in told.get("added_tokens", [])}
        rows |= {content: entry["id"] for content, entry in added.items()}
        if not all(isinstance(row, int) and row >= 0 for row in rows.values()):
            raise ValueError("its tokens have no numbers")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(f"{path} cannot be read as a tokenizer: {' '.join(str(error).split())}. Fetch it again.") from error
    return Tokens(rows, added)


def gathered(member: Member, name: str, rows: Tensor) -> Tensor:
    """(n, …) float32 rows of a tensor by their numbers (n,), zeros for −1; consecutive ones are read at once."""
    found = torch.zeros(len(rows), *member.shape(name)[1:])
    here = (rows >= 0).nonzero().flatten()
    if not len(here):
        return found
    wanted = rows[here]
    breaks = ((wanted.diff() != 1) | (here.diff() != 1)).nonzero().flatten() + 1
    edges = [0, *breaks.tolist(), len(here)]
    for first, stop in itertools.pairwise(edges):
        row, place, count = int(wanted[first]), int(here[first]), stop - first
        found[place : place + count] = member.rows(name, row, row + count)
    return found


def _places(names: dict[str, int], own: Tokens, rows: int, size: int) -> Tensor:
    """(size,) the model's row for each token of the result, −1 where it has no such token or no row for it."""
    found = torch.full((size,), -1)
    pairs = [(place, own.rows[token]) for token, place in names.items() if own.rows.get(token, rows) < rows]
    if pairs:
        places, sources = torch.tensor(pairs).T
        found[places] = sources
    return found


def _entry(row: int, token: str, told: dict[str, Any] | None) -> dict[str, Any]:
    """An added token as it was, or a piece of a word as one: alone as a word, so that it cuts up no other word [O]."""
    flags = told if told is not None else {"single_word": True}
    return {"id": row, "content": token} | {flag: bool(flags.get(flag)) for flag in FLAGS}


def _rows(member: Member) -> int:
    if member.embedding is None:
        raise WorkbenchError(f"{member.label} has no embeddings by a name that is known here, so its tokens cannot be matched.")
    return member.shape(member.embedding)[0]


def _mean(member: Member, name: str) -> Tensor:
    shape = member.shape(name)
    total = sum(member.rows(name, start, stop).double().sum(0) for start, stop in spans(shape))
    return (torch.as_tensor(total) / shape[0]).float()
