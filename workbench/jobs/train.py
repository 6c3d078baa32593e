"""Training as a generator of events: a screenful of loop over `accelerate`, everything else is a method or a material.

Knows no thread, no database and no page; whoever iterates decides when the next step happens (that is all there is to
pausing), and closing the iterator saves a checkpoint. If the run's folder holds a checkpoint, the run goes on from it and
its losses are those it would have had.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from workbench.core.events import Event, Finished, Made, Measured, Noted, Progress, Started
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.averaging import Average
from workbench.jobs.batches import Batches
from workbench.jobs.clock import Clock
from workbench.jobs.converging import Converging
from workbench.jobs.ending import Ending
from workbench.jobs.forecast import rows_table
from workbench.jobs.leading import called, possible
from workbench.jobs.objective import Objective
from workbench.jobs.prepare import Prepared, on, prepare
from workbench.jobs.probing import Probing
from workbench.jobs.quickening import pace, quicken, warm
from workbench.jobs.redrawing import Moving, redraw
from workbench.jobs.sampling import samples
from workbench.jobs.schedule import begun, opens, rate, shorten
from workbench.jobs.steering import Steering, Wish, in_words
from workbench.jobs.studying import attached
from workbench.jobs.together import Group
from workbench.methods.contracts import Attachment, Moment, Stepper


def train(spec: TrainSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Train as `spec` says, keeping everything in `folder`; ends with the adapter (or the model) whole on disk."""
    run = yield from begin(spec, folder, workspace)
    with run.group:
        yield Started(spec.steps, run.about())
        yield rows_table(len(run.prepared.train), run.prepared.validation_rows)
        if run.step == 0:  # a run that goes on has it on record
            yield Measured(0, pace(run.prepared.model, spec, run.batches, run.prepared.numbers))
            yield from map(Noted, run.attachment.notes())
        try:
            yield from run.steps()
        except GeneratorExit:  # stopped between two events: keep what was learnt
            run.keep()
            raise
        yield from run.keep_checkpoint()
        yield from run.choose()
        run.keep()
        yield Made(run.made, str(folder / run.made), run.step)
        yield Finished("finished", run.ended or f"{run.step} steps.")


def begin(spec: TrainSpec, folder: Path, workspace: Workspace) -> Generator[Progress, None, "Run"]:
    """The run before its first step, or where its checkpoint in `folder` left it."""
    possible(spec)
    yield Progress(0, 1, "loading the model and the rows")
    prepared = yield from prepare(spec, workspace)
    run = Run(spec, folder, prepared, (yield from attached(spec, prepared, folder, workspace)))
    yield from warm(prepared, spec, run.attachment)
    run.group = run.objective.group = yield from called(spec, folder, workspace, prepared, run.attachment)
    return run


