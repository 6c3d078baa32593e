"""GOT-D (arXiv:2405.02774): one row in fifty that moves the set towards a target, that is most like the target, and at random."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on the target's task", ("skill_b · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "random": {"most_rows": 18},  # as many as are left of a fiftieth, once a tenth is held back
    "transport": {"selectors": [{"method": "got_d", "target": "skill_b", "share": 0.02}]},
    "alike": {"selectors": [{"method": "rds_plus", "target": "skill_b", "share": 0.02}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="got_d",
    paper="arXiv:2405.02774",
    says="Rows that would bring what a model has seen nearer to a target teach more of it than those most like the target or random ones.",
    mark="P",
    runs={name: training("", 40, **LORA) | {"data": {"path": "imbalanced", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS], "sets": [{"data": "skill_b"}]},),
    models={"2 % by GOT-D": "run:transport", "2 % by likeness (RDS+)": "run:alike", "2 % at random": "run:random"},
    expected=(Expected(LOSS, "2 % by GOT-D", "2 % at random", 0.1), Expected(LOSS, "2 % by GOT-D", "2 % by likeness (RDS+)")),
    seconds=45,
    differs="The paper warms GPT-2 up on what it selects and then tunes it on the target's own rows. Here what is selected is all that the "
    "demo model learns from: 20 of 1,020 rows are of the target's task, the first and the last word, all others say every word twice. The "
    "target's rows are not among them, but they are also those that are measured with.",
)
