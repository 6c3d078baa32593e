"""Ghosts of Softmax (arXiv:2603.13552): a learning rate far too high for one step, with and without the cap at the safe radius."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
SPIKE = [{"at": 30, "set": {"update.lr": 20.0}}, {"at": 31, "set": {"update.lr": 2e-3}}]


def _run(guard: str, clip: float, probes: list[Any]) -> dict[str, Any]:
    update = {"method": "adamw", "lr": 2e-3, "clip": clip, "guard": guard}
    adapter = {"method": "lora", "rank": 16, "dropout": 0.0}
    settings = {"schedule": "constant", "changes": SPIKE, "stop": {"not_finite": 1000}, "probes": probes}
    return training("quickstart", 60, adapter=adapter, update=update, **settings)


CLAIM = Claim(
    shelf="probes",
    method="step_safety",
    paper="arXiv:2603.13552",
    says="A learning rate ten thousand times too high destroys what was learnt, with clipped gradients too; steps held at r ≤ 1 survive it "
    "(the paper's transformer: 32 %, 39 % and 95 % right).",
    mark="P",
    runs={
        "plain": _run("monitor", 0.0, []),
        "clipped": _run("monitor", 1.0, []),
        "capped": _run("cap", 0.0, [{"method": "step_safety", "every": 1, "share": 1.0}]),
    },
    models={"plain AdamW": "run:plain", "gradients clipped": "run:clipped", "held at r ≤ 1": "run:capped"},
    expected=(
        Expected(LOSS, "held at r ≤ 1", "plain AdamW", 1.0),
        Expected(LOSS, "held at r ≤ 1", "gradients clipped", 1.0),
    ),
    seconds=63,
    differs="The paper shows it on image classifiers and a tiny transformer. Here LoRA teaches the demo model to answer like a "
    "storyteller; at step 30 of 60 the learning rate is 20 instead of 0.002, for that one step.",
)
