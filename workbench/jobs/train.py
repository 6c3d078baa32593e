"""Training as a generator of events: a screenful of loop over `accelerate`, everything else is a method or a material.

Knows no thread, no database and no page; whoever iterates decides when the next step happens (that is all there is to
pausing), and closing the iterator saves a checkpoint. If the run's folder holds a checkpoint, the run goes on from it and
its losses are those it would have had. The loss is Σ weights · (−log p) / M with M the trained tokens of the whole
accumulation window, so a long answer is never worth less than a short one.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Measured, Noted, Progress, Said, Started
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.batches import Batches
from workbench.jobs.machine import memory_used
from workbench.jobs.prepare import Prepared, prepare
from workbench.jobs.tokens import token_stats
from workbench.materials.models import label_table
from workbench.materials.templates import prompt_ids
from workbench.methods.contracts import Attachment, Moment, Probe, Stepper

SAMPLE_TOKENS = 40
PATIENCE = 10  # steps without a finite gradient before a run gives up


def train(spec: TrainSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Train as `spec` says, keeping everything in `folder`; ends with the adapter (or the model) whole on disk."""
    yield Progress(0, 1, "loading the model and the rows")
    prepared = yield from prepare(spec, workspace)
    run = Run(spec, folder, prepared)
    yield Started(spec.steps, run.about())
    try:
        yield from run.steps()
    except GeneratorExit:  # stopped between two events: keep what was learnt
        run.keep()
        raise
    run.keep()
    yield Made("checkpoint", str(folder / "checkpoint"), run.step)
    yield Made(run.made, str(folder / run.made), run.step)
    yield Finished("finished", f"{spec.steps} steps.")


