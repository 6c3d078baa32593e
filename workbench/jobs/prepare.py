"""From a training spec to what the loop eats: the model, its tokenizer, and rows as tokens. Knows nothing of steps."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.batches import in_batches
from workbench.jobs.judging import Known, judged, known_of
from workbench.jobs.machine import share_cores
from workbench.jobs.steps import sifted
from workbench.materials.corpus import Example, load, split
from workbench.materials.lora import Lora, read_lora
from workbench.materials.models import POCKET, ModelRef, place, resolve
from workbench.materials.models import load as load_model
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.rows import Chosen
from workbench.materials.templates import Encoded, encode_all

VALIDATION_ROWS = 64  # most rows a validation loss is read on; the rest of the share stays unseen
KNOWN_ROWS = 48
SAMPLE_PROMPTS = 3


@dataclass(frozen=True)
class Prepared:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: list[Encoded]
    validation: list[dict[str, Tensor]]
    validation_rows: int
    by_task: dict[str, list[dict[str, Tensor]]]
    known: list[dict[str, Tensor]]
    prompts: list[str]
    about: Known
    earlier: Lora | None  # what the adapter goes by

    def decode(self, token: int) -> str:
        return self.tokenizer.decode([token])


def prepare(spec: TrainSpec, workspace: Workspace) -> Generator[Progress, None, Prepared]:
    """Load and encode; a data set that has nothing to learn from is an error that says why."""
    ref = resolve(spec.model, workspace)
    tokenizer = load_tokenizer(ref)
    data = yield from sifted(spec.data, workspace, spec.model)
    train, validation = split(Chosen(data.examples, data.kept), spec.data.validation_share, spec.seed)
    rows, of = yield from encoded(tokenizer, train, spec.data)
    if not rows:
        raise WorkbenchError(
            f"The data set {spec.data.path!r} has no row with a token to learn ({len(train)} rows were looked at). "
            "Either every answer is empty, or the longest row allowed cuts them all off: look at the Data tab, or raise data.max_length."
        )
    device, dtype = place(spec.precision)
    model = load_model(ref, device, torch.float32 if spec.adapter.whole else dtype)
    share_cores(model)
    held, of_held = yield from encoded(tokenizer, validation[:VALIDATION_ROWS], spec.data)
    known = yield from _known(spec, tokenizer, workspace)
    scores = yield from judged(spec.loss, spec.model, rows, tokenizer.get_vocab(), workspace)
    pad, column = tokenizer.pad_token_id, spec.data.task
    return Prepared(
        model=model,
        tokenizer=tokenizer,
        train=rows,
        validation=_on(device, in_batches(held, 16, pad)),
        validation_rows=len(held),
        by_task={
            task: _on(device, in_batches([row for row, name in zip(held, tasks(of_held, column), strict=True) if name == task], 16, pad))
            for task in sorted(set(tasks(of_held, column)) if column else ())
        },
        known=_on(device, in_batches(known, 16, pad)),
        prompts=spec.prompts or questions(validation or train)[:SAMPLE_PROMPTS],
        about=known_of(rows, tasks(of, column), scores),
        earlier=_earlier(spec, ref, workspace),
    )


def encoded(
    tokenizer: PreTrainedTokenizerBase, examples: list[Example], data: DataSpec
) -> Generator[Progress, None, tuple[list[Encoded], list[Example]]]:
    """The rows as tokens, and the same rows as they were.

    Rows with nothing to learn, and rows that the template refuses, are left out (the Data tab names them).
    """
    rows, of = [], []
    for index, row in enumerate(encode_all(tokenizer, examples, data.train_on, data.max_length)):
        if isinstance(row, Encoded) and any(row.trained[1:]):
            rows.append(row)
            of.append(examples[index])
        if index % 200 == 0:
            yield Progress(index, len(examples), "rows read")
    return rows, of


def tasks(examples: list[Example], column: str) -> list[str]:
    """The task of each row as its column says it; rows without one, and all rows without a column, are of the task ''."""
    return [str(example.meta.get(column, "")) if column else "" for example in examples]


def questions(examples: list[Example]) -> list[str]:
    """The first user turns of conversations, to sample answers to."""
    turns = (next((m["content"] for m in example.messages if m["role"] == "user"), "") for example in examples)
    return list(dict.fromkeys(turn for turn in turns if turn))


def _earlier(spec: TrainSpec, base: ModelRef, workspace: Workspace) -> Lora | None:
    """The LoRA of the run that the adapter goes by, if it goes by one."""
    if not spec.adapter.earlier():
        return None
    ref = resolve(spec.adapter.earlier(), workspace)
    if ref.adapter is None or ref.path != base.path:
        why = "is no adapter" if ref.adapter is None else f"was tuned from {Path(ref.path).name}, and this run starts from {base.label}"
        raise WorkbenchError(
            f"{spec.adapter.title()} goes by the LoRA of an earlier run, but {ref.label} {why}. Name a LoRA run of {base.label}."
        )
    return read_lora(ref.adapter, ref.label)


def _known(spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> Generator[Progress, None, list[Encoded]]:
    """Rows of what must not be forgotten; the demo model has a set of its own."""
    path = spec.known or ("known" if spec.model == POCKET else "")
    if not path:
        return []
    data = DataSpec(path=path, max_length=spec.data.max_length)
    rows, _ = yield from encoded(tokenizer, load(path, workspace, {}).examples[:KNOWN_ROWS], data)
    return rows


def _on(device: torch.device, batches: object) -> list[dict[str, Tensor]]:
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
