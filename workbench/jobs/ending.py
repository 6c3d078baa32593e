"""Whether a run is over before its last step, and why. What it counts is kept with the checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.parts import StopSpec


@dataclass
class Ending:
    """What has been counted and done.

    since: evaluations without a lower validation loss than `best`, which is that of `best_at`.
    barren: steps in a row without a finite gradient.
    """

    best: float = math.inf
    best_at: float = -1
    since: float = 0
    unsafe: float = 0
    seconds: float = 0
    tokens: float = 0
    barren: float = 0
    last: float = math.inf  # validation loss
    evaluated_at: float = -1  # the step of the last evaluation, and of the last round of answers
    answered_at: float = -1

    def took(self, values: Mapping[str, float], seconds: float, tokens: int) -> None:
        """Hear of one step."""
        self.seconds += seconds
        self.tokens += tokens
        self.unsafe += values.get("step_ratio", 0.0) >= 1

    def evaluated(self, values: Mapping[str, float], step: int) -> None:
        """Hear of one evaluation."""
        self.evaluated_at = step
        if "validation_loss" in values:
            self.last = values["validation_loss"]
            self.since += 1
            if self.last < self.best:
                self.best, self.best_at, self.since = self.last, step, 0

    def finite(self, yes: bool, step: int, stop: StopSpec) -> None:
        """Hear whether a step had a finite loss and gradient; a run that has none for too long has failed."""
        self.barren = 0 if yes else self.barren + 1
        if self.barren >= stop.not_finite:
            raise WorkbenchError(
                f"The loss or its gradient was not a finite number for {stop.not_finite} steps in a row (the last was step {step}): "
                "the run has diverged. Lower the learning rate, lengthen the warm-up, and start again from an earlier checkpoint or "
                "from the base."
            )

    def reason(self, stop: StopSpec) -> str:
        """Why the run is over now, as a sentence; empty while it goes on."""
        if stop.target and self.last <= stop.target:
            return f"The validation loss reached {self.last:.4g} (the target is {stop.target:g})."
        if stop.patience and self.since >= stop.patience:
            return f"The validation loss has not fallen below {self.best:.4g} for {int(self.since)} evaluations."
        if stop.unsafe and self.unsafe >= stop.unsafe:
            return f"Step safety read an r of 1 or more {int(self.unsafe)} times."
        if stop.minutes and self.seconds >= 60 * stop.minutes:
            return f"{stop.minutes:g} minutes of steps are over."
        if stop.tokens and self.tokens >= stop.tokens:
            return f"{int(self.tokens):,} tokens were read."
        return ""

    def state(self) -> dict[str, Tensor]:
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in asdict(self).items()}

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> "Ending":
        return cls(**{name: value.item() for name, value in state.items()})
