"""LESS (arXiv:2402.04333): one row in twenty chosen by gradients for a small task among a large one, at random, and all rows."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on the target's task", ("skill_b · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "all": {},
    "random": {"most_rows": 46},  # as many as are left of a twentieth, once a tenth is held back
    "less": {"selectors": [{"method": "less", "target": "skill_b", "share": 0.05}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="less",
    paper="arXiv:2402.04333",
    says="The twentieth of the rows whose gradients agree most with a target's often teaches more of the target than all rows do.",
    mark="P",
    runs={name: training("", 40, **LORA) | {"data": {"path": "imbalanced", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS], "sets": [{"data": "skill_b"}]},),
    models={"5 % by LESS": "run:less", "5 % at random": "run:random", "all rows": "run:all"},
    expected=(Expected(LOSS, "5 % by LESS", "5 % at random", 0.1), Expected(LOSS, "5 % by LESS", "all rows", 0.1)),
    seconds=63,
    differs="The paper chooses instructions for models of 7 B and more, with four states of a warm-up. Here 20 of 1,020 rows teach the "
    "demo model the target's task, the first and the last word, and all others to say every word twice; all three runs take 40 steps. The "
    "target's rows are not among them, but they are also those that are measured with.",
)
