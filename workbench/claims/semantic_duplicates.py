"""SemDeDup (arXiv:2303.09540): half of the rows, without those that mean the same, beside a random half and all of them."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on rows kept back", ("quickstart, held back · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
HALF: dict[str, dict[str, Any]] = {
    "random": {"most_rows": 240},
    "semdedup": {"selectors": [{"method": "semantic_duplicates", "epsilon": 0.1}]},
}

CLAIM = Claim(
    shelf="selectors",
    method="semantic_duplicates",
    paper="arXiv:2303.09540",
    says="Without the half of the rows that mean nearly the same as others, half the training teaches about as much as all of it.",
    mark="P",
    runs={
        "all": training("quickstart", 112, **LORA),
        **{name: training("quickstart", 56, **LORA) | {"data": {"path": "quickstart", **rows}} for name, rows in HALF.items()},
    },
    asks=({"kind": "evaluate", "models": ["run:all", "run:random", "run:semdedup"]},),
    models={"half by SemDeDup": "run:semdedup", "half at random": "run:random", "all rows": "run:all"},
    expected=(Expected(LOSS, "half by SemDeDup", "all rows", -0.1), Expected(LOSS, "half by SemDeDup", "half at random")),
    seconds=90,
    differs="The paper drops half of LAION's images and of C4's texts, and trains from nothing. Here the demo model learns to answer like "
    "a storyteller in two epochs of all rows or of half of them, 240; many ask for the same fact in other words.",
)
