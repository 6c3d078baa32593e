"""Statuses, metrics and runs in the words a person reads; numbers and times are `core/words.py`'s. Knows no component and no tab."""

from typing import Any

from workbench.core.performance import MEMORY, PARTS
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
    "padding_share": "share of a batch that is padding",
    "learnt_share": "share of the tokens that is learnt",
    "tensors_moved": "share of the trained tensors that a step moves",
    "gflop_per_token": "arithmetic of a token (GFLOP)",
    "ceiling_tflop_per_s": "what the machine’s matrix products reach (TFLOP/s)",
    "gpu_busy": "GPU busy (%)",
    "gpu_watts": "GPU power (W)",
    "gpu_celsius": "GPU temperature (°C)",
    "loss_scale": "loss scale of float16",
    **{name: f"{words} (ms a step)" for name, words in PARTS.items()},
    **{name: f"{words} (GB)" for name, words in MEMORY.items()},
}
"""What is measured, in words; a probe's own name is shown with spaces."""
RUNNING = {
    "train": "training",
    "merge": "merging",
    "compare": "answering",
    "inspect": "inspecting",
    "evaluate": "asking",
    "report": "asking",
    "claim": "checking",
}


def status_words(kind: str, status: str) -> str:
    """`training`, `paused`, `waits its turn`."""
    return RUNNING.get(kind, "running") if status == "running" else STATUS[status][0]


def standing(step: int, total: int, unit: str) -> str:
    """`step 183/300`; before the first step what is done instead, `rows read 40/812` or `loading the model`; or nothing."""
    far = f"{step:,}/{total:,}"
    return "" if not total else f"{unit} {far}" if unit == "step" or total > 1 else unit


def metric(name: str) -> str:
    """`validation_loss` → `validation loss`."""
    return METRICS.get(name, name.replace("_", " "))


def dot(status: str) -> str:
    """The small coloured disc before a run; the words beside it say the same."""
    return f'<i class="dot {STATUS[status][1]}" aria-hidden="true"></i>'


def run_label(run_id: str, name: str) -> str:
    """`0042 · first try`; a run without a name of its own is called by its kind, which is said beside it."""
    return f"{run_id} · {name}" if name and name not in RUNNING else run_id


def attributes(**values: Any) -> str:
    """Escaped HTML attributes; underscores become dashes: `data_run="0001"` → `data-run="0001"`."""
    return " ".join(f'{name.replace("_", "-")}="{escaped(value)}"' for name, value in values.items())
