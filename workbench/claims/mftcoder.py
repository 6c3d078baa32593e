"""MFTCoder (arXiv:2311.02303): two tasks of unlike size whose losses count alike, beside the plain mixture of their rows."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

SMALL = Measure("loss on the small task", ("skill_b · loss",))
LARGE = Measure("loss on the large task", ("skill_a · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
DATA: dict[str, Any] = {"data": {"path": "imbalanced", "task": "task"}, "batch_size": 16}

CLAIM = Claim(
    shelf="losses",
    method="mftcoder",
    paper="arXiv:2311.02303",
    says="With losses in which tasks count alike, a model tuned on many tasks at once is not swamped by those with much data, and beats "
    "plain tuning on the mixture.",
    mark="P",
    runs={name: training("imbalanced", 40, loss={"method": name}, **LORA) | DATA for name in ("mftcoder", "cross_entropy")},
    asks=({"kind": "evaluate", "models": ["run:mftcoder", "run:cross_entropy"], "sets": [{"data": "skill_b"}, {"data": "skill_a"}]},),
    models={"MFTCoder": "run:mftcoder", "cross-entropy": "run:cross_entropy"},
    expected=(Expected(SMALL, "MFTCoder", "cross-entropy", 0.1), Expected(LARGE, "MFTCoder", "cross-entropy", -0.1)),
    seconds=38,
    differs="The paper tunes models of up to 34 B on tasks about code. Here the demo model learns two tasks, every word twice from 1,000 "
    "rows and the first and the last word from 20; a step has 16 rows, and two in three steps have none of the small task.",
)
