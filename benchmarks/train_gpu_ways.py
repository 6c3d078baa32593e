"""The contenders of `train_gpu.py`: each trains when it is its turn, in a process of its own, and leaves what shows that it has trained.

What it is not: what they train (`train_gpu_case.py`), or the figures.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import told
import torch
import train_gpu_case as case
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from train_cpu_case import keep_state, without_padding
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.trainer_pt_utils import get_length_grouped_indices

from workbench.core.events import Measured
from workbench.core.workspace import Workspace
from workbench.jobs.train import train
from workbench.materials.packing import pad

TRAINER, BY_LENGTH, LIGER, APPLE, UNSLOTH, OURS = "trainer", "by length", "Liger", "Apple CCE", "Unsloth", "workbench packed"
NEEDS = {LIGER: "liger_kernel", APPLE: "cut_cross_entropy", UNSLOTH: "unsloth"}  # and a GPU


class Turns:
    """Lets a run go on only when it is its turn, and tells the parent process what the turn took."""

    def __init__(self, rounds: int, steps: int):
        self.steps, self.total = steps, rounds * (steps + 1)
        self.tokens: list[int] = []  # of every step
        self.talk = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print is no message

    def say(self, message: dict[str, Any]) -> None:
        self.talk.write(json.dumps(message) + "\n")

    def wait(self) -> None:
        gc.collect()
        if told.device() == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if not sys.stdin.readline():
            raise SystemExit("the parent process is gone")

    def ready(self) -> None:
        self.say({"ready": True})
        self.wait()

    def done(self, step: int) -> None:
        """A step is over; the first of a turn warms up what the others pushed out."""
        place = (step - 1) % (self.steps + 1)
        if place == 0:
            self.began = told.clock()
        elif place == self.steps:
            wall, cpu = told.between(self.began, told.clock())
            held = torch.cuda.max_memory_allocated() / 2**30 if told.device() == "cuda" else told.resident("VmHWM") / 2**20
            self.say({"seconds": wall, "cpu_seconds": cpu, "tokens": sum(self.tokens[step - self.steps : step]), "peak_gib": held})
            if step < self.total:
                self.wait()


class InTurns(TrainerCallback):
    def __init__(self, turns: Turns):
        self.turns = turns

    def on_train_begin(self, *given: Any, **more: Any) -> None:
        self.turns.ready()

    def on_step_end(self, arguments: Any, state: Any, *given: Any, **more: Any) -> None:
        self.turns.done(state.global_step)


# The contenders. Each leaves adapter/ and Adam's second moments in `folder`.


def with_workbench(home: Path, name: str, folder: Path, turns: Turns) -> None:
    """The training job as everyone iterates it, on a model from memory."""
    turns.tokens, step = case.tokens_of_packed_steps(home, name, turns.total), 0
    turns.ready()
    with case.in_memory(home):
        for event in train(case.spec_of(home, name, turns.total, []), folder, Workspace(home)):
            if isinstance(event, Measured) and event.step == step + 1:
                step += 1
                turns.done(step)


def with_trainer(
    home: Path, name: str, folder: Path, turns: Turns, model: nn.Module | None = None, by_length: bool = True, **more: Any
) -> None:
    """transformers' Trainer and peft as their guides have it, with nothing logged or saved on the way."""
    shape, rows = case.SHAPES[name], case.rows_of(home)
    if by_length:
        chance = torch.Generator().manual_seed(0)
        rows = [rows[place] for place in get_length_grouped_indices([len(row.ids) for row in rows], shape.rows, generator=chance)]
    batches = [pad(rows[start : start + shape.rows], 0) for start in range(0, len(rows), shape.rows)]
    passes, half = shape.rows_of_a_step // shape.rows, told.device() == "cuda"
    turns.tokens = [sum(map(case.real_tokens, batches[first : first + passes])) for first in range(0, len(batches), passes)]
    model = with_lora(case.model(home)) if model is None else model
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=not half, bf16=half, max_steps=turns.total, per_device_train_batch_size=shape.rows,
        gradient_accumulation_steps=passes, learning_rate=case.RATE, max_grad_norm=case.CLIP, optim="adamw_torch_fused",
        lr_scheduler_type="constant", train_sampling_strategy="sequential", remove_unused_columns=False, logging_strategy="no",
        save_strategy="no", report_to="none", disable_tqdm=True, **more,
    )  # fmt: skip
    collator = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(home / "model"))
    trainer = Trainer(model, arguments, collator, without_padding(batches), callbacks=[InTurns(turns)])
    trainer.train()
    model.save_pretrained(folder / "adapter")
    keep_state(trainer.optimizer, folder)


def with_lora(model: PreTrainedModel) -> nn.Module:
    torch.manual_seed(0)
    lora = LoraConfig(r=case.RANK, lora_alpha=case.ALPHA, target_modules=case.TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def with_apple(home: Path, name: str, folder: Path, turns: Turns) -> None:
    """The model's own layers, and Apple's product of the head with its loss, which needs both in half precision."""
    from cut_cross_entropy import linear_cross_entropy

    model = case.model(home)
    plain = model.forward

    def forward(self: PreTrainedModel, labels: Tensor | None = None, num_items_in_batch: Tensor | int | None = None, **given: Any) -> Any:
        if labels is None or not self.training:
            return plain(labels=labels, **given)
        weight = self.get_output_embeddings().weight
        hidden = self.base_model(**given).last_hidden_state.to(weight.dtype)
        loss = linear_cross_entropy(hidden, weight, labels, shift=True, reduction="sum")
        return CausalLMOutputWithPast(loss=loss / (num_items_in_batch or (labels[:, 1:] != -100).sum()))

    model.forward = MethodType(forward, model)
    with_trainer(home, name, folder, turns, with_lora(model))


def with_unsloth(home: Path, name: str, folder: Path, turns: Turns) -> None:
    """Its loader reads from the disk, so the model is written for it."""
    from unsloth import FastLanguageModel

    case.model(home).save_pretrained(folder / "base")
    AutoTokenizer.from_pretrained(home / "model").save_pretrained(folder / "base")
    model, _ = FastLanguageModel.from_pretrained(str(folder / "base"), max_seq_length=case.PACK, dtype=torch.bfloat16, load_in_4bit=False)
    model = FastLanguageModel.get_peft_model(
        model, r=case.RANK, lora_alpha=case.ALPHA, lora_dropout=0.0, target_modules=case.TARGETS, use_gradient_checkpointing=False
    )
    with_trainer(home, name, folder, turns, model)


CONTENDERS: dict[str, Callable[[Path, str, Path, Turns], None]] = {
    TRAINER: lambda home, name, folder, turns: with_trainer(home, name, folder, turns, by_length=False),
    BY_LENGTH: with_trainer,
    LIGER: lambda home, name, folder, turns: with_trainer(home, name, folder, turns, use_liger_kernel=True),
    APPLE: with_apple,
    UNSLOTH: with_unsloth,
    OURS: with_workbench,
}
