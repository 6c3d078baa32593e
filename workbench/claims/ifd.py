"""IFD (arXiv:2308.12032): the tenth of the rows whose question helps least with the answer, beside a random tenth and all of them."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on rows kept back", ("skill_a, held back · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
ROWS: dict[str, dict[str, Any]] = {
    "all": {},
    "random": {"most_rows": 45},  # as many as are left of a tenth, once a tenth is held back
    "ifd": {"selectors": [{"method": "ifd", "share": 0.1}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="ifd",
    paper="arXiv:2308.12032",
    says="The tenth of the rows in which the question helps the model least, but helps, teaches about as much as all rows do.",
    mark="P",
    runs={name: training("skill_a", 50, **LORA) | {"data": {"path": "skill_a", **rows}} for name, rows in ROWS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in ROWS]},),
    models={"10 % by IFD": "run:ifd", "10 % at random": "run:random", "all rows": "run:all"},
    expected=(Expected(LOSS, "10 % by IFD", "all rows", -0.1), Expected(LOSS, "10 % by IFD", "10 % at random", 0.05)),
    seconds=45,
    differs="The paper chooses from 52,000 mixed instructions for models of 7 B and has answers judged. Here all 500 rows are of one "
    "kind, to say every word twice, and the demo model learns them in 50 steps from 10 % or from all.",
)
