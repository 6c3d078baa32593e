"""From a training spec to what the loop eats: the model, its tokenizer, and rows as tokens. Knows nothing of steps."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.beside import foldable, unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.batches import Draw, in_batches
from workbench.jobs.judging import Known, judged, known_of
from workbench.jobs.machine import share_cores
from workbench.jobs.mixing import Learning, encoded, learning
from workbench.materials.corpus import load
from workbench.materials.lora import Lora, read_lora
from workbench.materials.models import POCKET, ModelRef, resolve
from workbench.materials.models import load as load_model
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.precision import place
from workbench.materials.templates import Encoded

VALIDATION_ROWS = 64  # most rows a validation loss is read on; the rest of the share stays unseen
KNOWN_ROWS = 48
SAMPLE_PROMPTS = 3


@dataclass(frozen=True)
class Prepared:
    model: PreTrainedModel
    numbers: torch.dtype  # of the arithmetic
    tokenizer: PreTrainedTokenizerBase
    train: list[Encoded]
    draws: list[Draw]  # what an epoch takes of them; all where there is none
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
    ref = base_of(spec, workspace)
    tokenizer = load_tokenizer(ref)
    data = yield from learning(spec, tokenizer, workspace, VALIDATION_ROWS)
    device, dtype = place(spec.precision, "" if spec.adapter.whole else ref.path)
    model = load_model(ref, device, torch.float32 if spec.adapter.whole else dtype, spec.quantization == "nf4")
    share_cores(model, spec.processes)
    known = yield from _known(spec, tokenizer, workspace)
    scores = yield from judged(spec.loss, spec.model, data.train, tokenizer.get_vocab(), workspace)
    told = spec.data.task or spec.data.balance or spec.data.mix
    pad, apart = tokenizer.pad_token_id, sorted(set(data.held_tasks)) if told else []
    about = known_of(data.train, data.tasks, scores)
    of_held = about.places(data.held_tasks)
    return Prepared(
        model=model,
        numbers=dtype,
        tokenizer=tokenizer,
        train=data.train,
        draws=data.draws,
        validation=on(device, in_batches(data.held, 16, pad, of_held)),
        validation_rows=len(data.held),
        by_task={task: on(device, _of_task(task, data, pad, about)) for task in apart},
        known=on(device, in_batches(known, 16, pad)),
        prompts=spec.prompts or data.prompts[:SAMPLE_PROMPTS],
        about=about,
        earlier=_earlier(spec, ref, workspace),
    )


def _of_task(task: str, data: Learning, pad: int, about: Known) -> Iterator[dict[str, Tensor]]:
    """The batches of the validation rows of one task."""
    rows = [row for row, own in zip(data.held, data.held_tasks, strict=True) if own == task]
    return in_batches(rows, 16, pad, about.places([task] * len(rows)))


def base_of(spec: TrainSpec, workspace: Workspace) -> ModelRef:
    """The model that is trained; an adapter on top of another could not be opened afterwards, nor modules beside a tuned model."""
    ref = resolve(spec.model, workspace)
    if ref.adapter is not None and not foldable(ref.adapter):
        raise WorkbenchError(
            f"{unmergeable(ref.label)} So nothing that is trained on top of it could be opened. Train from the model that it stands on."
        )
    if ref.adapter is not None and not spec.adapter.whole:
        raise WorkbenchError(
            f"{ref.label} is an adapter, and {spec.adapter.title()} would be one on top of it, which nothing could open. Write it as a "
            f"model first ('Save as a model' on the Runs tab, or python -m workbench fold {spec.model} --name NAME), and train that."
        )
    return ref


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


def on(device: torch.device, batches: Iterable[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The batches where the model is."""
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