@dataclass
class Run:
    """One training run between two of its steps. `spec` is what holds now; `steering` knows what was started."""

    spec: TrainSpec
    folder: Path
    prepared: Prepared
    attachment: Attachment
    step: int = 0
    kept: int = -1  # step of the newest checkpoint
    ended: str = ""  # why it was over before its last step
    best: dict[str, Tensor] = field(default_factory=dict)  # what was learnt where the validation loss was lowest, on the CPU
    group: Group = field(default_factory=Group)  # of processes that take the steps together
    accelerator: Accelerator = field(init=False)
    stepper: Stepper = field(init=False)

    def __post_init__(self) -> None:
        spec, prepared, model = self.spec, self.prepared, self.prepared.model
        torch.manual_seed(spec.seed)
        self.steering = Steering.of(self.folder, spec)
        self.accelerator = Accelerator(cpu=model.device.type == "cpu")  # its precision is the process's, ours a run's
        if spec.recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self.batches = Batches.of(prepared.train, spec, prepared.tokenizer.pad_token_id, prepared.draws)
        self.clock, self.average, self.moving = Clock(), Average(), Moving()
        self.quick = quicken(model, spec, self.batches)
        self.probing = Probing(spec.probes, clock=self.clock)
        known = prepared.numbers, prepared.about, prepared.tokenizer.all_special_ids
        self.objective = Objective(spec.loss, spec.noises, self.attachment, self.accelerator, *known, spec.seed, self.clock)
        self.converging = Converging(self.objective, prepared.by_task)
        self._take_up()

    def _take_up(self) -> None:
        """Go on from the checkpoint, if there is one, with the settings that held there."""
        self.step, parts = checkpoint.load(self.folder)
        self.spec = self.steering.spec_at(self.step)
        self.kept = self.step if parts else -1
        self.random = parts.get("random") or checkpoint.random_state()
        self.ending = Ending.of_state(parts.get("ending", {}))
        if parts:
            self.attachment.load_state(parts["adapter"])  # first: it says what may move
        self.stepper = begun(self.spec.update, self.attachment, parts.get("optimizer", {}))
        self.average.load_state(parts.get("average", {}), self.attachment.trained())
        self.best = parts.get("best", {})
        self.objective.scaling.load_state(parts.get("scaling", {}))
        self.converging.load_state(parts.get("converging", {}))

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
            **self.quick,
        }

    def steps(self) -> Iterator[Event]:
        """Every step from where the run stands; between two events nothing is half done."""
        checkpoint.set_random_state(self.random)
        while True:
            yield from self.look()
            if self.over:
                return
            if self.step and self.step % self.spec.checkpoint_every == 0 and self.step != self.kept:
                yield from self.keep_checkpoint()
            for wanted in self.steering.wishes():
                yield from self.grant(wanted)
            yield from self.turn(self.step + 1)
            yield from self.advance()
            yield Progress(self.step, self.spec.steps)

    @property
    def over(self) -> bool:
        """Whether this was the last step; `ended` then says why, if it came early."""
        self.ended = self.ended or (self.ending.reason(self.spec.stop) if self.step else "")
        return self.step >= self.spec.steps or bool(self.ended)

    def look(self) -> Iterator[Event]:
        """The evaluation and the answers that are due where the run stands (the first ones are the base's), if they are not done."""
        if (self.step % self.spec.evaluate_every == 0 or self.over) and self.ending.evaluated_at < self.step:
            yield Measured(self.step, self.evaluate())
        if (self.step % self.spec.sample_every == 0 or self.over) and self.ending.answered_at < self.step:
            yield from self.samples()

    def grant(self, wanted: Wish) -> Iterator[Event]:
        """Do what a person asked for, or take the settings on from the next step."""
        if wanted.set and (refused := self.steering.take(wanted, self.step + 1)):
            yield Noted(f"Nothing was changed. {refused}", "watch")
        if wanted.do == "save":
            yield from self.keep_checkpoint()
        if wanted.do == "evaluate":
            yield Measured(self.step, self.evaluate())
        if wanted.do == "sample":
            yield from self.samples()

    def turn(self, step: int) -> Iterator[Event]:
        """Go by other settings where the spec or a person changes them at this step."""
        if turns := self.steering.turns_at(step):
            self.spec = self.steering.spec_at(step)
            self.stepper = begun(self.spec.update, self.attachment, self.stepper.state())
        for change in turns:
            yield Noted(f"From step {step}: {in_words(change.set)}.", "info", step)
        if opens(step, self.spec):
            yield Noted(f"From step {step}: link {opens(step, self.spec)} of {self.spec.adapter.links()} begins.", "info", step)

    def advance(self) -> list[Event]:
        """One optimizer step; returns what there is to say of it."""
        self.group.order([change.model_dump(mode="json") for change in self.steering.taken])
        step, before = self.step + 1, checkpoint.random_state()
        self.clock.begin(step)
        if opens(step, self.spec):
            self._next_link()
        self.stepper, stayed = redraw(step, self.attachment, self.spec.update, self.stepper, self.average)
        with self.clock.part("draw"):
            window = on(self.prepared.model.device, self.clock.counted(self.batches.window(step)))
        self.converging.see(step)
        forward, scaling = self.spec.update.forward_only, self.objective.scaling
        values = {} if forward else self.objective.gradients(window, step, self.step / self.spec.steps)
        moment = Moment(step, self.attachment, window[-1], decode=self.prepared.decode)
        events = [] if forward else self.probing.read("gradient", moment, values)
        finite = not scaling.overflowed and all(math.isfinite(value) for value in values.values())
        finite = bool(self.group.decided([finite])[0])  # what a probe read is among the values
        self.average.begin(self.attachment.trained(), self.spec.update.average)
        events += self._move(moment, values, window, before) if finite else self.objective.left_out(step)
        if forward and not math.isfinite(values["loss"]):  # which is told with the step where no gradient is taken
            finite, events = False, [*events, *self.objective.left_out(step)]
        self.average.follow(self.attachment.trained(), self.spec.update.average)
        values |= self.clock.end(self.attachment, self.stepper) | stayed | self.moving.told(self.attachment) | scaling.figures()
        self.probing.worked += self.clock.seconds
        self.ending.finite(finite or scaling.spared, step, self.spec.stop)
        self.ending.took(values, self.clock.seconds, self.clock.tokens)
        self.step, self.random = step, checkpoint.random_state()
        self.group.compare(self.attachment, step, self.spec.checkpoint_every)
        return [Measured(step, values), *events]

    def _next_link(self) -> None:
        """What this link has learnt stays as it would be saved; the next has an optimizer and an average of its own."""
        self.average.settle(self.attachment.trained())
        self.attachment.next_link()
        self.stepper = begun(self.spec.update, self.attachment, {})

    def evaluate(self) -> dict[str, float]:
        """Validation loss, of each task too, and what the evaluation probes read; changes no random state."""
        prepared, values = self.prepared, {}
        moment = Moment(self.step, self.attachment, {}, validation=prepared.validation, known=prepared.known, decode=prepared.decode)
        with self.average.in_place(self.attachment.trained()):
            if prepared.validation:
                values["validation_loss"] = self.objective.mean_loss(prepared.validation)
            values |= {f"validation_loss/{task}": self.objective.mean_loss(batches) for task, batches in prepared.by_task.items()}
            self.probing.read("evaluation", moment, values)
            self.ending.evaluated(values, self.step)
            if self.spec.stop.keep_best and self.ending.best_at == self.step:
                self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.attachment.state().items()}
        return values

    def choose(self) -> Iterator[Noted]:
        """Go back to where the validation loss was lowest, if the spec says so and it was not in the end."""
        ending = self.ending
        if self.spec.stop.keep_best and self.best and ending.best_at < self.step:
            self.attachment.load_state(self.best)
            self.average = Average()  # the best is an average already, if one is kept
            place = f"step {int(ending.best_at)}, where the validation loss was {ending.best:.4g}; in the end it was {ending.last:.4g}"
            yield Noted(f"What is kept is from {place}.", "info", int(ending.best_at))

    def samples(self) -> Iterator[Event]:
        yield from samples(self.step, self.attachment, self.prepared, self.average)
        self.ending.answered_at = self.step

    def keep(self) -> None:
        """Save what was learnt, and the checkpoint, if anything moved since the last time."""
        if self.step > 0:
            if self.step != self.kept:
                list(self.keep_checkpoint())
            checkpoint.whole(self.folder / self.made, self._save)

    def keep_checkpoint(self) -> Iterator[Made]:
        """Written first, then told, then shown: what a checkpoint holds is on record before anybody can go on from it."""
        state = {"adapter": self.attachment.state(), "optimizer": self.stepper.state(), "random": self.random}
        self.kept = self.step
        state |= {"ending": self.ending.state(), "scaling": self.objective.scaling.state(), "converging": self.converging.state()}
        state |= ({"best": self.best} if self.spec.stop.keep_best else {}) | ({"average": slow} if (slow := self.average.slow) else {})
        path = checkpoint.write(self.folder, self.step, state)
        try:
            yield Made("checkpoint", str(path), self.step)
        finally:
            checkpoint.show(self.folder)

    def _save(self, folder: Path) -> None:
        with self.average.in_place(self.attachment.trained()):
            self.attachment.save(folder)
        if self.made == "model":
            self.prepared.tokenizer.save_pretrained(folder)

    def _move(self, moment: Moment, values: dict[str, float], window: list[dict[str, Tensor]], random: dict[str, Tensor]) -> list[Event]:
        """Step the optimizer, and let the probes that want it see how far each parameter went."""
        step, guarded = moment.step, self.spec.update.guard != "monitor"
        watching = guarded or self.probing.watches_steps(step)
        before = {name: parameter.detach().clone() for name, parameter in self.attachment.trained()} if watching else {}
        with self.clock.stepping(self.attachment.trained()):
            self.attachment.before_step(step)
            values.update(self.stepper.step(rate(step, self.spec), lambda: self._again(window, step, random)))
            self.attachment.after_step(step)
        if not watching:
            return []
        displacement = {name: (p.detach() - before[name]).float() for name, p in self.attachment.trained()}
        moment = Moment(step, self.attachment, moment.batch, self.attachment.dense(displacement), decode=moment.decode)
        events = self.probing.read("step", moment, values, always=guarded)
        if guarded:
            values |= self.group.guided(values)
            shorten(self.spec.update, self.attachment.trained(), before, displacement, values)
        return [] if guarded else events  # a step that was too long is taken care of, and the curve shows it

    def _again(self, window: list[dict[str, Tensor]], step: int, random: dict[str, Tensor]) -> float:
        """What is made smaller of the same window where the parameters are now, with its gradients and the same dropout."""
        self.objective.let_go()
        checkpoint.set_random_state(random)
        forward = self.spec.update.forward_only
        values = (self.objective.losses if forward else self.objective.gradients)(window, step, self.step / self.spec.steps)
        if not forward:
            self.attachment.before_step(step)
        return values.get("objective", values["loss"])
