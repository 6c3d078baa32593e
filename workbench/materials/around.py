"""What stands around the rows that a selector is asked of: other data sets, and what a model makes of the rows.

What it is: the one thing a selector gets beside its rows (`Selector.keep`). Readings of a model cost time; they yield progress, are kept on
the disk text by text (`readings.py`), and are never made twice. What it is not: it chooses no row.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import try_to_load_from_cache

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.materials import gradients, models, readings
from workbench.materials.asking import Draws, tally
from workbench.materials.corpus import digest, load
from workbench.materials.odds import label_logp
from workbench.materials.packing import pad
from workbench.materials.pooling import Pooling, pooled
from workbench.materials.precision import place
from workbench.materials.rendering import Messages
from workbench.materials.rows import Example, told
from workbench.materials.templates import Encoded, encode_all

LONGEST = 512  # tokens of a text that are read
AT_ONCE = 8  # texts in one forward pass, between two signs of life
STRETCH = 4096  # rows that are held while they are read
VERSION = 1  # of the readings: to be raised when texts are read otherwise, because they are kept on the disk
KEPT = 64  # forward passes between two writes to the disk
Part = Literal["row", "question", "answer"]
Read = Callable[[PreTrainedModel, PreTrainedTokenizerBase, list[Example]], Tensor]


class Around:
    """The surroundings in one workspace; `model` is the reference of the model that is trained."""

    def __init__(self, workspace: Workspace, model: str = models.POCKET):
        self._workspace, self._model = workspace, model
        self._open: dict[models.ModelRef, tuple[PreTrainedModel, PreTrainedTokenizerBase]] = {}

    def rows(self, name: str, asks: str) -> Sequence[Example]:
        """The rows of another data set, by name; `asks` says who wants them, for the sentence where none is named."""
        if not name:
            raise WorkbenchError(f"{asks} needs a second data set to go by, and none is named. Write the name of one in the step.")
        return load(name, self._workspace).examples

    def vectors(
        self, examples: Sequence[Example], reader: str = "", pooling: Pooling = "mean", part: Part = "row"
    ) -> Generator[Progress, None, Tensor]:
        """(N, D) float32 vectors of length 1 of the first `LONGEST` tokens of each; `reader` is a model, "" the one that is trained.

        They are kept in half precision, and told so whether they were kept or made just now.
        """

        def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: list[Example]) -> Tensor:
            return pooled(model, _on(model, _plain(tokenizer, [example.part(part) for example in batch])), pooling).half()

        found = yield from self._read(f"vectors-{pooling}", reader, examples, lambda example: example.part(part), read)
        return torch.nn.functional.normalize(found.float(), dim=-1)

    def pace(self, examples: Sequence[Example], reader: str) -> float:
        """Seconds that a model takes for a row, from reading these; nothing is kept."""
        model, tokenizer = self._opened(models.resolve(reader or self._model, self._workspace))
        rows = _plain(tokenizer, [example.as_text() for example in examples])
        pooled(model, _on(model, rows), "mean")  # the first pass is slower than those that follow
        began = time.monotonic()
        pooled(model, _on(model, rows), "mean").cpu()
        return (time.monotonic() - began) / len(examples)

    def surprise(self, examples: Sequence[Example], reader: str = "", alone: bool = False) -> Generator[Progress, None, Tensor]:
        """(N, 2) float32: −log p of the learnt tokens in nats, added up, and how many they are; NaN and 0 where nothing is learnt.

        With `alone` every turn that is not the assistant's is emptied first, and system turns are left out: what the answer costs without
        its question, read through the same template, so that a row without a question costs the same both ways [O].
        """

        def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: list[Example]) -> Tensor:
            encoded = list(encode_all(tokenizer, list(map(without_question, batch)) if alone else batch, "answers", 2 * LONGEST))
            found = torch.tensor([[math.nan, 0.0]]).repeat(len(batch), 1)
            learnt = [(place, row) for place, row in enumerate(encoded) if isinstance(row, Encoded) and any(row.trained[1:])]
            if learnt:
                rows = pad([row for _, row in learnt], tokenizer.pad_token_id)
                found[[place for place, _ in learnt]] = _surprises(model, _on(model, rows))
            return found

        return (yield from self._read("surprise-alone" if alone else "surprise", reader, examples, told, read))

    def gradients(
        self, examples: Sequence[Example], reader: str = "", warm: Sequence[Example] = (), adam: bool = False, seed: int = 0
    ) -> Generator[Progress, None, Tensor]:
        """(N, 1024) bfloat16: which way each row pulls a small LoRA on the model, sketched (`gradients.py`); NaN where nothing is learnt.

        The LoRA is warmed up on the rows `warm`. With `adam` it is the way that Adam would step then, else the plain gradient.
        """
        ref = models.resolve(reader or self._model, self._workspace)
        key, parts = gradients.key(warm, seed), torch.arange(3)
        folder = self._workspace.cache("readings") / f"warm-up-{key}-{state_of(ref)}"
        if not (found := readings.find(folder, parts))[0].all():
            readings.add(folder, parts, (yield from gradients.warmed_up(*self._opened(ref), warm, seed)))
            found = readings.find(folder, parts)
        taught = gradients.Taught(found[1], adam, seed)
        return (yield from self._read(f"gradients-{'adam' if adam else 'plain'}-{key}", reader, examples, told, taught.read))

    def answers(
        self, examples: Sequence[Example], prompts: Callable[[Example], Sequence[Messages]], draws: Draws, reader: str = ""
    ) -> Generator[Progress, None, Tensor]:
        """(N, 4) float32: of the greedy answers to a row's prompts how many say its last answer and how many there are, then of the drawn.

        0 of 0 where a row cannot be asked (`asking.tally`). All answers to a row are found together, and no others with them.
        """

        def text(example: Example) -> str:
            return repr((prompts(example), example.last_answer(), draws))

        def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: list[Example]) -> Tensor:
            return torch.stack([tally(model, tokenizer, prompts(example), example.last_answer(), draws) for example in batch])

        return (yield from self._read("answers", reader, examples, text, read, at_once=1))

    def _read(
        self, kind: str, reader: str, examples: Sequence[Example], text: Callable[[Example], str], read: Read, at_once: int = 0
    ) -> Generator[Progress, None, Tensor]:
        """What `read` makes of each example, from the disk where it is there; examples whose `text` is the same are read once."""
        ref = models.resolve(reader or self._model, self._workspace)
        folder = self._workspace.cache("readings") / f"{kind}-{VERSION}-{state_of(ref)}"
        found = list[int]()
        for example in examples:
            found.append(digest(text(example)) - 2**63)
            if len(found) % STRETCH == 0:
                yield Progress(len(found), len(examples), "rows looked up")
        digests = torch.tensor(found, dtype=torch.int64)
        held = readings.find(folder, digests)[0]
        missing = set(digests[~held].tolist())
        yield from self._missing(folder, ref, examples, found, missing, text, read, at_once or AT_ONCE)
        known, values = readings.find(folder, digests)
        if not known.all():
            raise WorkbenchError(f"What {ref.label} had read was deleted from {folder} meanwhile. Count again.")
        if not held.all():
            readings.prune(folder.parent)
        return values

    def _missing(
        self,
        folder: Path,
        ref: models.ModelRef,
        examples: Sequence[Example],
        digests: list[int],
        missing: set[int],
        text: Callable[[Example], str],
        read: Read,
        at_once: int,
    ) -> Iterator[Progress]:
        """Read what is missing, a stretch of rows at a time in the order in which they lie, within it the shortest first."""
        total, done, stretch = len(missing), 0, list[tuple[int, int, Example]]()
        for index, example in enumerate(examples if missing else ()):
            if digests[index] in missing:
                missing.discard(digests[index])
                stretch.append((len(text(example)), digests[index], example))
            if len(stretch) == STRETCH or (stretch and not missing):
                stretch.sort(key=lambda row: row[:2])
                yield from self._stretch(folder, ref, stretch, done, total, read, at_once)
                done += len(stretch)
                stretch.clear()

    def _stretch(
        self, folder: Path, ref: models.ModelRef, rows: list[tuple[int, int, Example]], done: int, total: int, read: Read, at_once: int
    ) -> Iterator[Progress]:
        waiting: list[tuple[list[int], Tensor]] = []
        try:
            for start in range(0, len(rows), at_once):
                yield Progress(done + start, total, f"rows read by {ref.label}")
                batch = rows[start : start + at_once]
                waiting.append(([own for _, own, _ in batch], read(*self._opened(ref), [example for *_, example in batch]).cpu()))
                if len(waiting) == KEPT:
                    _write(folder, waiting)
        finally:
            _write(folder, waiting)

    def _opened(self, ref: models.ModelRef) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if ref not in self._open:
            self._open[ref] = models.load(ref, *place()), models.tokenizer(ref)
        return self._open[ref]


def without_question(example: Example) -> Example:
    """The row with its answers alone: other turns are emptied, system turns left out; of a plain text what is learnt."""
    if example.text:
        return Example(text=example.answer())
    turns = (turn for turn in example.messages if turn["role"] != "system")
    return Example(messages=tuple(turn if turn["role"] == "assistant" else {**turn, "content": ""} for turn in turns))


def state_of(ref: models.ModelRef) -> str:
    """A short name for the state of a model: its places, and when its files were last changed, or the revision of a hub id that is here."""
    folders = [path for path in (Path(ref.path), ref.adapter) if path is not None and path.is_dir()]
    files = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for folder in folders for file in sorted(folder.iterdir())]
    here = None if Path(ref.path).is_dir() else try_to_load_from_cache(ref.path, "config.json")
    revision = [Path(here).parent.name] if isinstance(here, str) else []  # a mark of another type where the hub has no such file
    return hashlib.sha256(json.dumps([ref.path, files, *revision]).encode()).hexdigest()[:16]


def _plain(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, Tensor]:
    """The texts as tokens without a template, padded; one without tokens is a single padding token."""
    ids = tokenizer(list(texts), truncation=True, max_length=LONGEST, verbose=False)["input_ids"]
    rows = [one or [tokenizer.pad_token_id] for one in ids]
    return pad([Encoded(one, [False] * len(one), 0) for one in rows], tokenizer.pad_token_id)


@torch.no_grad()
def _surprises(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """(B, 2) the sum of −log p over each row's learnt tokens, and how many they are."""
    labels = batch["labels"][:, 1:]
    learnt = labels != -100
    rows, lost = learnt.nonzero()[:, 0], -label_logp(model, batch)
    return torch.stack([torch.zeros(len(labels), device=lost.device).index_add(0, rows, lost), learnt.sum(1).float()], -1).cpu()


def _on(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def _write(folder: Path, waiting: list[tuple[list[int], Tensor]]) -> None:
    """Put what waits on the disk."""
    if waiting:
        readings.add(folder, torch.tensor([own for digests, _ in waiting for own in digests]), torch.cat([found for _, found in waiting]))
        waiting.clear()
