"""k-center (arXiv:1708.00489): one row in twenty so far apart that all others are near one, beside one in twenty at random."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

RARE = Measure("loss on the rare task", ("skill_b · loss",))
COMMON = Measure("loss on the common task", ("skill_a · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "random": {"most_rows": 46},  # as many as are left of a twentieth, once a tenth is held back
    "k-center": {"selectors": [{"method": "k_center", "share": 0.05}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="k_center",
    paper="arXiv:1708.00489",
    says="Rows that cover a data set, so that every other row lies near one of them, teach more than as many rows drawn at random.",
    mark="P",
    runs={name: training("", 40, **LORA) | {"data": {"path": "imbalanced", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS], "sets": [{"data": "skill_b"}, {"data": "skill_a"}]},),
    models={"5 % by k-center": "run:k-center", "5 % at random": "run:random"},
    expected=(Expected(RARE, "5 % by k-center", "5 % at random", 0.1), Expected(COMMON, "5 % by k-center", "5 % at random", -0.1)),
    seconds=33,
    differs="The paper chooses images to be labelled, and chooses anew as the network learns. Here the demo model learns from a set in "
    "which 20 of 1,020 rows are of a rare task, the first and the last word, and the others say every word twice.",
)
