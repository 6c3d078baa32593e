"""What a job says while it works: a closed vocabulary of small values.

A job yields these and knows nothing of who listens: the runner's thread, the command line's progress bar, a notebook's
`for` loop. Every field is a plain value, so an event survives JSON.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["queued", "running", "paused", "finished", "stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Started:
    """The job has what it needs and begins; `about` are facts worth a line (parameters, tokens, machine)."""

    total: int
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of `what`; `step` counts where a training job stands."""

    done: int
    total: int
    what: str = "step"


@dataclass(frozen=True)
class Measured:
    """Named numbers at one step. A new probe brings new names and needs no migration."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Said:
    """An answer: a sample during training, or one pane of a comparison as it grows (`done` tells the last).

    `tokens` holds one `[text, log-probability, log-probability under the base]` a token, where it was measured.
    """

    step: int
    speaker: str
    prompt: str
    answer: str
    tokens: list[list[Any]] = field(default_factory=list)
    done: bool = True


@dataclass(frozen=True)
class Table:
    """A finding that is a table: what explains a merge layer by layer, a report of a data set."""

    name: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Made:
    """Something lies in the workspace now and is complete: a checkpoint, an adapter, a model, a data set."""

    what: Literal["checkpoint", "adapter", "model", "data"]
    path: str
    step: int = 0


@dataclass(frozen=True)
class Noted:
    """A sentence for the run's log; `level` says whether a person should act on it, `step` marks one of the curve (−1 none)."""

    text: str
    level: Literal["info", "watch", "act"] = "info"
    step: int = -1


@dataclass(frozen=True)
class Finished:
    """The last event of every job. A failure carries a plain sentence and keeps its traceback."""

    status: Status
    message: str = ""
    traceback: str = ""


Event = Started | Progress | Measured | Said | Table | Made | Noted | Finished


def to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON-ready values, with its kind under `event`."""
    return {"event": type(event).__name__, **asdict(event)}
