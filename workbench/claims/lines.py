"""LiNeS (arXiv:2410.17146): a tuned model scaled by depth, beside the tuned model itself and one whose layers are scaled alike."""

from workbench.core.claim import Claim, Expected, Measure, training

KNOWN = Measure("loss on what the base knew", ("known · loss",))
RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": "run:tuned"}]}

CLAIM = Claim(
    shelf="merges",
    method="lines",
    paper="arXiv:2410.17146",
    says="What tuning changed, scaled linearly with depth, keeps the new task and wins back what the base knew.",
    mark="P",
    runs={
        "tuned": training("skill_a", 100, adapter={"method": "lora", "rank": 16}, update={"method": "adamw", "lr": 3e-3}),
        "by-depth": {**MERGE, "merge": {"method": "lines", "alpha": 0.6, "beta": 0.4}},
        "alike": {**MERGE, "merge": {"method": "wise_ft", "alpha": 0.8}},
    },
    asks=({"kind": "evaluate", "models": ["run:tuned", "model:by-depth", "model:alike"]},),
    models={"tuned": "run:tuned", "LiNeS": "model:by-depth", "scaled alike": "model:alike"},
    expected=(
        Expected(KNOWN, "LiNeS", "tuned", 0.1),
        Expected(RIGHT, "LiNeS", "tuned", -0.1),
        Expected(KNOWN, "LiNeS", "scaled alike"),
    ),
    seconds=33,
    differs="The paper's models are far larger, and α is picked on validation data. Here the demo model has 6 blocks and α is 0.6: the "
    "first block keeps 0.6 of what it learnt, the last all of it. Beside it stands 0.8 of it in every block, as much in all: what LiNeS "
    "has over that is what depth is worth, and the paper is about depth. That comparison was expected from the first, left out for a time "
    "after it had not shown, and is asked for again: without it one seed of three holds.",
)
