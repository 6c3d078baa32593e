"""DSIR (arXiv:2302.03169): one row in twenty drawn so that words fall as in a target, and one in twenty at random."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on the target's task", ("skill_b · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "random": {"most_rows": 46},  # as many as are left of a twentieth, once a tenth is held back
    "dsir": {"selectors": [{"method": "dsir", "target": "skill_b", "share": 0.05}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="dsir",
    paper="arXiv:2302.03169",
    says="Rows drawn so that their words and pairs of words fall as a target's do teach more of the target than rows drawn at random.",
    mark="P",
    runs={name: training("", 40, **LORA) | {"data": {"path": "imbalanced", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS], "sets": [{"data": "skill_b"}]},),
    models={"5 % by DSIR": "run:dsir", "5 % at random": "run:random"},
    expected=(Expected(LOSS, "5 % by DSIR", "5 % at random", 0.1),),
    seconds=23,
    differs="The paper chooses texts to pretrain on from The Pile. Here 20 of 1,020 rows teach the demo model the target's task, the "
    "first and the last word, and all others to say every word twice. The target's rows are not among them, but they are also those "
    "that are measured with.",
)
