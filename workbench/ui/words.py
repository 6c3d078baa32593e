"""Numbers, times and statuses in the words a person reads.

Three significant digits, units spelt beside the number, no internal names. Knows no component and no tab.
"""

import math
from typing import Any

from workbench.ui.cards import escaped

STATUS = {
    "queued": ("waits its turn", "quiet"),
    "running": ("running", "live"),
    "paused": ("paused", "watch"),
    "finished": ("finished", "safe"),
    "stopped": ("stopped", "quiet"),
    "failed": ("failed", "act"),
    "interrupted": ("interrupted", "watch"),
}
"""Status → (words, class that colours it: `live`, `safe`, `watch`, `act` or `quiet`)."""
METRICS = {
    "loss": "loss",
    "validation_loss": "validation loss",
    "base_loss": "loss on known skills",
    "base_kl": "KL from the base",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "tau": "step length τ",
    "rho_a": "safe radius ρ_a",
    "step_ratio": "step safety r = τ / ρ_a",
    "step_ratio_taken": "r of the step as it was shortened",
    "anchor_kl": "KL to the base on what is learnt",
    "step_scale": "share of the step that was kept",
    "tokens_per_s": "tokens per second",
    "memory_gb": "memory (GB)",
}
"""What is measured, in words; a probe's own name is shown with spaces."""
RUNNING = {"train": "training", "merge": "merging", "compare": "answering"}


def number(value: float) -> str:
    """Three significant digits: `1.42`, `0.000312`, `18,300`; what is no number says so."""
    if not math.isfinite(value):
        return "not a number"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def count(value: int, one: str, many: str = "") -> str:
    """`1 row`, `812 rows`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`less than a second`, `40 s`, `1 min 12 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if seconds < 1:
        return "less than a second"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count_of_bytes: float) -> str:
    """`512 kB`, `3.1 GB`, in powers of 1,000."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_of_bytes >= power:
            return f"{count_of_bytes / power:.3g} {unit}"
    return f"{count_of_bytes:.0f} bytes"


def status_words(kind: str, status: str) -> str:
    """`training`, `paused`, `waits its turn`."""
    return RUNNING.get(kind, "running") if status == "running" else STATUS[status][0]


def metric(name: str) -> str:
    """`validation_loss` → `validation loss`."""
    return METRICS.get(name, name.replace("_", " "))


def dot(status: str) -> str:
    """The small coloured disc before a run; the words beside it say the same."""
    return f'<i class="dot {STATUS[status][1]}" aria-hidden="true"></i>'


def run_label(run_id: str, name: str) -> str:
    """`0042 · first try`."""
    return f"{run_id} · {name}" if name else run_id


def attributes(**values: Any) -> str:
    """Escaped HTML attributes; underscores become dashes: `data_run="0001"` → `data-run="0001"`."""
    return " ".join(f'{name.replace("_", "-")}="{escaped(value)}"' for name, value in values.items())