@dataclass
class Run:
    """One training run between two of its steps."""

    spec: TrainSpec
    folder: Path
    prepared: Prepared
    step: int = 0
    kept: int = -1  # step of the newest checkpoint
    barren: int = 0  # steps in a row without a finite gradient
    told: set[str] = field(default_factory=set)  # what was noted, so that a lasting state is told once
    accelerator: Accelerator = field(init=False)
    attachment: Attachment = field(init=False)
    stepper: Stepper = field(init=False)

    def __post_init__(self) -> None:
        spec, model = self.spec, self.prepared.model
        torch.manual_seed(spec.seed)
        self.accelerator = Accelerator(mixed_precision="bf16" if model.device.type == "cuda" else "no", cpu=model.device.type == "cpu")
        self.attachment = spec.adapter.attach(model, spec.seed)
        self.stepper = spec.update.begin(self.attachment.groups())
        self.batches = Batches.of(self.prepared.train, spec, self.prepared.tokenizer.pad_token_id)
        self.step, random = checkpoint.load(self.folder, self.attachment, self.stepper)
        self.kept = self.step if self.step else -1
        self.random = random or checkpoint.random_state()

    @property
    def made(self) -> str:
        return "model" if self.spec.adapter.whole else "adapter"

    def about(self) -> dict[str, float | int | str]:
        return {
            "trained_parameters": sum(parameter.numel() for _, parameter in self.attachment.trained()),
            "training_rows": len(self.prepared.train),
            "validation_rows": self.prepared.validation_rows,
            "epochs": round(self.spec.steps / self.batches.steps_per_epoch, 2),
            "device": str(self.prepared.model.device),
            "resumed_at": self.step,
        }

    def steps(self) -> Iterator[Event]:
        """Every step from where the run stands; between two events nothing is half done."""
        checkpoint.set_random_state(self.random)
        if self.step == 0:
            yield from self.look()
        while self.step < self.spec.steps:
            events = self.advance()
            yield from events
            yield Progress(self.step, self.spec.steps)
            if self.step % self.spec.evaluate_every == 0 or self.step == self.spec.steps:
                yield Measured(self.step, self.evaluate())
            if self.step % self.spec.sample_every == 0 or self.step == self.spec.steps:
                yield from self.samples()
            if self.step % self.spec.checkpoint_every == 0 and self.step < self.spec.steps:
                self.keep_checkpoint()
                yield Made("checkpoint", str(self.folder / "checkpoint"), self.step)

    def look(self) -> Iterator[Event]:
        """What the base says and scores, before anything moved."""
        yield Measured(0, self.evaluate())
        yield from self.samples()

    def advance(self) -> list[Event]:
        """One optimizer step; returns what there is to say of it."""
        began, step = time.perf_counter(), self.step + 1
        window = [self._placed(batch) for batch in self.batches.window(step)]
        values = self._gradients(window)
        moment = Moment(step, self.attachment, window[-1], decode=self.prepared.decode)
        events = self._read("gradient", moment, values)
        finite = math.isfinite(values["loss"]) and all(math.isfinite(value) for value in values.values())
        self.barren = 0 if finite else self.barren + 1
        if finite:
            events += self._move(step, moment, values)
        else:
            events += self._skipped(step)
        tokens = sum(int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel() for batch in window)
        values["tokens_per_s"] = tokens / (time.perf_counter() - began)
        values["memory_gb"] = memory_used() / 1e9
        self.step, self.random = step, checkpoint.random_state()
        return [Measured(step, values), *events]

    def evaluate(self) -> dict[str, float]:
        """Validation loss and what the evaluation probes read; changes no random state."""
        values = {}
        if self.prepared.validation:
            values["validation_loss"] = self._loss_on(self.prepared.validation)
        moment = Moment(
            self.step, self.attachment, {}, validation=self.prepared.validation, known=self.prepared.known, decode=self.prepared.decode
        )
        self._read("evaluation", moment, values)
        return values

    @torch.no_grad()
    def samples(self) -> Iterator[Event]:
        """Greedy answers to the sample prompts as the model is now."""
        tokenizer, model = self.prepared.tokenizer, self.attachment.model
        model.eval()
        for prompt in self.prepared.prompts:
            answer = greedy(model, tokenizer, prompt)
            yield Said(self.step, "model", prompt, answer)

    def keep(self) -> None:
        """Save what was learnt, and the checkpoint, if anything moved since the last time."""
        if self.step > 0:
            if self.step != self.kept:
                self.keep_checkpoint()
            checkpoint.whole(self.folder / self.made, self._save)

    def keep_checkpoint(self) -> None:
        checkpoint.save(self.folder, self.step, self.attachment, self.stepper, self.random)
        self.kept = self.step

    def _save(self, folder: Path) -> None:
        self.attachment.save(folder)
        if self.made == "model":
            self.prepared.tokenizer.save_pretrained(folder)

    def _gradients(self, window: list[dict[str, Tensor]]) -> dict[str, float]:
        """Forward and backward over the window; the gradients are those of the mean over all its trained tokens."""
        self.attachment.model.train()
        count = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in window)
        objective, total, weighted, distance = self.spec.loss, 0.0, 0.0, 0.0
        for batch in window:
            base = self._base_table(batch) if objective.anchor else None
            with self.accelerator.autocast():
                table = label_table(self.attachment.model, batch)
            stats = token_stats(table, batch, objective)
            loss = -(stats.mask * objective.weights(stats) * stats.logp).sum() / max(1, count)
            if base is not None:
                kl = (base.exp() * (base - table)).sum() / max(1, count)
                distance += kl.item()
                loss = loss + objective.anchor * kl
            self.accelerator.backward(loss)
            total -= (stats.mask * stats.logp).sum().item()
            weighted += loss.item()
        values = {"loss": total / max(1, count)} | ({"anchor_kl": distance} if objective.anchor else {})
        return values if math.isclose(weighted, values["loss"], rel_tol=1e-4) else {**values, "objective": weighted}

    @torch.no_grad()
    def _base_table(self, batch: dict[str, Tensor]) -> Tensor:
        """What the base gives every token of the vocabulary where this batch is learnt, (N, V)."""
        with self.attachment.base(), self.accelerator.autocast():
            return label_table(self.attachment.model, batch)

    def _move(self, step: int, moment: Moment, values: dict[str, float]) -> list[Event]:
        """Step the optimizer, and let the probes that want it see how far each parameter went."""
        guarded = self.spec.update.guard != "monitor"
        watching = guarded or any(probe.when == "step" and probe.due(step) for probe in self._probes())
        before = {name: parameter.detach().clone() for name, parameter in self.attachment.trained()} if watching else {}
        self.attachment.before_step(step)
        values.update(self.stepper.step(rate(step, self.spec)))
        self.attachment.after_step(step)
        if not watching:
            return []
        displacement = {name: (p.detach() - before[name]).float() for name, p in self.attachment.trained()}
        moment = Moment(step, self.attachment, moment.batch, displacement, decode=moment.decode)
        events = self._read("step", moment, values, always=guarded)
        if guarded:
            self._shorten(before, displacement, values)
        return events

    @torch.no_grad()
    def _shorten(self, before: dict[str, Tensor], displacement: dict[str, Tensor], values: dict[str, float]) -> None:
        """Take back what the update's guard does not allow of the step; what it read and what it kept are plotted."""
        if "step_ratio" not in values:
            raise WorkbenchError(
                f"The update's guard {self.spec.update.guard!r} needs to know how safe a step is. Add the probe step_safety to the spec, "
                "or set the guard to monitor."
            )
        scale = self.spec.update.scale(values)
        if scale < 1:
            for name, parameter in self.attachment.trained():
                parameter.copy_(before[name] + (scale * displacement[name] if scale else 0))
        values |= {"step_scale": scale, "step_ratio_taken": scale * values["step_ratio"] if scale else 0.0}

    def _skipped(self, step: int) -> list[Event]:
        for _, parameter in self.attachment.trained():
            parameter.grad = None
        if self.barren >= PATIENCE:
            raise WorkbenchError(
                f"The loss or its gradient was not a finite number for {PATIENCE} steps in a row (the last was step {step}): the run has "
                "diverged. Lower the learning rate, lengthen the warm-up, and start again from an earlier checkpoint or from the base."
            )
        return [Noted(f"Step {step}: the loss or its gradient is not a finite number, so nothing was moved.", "act")]

    def _read(self, when: str, moment: Moment, values: dict[str, float], always: bool = False) -> list[Event]:
        """Ask the probes of one moment; numbers go into `values`, sentences come back. `always`: also those that are not due."""
        said: list[Event] = []
        for probe in self._probes():
            due = when == "evaluation" or probe.due(moment.step)
            if probe.when == when and (due or always):
                reading = probe.read(moment)
                values.update(reading.values)
                if reading.says and due and reading.says not in self.told:
                    self.told.add(reading.says)
                    said.append(Noted(reading.says, reading.level))
        return said

    def _probes(self) -> list[Probe]:
        return self.spec.probes

    @torch.no_grad()
    def _loss_on(self, batches: list[dict[str, Tensor]]) -> float:
        self.attachment.model.eval()
        stats = [token_stats(label_table(self.attachment.model, batch), batch) for batch in batches]
        return -sum(part.logp.sum().item() for part in stats) / max(1, sum(part.logp.numel() for part in stats))

    def _placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.prepared.model.device) for name, tensor in batch.items()}


def rate(step: int, spec: TrainSpec) -> float:
    """The learning rate at `step` (from 1) as a share of its peak: a linear warm-up, then the schedule down to 0."""
    warm = round(spec.warmup * spec.steps)
    if step <= warm:
        return step / warm
    done = (step - 1 - warm) / max(1, spec.steps - warm)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[spec.schedule]


def greedy(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The likeliest answer, at most `SAMPLE_TOKENS` tokens."""
    ids = torch.tensor([prompt_ids(tokenizer, [{"role": "user", "content": prompt}])], device=model.device)
    spoken = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=SAMPLE_TOKENS, do_sample=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return tokenizer.decode(spoken[0, ids.shape[1] :], skip_special_tokens=True).strip()
