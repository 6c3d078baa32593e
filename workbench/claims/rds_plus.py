"""RDS+ (arXiv:2503.01807): one row in fifty that is most like a target's, chosen by LESS, and at random."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on the target's task", ("skill_b · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "random": {"most_rows": 18},  # as many as are left of a fiftieth, once a tenth is held back
    "rds": {"selectors": [{"method": "rds_plus", "target": "skill_b", "share": 0.02}]},
    "less": {"selectors": [{"method": "less", "target": "skill_b", "share": 0.02}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="rds_plus",
    paper="arXiv:2503.01807",
    says="Taking the rows whose hidden states are nearest to a target's teaches more of it than rows at random, and more than "
    "gradients (LESS) do, at a fraction of the work.",
    mark="P",
    runs={name: training("", 40, **LORA) | {"data": {"path": "imbalanced", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS], "sets": [{"data": "skill_b"}]},),
    models={"2 % by RDS+": "run:rds", "2 % by LESS": "run:less", "2 % at random": "run:random"},
    expected=(Expected(LOSS, "2 % by RDS+", "2 % at random", 0.1), Expected(LOSS, "2 % by RDS+", "2 % by LESS")),
    seconds=56,
    differs="The paper chooses from millions of instructions for models of 7 B and more. Here 20 of 1,020 rows teach the demo model the "
    "target's task, the first and the last word, and all others to say every word twice; as many rows are chosen as belong to the "
    "task. The target's rows are not among them, but they are also those that are measured with.",
)
