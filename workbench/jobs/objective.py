"""The number that a run makes smaller, and its gradients over one accumulation window.

Σ weights · (−log p) / M, with M the trained tokens of the whole window, so a long answer is never worth less than a short one,
plus what the loss adds of the base. Knows no optimizer, no schedule and no probe.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from workbench.core.events import Event, Noted
from workbench.jobs.clock import Clock
from workbench.jobs.judging import Known
from workbench.jobs.scaling import Scaling
from workbench.jobs.together import Group
from workbench.materials.models import label_table
from workbench.materials.odds import label_logp, label_odds
from workbench.materials.packing import IGNORED
from workbench.materials.token_stats import Learnt, TokenStats, kl
from workbench.methods.contracts import Attachment, Loss, Noise, Showing

Batch = dict[str, Tensor]


@dataclass
class Objective:
    """The loss on one model. `dtype`: numbers of the arithmetic. `special`: ids that no noise may put in place of others."""

    loss: Loss
    noises: Sequence[Noise]
    attachment: Attachment
    accelerator: Accelerator
    dtype: torch.dtype
    known: Known
    special: Sequence[int]
    seed: int
    clock: Clock
    group: Group = field(default_factory=Group)  # of processes, each of which reads a part of every window
    task_weights: Tensor = field(default_factory=lambda: torch.empty(0))  # by the tasks' numbers, where the loss follows them
    scaling: Scaling = field(init=False)

    def __post_init__(self) -> None:
        self.scaling = Scaling(self.dtype == torch.float16)

    def losses(self, window: Sequence[Batch], step: int, share: float) -> dict[str, float]:
        """What `gradients` returns, from forward passes alone and without dropout."""
        self.attachment.model.eval()
        with torch.no_grad(), self.clock.part("forward"):
            return self._added(self._over(window, step, share, backward=False), [])

    def gradients(self, window: Sequence[Batch], step: int, share: float) -> dict[str, float]:
        """Forward and backward over the window; the gradients are those of the mean over all its trained tokens.

        `share` is how much of the run is over. Returns the plain loss, and what was made smaller where that is not the same.
        """
        self.attachment.model.train()
        with self.clock.part("forward"), self.group.chance():  # the backward passes in it are a part of their own
            values = self._added(self._over(window, step, share, backward=True), [own for _, own in self.attachment.trained()])
        self.scaling.down(parameter for _, parameter in self.attachment.trained())
        return values

    def let_go(self) -> None:
        """The gradients there are."""
        for _, parameter in self.attachment.trained():
            parameter.grad = None

    def left_out(self, step: int) -> list[Event]:
        """Let the gradients go where they, or the loss, are no finite numbers; returns what there is to say of it."""
        self.let_go()
        if self.scaling.spared:
            return []  # a factor that was tried and found too high
        return [Noted(f"Step {step}: the loss or its gradient is not a finite number, so nothing was moved.", "act", step)]

    def _added(self, values: dict[str, float], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
        """The values and the gradients of the whole window, from the parts of it that the processes have read."""
        if self.group.size == 1:
            return values
        with self.clock.part("exchange"):
            return self.group.add(values, parameters, self.attachment.tallies())

    def _over(self, window: Sequence[Batch], step: int, share: float, backward: bool) -> dict[str, float]:
        all_learnt = self.learnt(window)
        total = weighted = distance = 0.0
        count = max(1, len(all_learnt.row))
        generator, mine, every = self._generator(step), self.group.mine(window), [*spans(window)]
        own = [window[place] for place in mine]
        for batch, shown, (start, end) in zip(
            self._told(own), self._shown(own, generator, share), (every[place] for place in mine), strict=True
        ):
            labels = labels_of(batch)
            base = self._base_table(batch) if self.loss.needs_base() else None
            read = self.loss.read(self._read(shown, labels, generator), base, labels)
            stats = self._stats(read, all_learnt, slice(start, end), share)
            loss = -(self.loss.weights(stats) * stats.logp).sum() / count
            if read.again:
                loss = loss + self.loss.difference(read.table, read.again).sum() / count
            if base is not None:
                loss = loss + self.loss.penalty(read.table, base, labels).sum() / count
                distance += kl(base, read.table.detach()).sum().item() / count
            if backward:
                with self.clock.part("backward"):
                    self.accelerator.backward(self.scaling.up(loss))
            total -= stats.logp.sum().item()
            weighted += loss.item()
        values = {"loss": total / count} | ({"anchor_kl": distance} if self.loss.needs_base() else {})
        return values if self.loss.neutral == {} and not self.loss.needs_base() else {**values, "objective": weighted}

    @torch.no_grad()
    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """The plain loss on batches that are not trained on, in nats per token; NaN without any."""
        self.attachment.model.eval()
        total = count = 0.0
        for batch in self._told(batches):
            with self._numbers():
                logp = label_logp(self.attachment.model, batch) if self.loss.alone() else self._together(batch)
            total -= logp.sum().item()
            count += len(logp)
        return total / count if count else math.nan

    def _together(self, batch: Batch) -> Tensor:
        """(N,) log-probabilities of a batch's labels by the model and its base together, as the loss has them."""
        read = Read(torch.empty(0), None, label_table(self.attachment.model, batch))
        return self.loss.read(read, self._base_table(batch), labels_of(batch)).logp

    def learnt(self, window: Sequence[Batch]) -> Learnt:
        """What is known of the window's learnt tokens before any forward pass."""
        row = torch.cat([batch["rows"][:, 1:][learnt_at(batch)] for batch in window])
        return Learnt(row, self.known.tasks.to(row.device)[row], self.known.scores_of(row), self.task_weights)

    def _stats(self, read: "Read", window: Learnt, part: slice, share: float) -> TokenStats:
        return TokenStats(
            read.logp, torch.ones_like(read.logp), read.entropy, window.row[part], window.task[part], window.score[part], window, share,
            self.attachment.model.get_input_embeddings().weight.shape[0],
        )  # fmt: skip

    def _read(self, shown: Batch, labels: Tensor, generator: torch.Generator) -> "Read":
        """One batch as the model reads it; the table of all tokens only for a loss that asks for more than the labels' own."""
        model, over = self.attachment.model, self.loss.entropy_over()
        if not reads_table(self.loss):
            with self._numbers():
                odds = label_odds(model, shown, entropy=over == 0)
            return Read(odds.logp, None if odds.entropy is None else odds.entropy.detach())
        further = self.loss.further(model, shown)
        with further.watching() if further else nullcontext(), self._numbers():
            table = label_table(model, shown)
        again = []
        for reading in further.readings(generator) if further else ():
            with reading, self._numbers():
                again.append(label_table(model, shown))
        entropy = None if over is None else entropy_of(table.detach(), over)
        return Read(table.gather(1, labels[:, None])[:, 0], entropy, table, again)

    def _generator(self, step: int) -> torch.Generator:
        """Chance for the noises and the further readings, each process's own: from the seed and the step alone, so that a resumed run has
        the same."""
        return torch.Generator().manual_seed((self.group.rank << 52) + self.seed * 1_000_003 + step)

    def _shown(self, window: Sequence[Batch], generator: torch.Generator, share: float) -> Iterator[Batch]:
        """The batches as the model sees them: the noises in order."""
        showing = Showing(share, self.attachment.model.get_input_embeddings(), self.special, generator)
        for batch in window:
            for noise in self.noises:
                batch = noise.disturb(batch, showing)
            yield batch

    def _told(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """The batches, the tasks of each made known to the attachment before it is read and until its gradients are taken."""
        for batch in batches:
            self.attachment.hear(self.known.tasks_of(batch))
            yield batch
        self.attachment.hear(None)

    def _numbers(self) -> AbstractContextManager[None]:
        """Matrix products in `dtype`; what needs more stays in float32."""
        return torch.autocast(self.attachment.model.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.no_grad()
    def _base_table(self, batch: Batch) -> Tensor:
        """What the base gives every token of the vocabulary where this batch is learnt, (N, V)."""
        with self.attachment.base(), self._numbers():
            return label_table(self.attachment.model, batch)


@dataclass(frozen=True)
class Read:
    """What a model made of the N learnt tokens of a batch. `table`: (N, V) log-probabilities; `again`: those of further readings."""

    logp: Tensor
    entropy: Tensor | None
    table: Tensor = field(default_factory=lambda: torch.empty(0))
    again: list[Tensor] = field(default_factory=list)


def reads_table(loss: Loss) -> bool:
    """Whether a loss asks for more than each learnt token's own log-probability and its entropy over the whole vocabulary."""
    return loss.needs_base() or bool(loss.entropy_over()) or type(loss).further is not Loss.further


def learnt_at(batch: Batch) -> Tensor:
    """(B, T − 1) booleans: whether the token after each position is learnt."""
    return batch["labels"][:, 1:] != IGNORED


def labels_of(batch: Batch) -> Tensor:
    """(N,) the learnt tokens of a batch, in the order of `label_table`."""
    return batch["labels"][:, 1:][learnt_at(batch)]


def spans(window: Sequence[Batch]) -> Iterator[tuple[int, int]]:
    """Where each batch's learnt tokens stand among the window's."""
    start = 0
    for batch in window:
        end = start + int(learnt_at(batch).sum())
        yield start, end
        start = end


def entropy_of(table: Tensor, over: int) -> Tensor:
    """Entropy in nats of (N, V) log-probabilities, (N,); with `over` > 0 that of the likeliest so many, taken as a whole."""
    if over:
        table = table.topk(min(over, table.shape[-1]), -1).values.log_softmax(-1)
    return -(table.exp() * table).sum(-1)
